"""Heads over a WebSocket, from a real node: they come, they come again after a cut, and nothing rests on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.clock import SystemClock
from providers.tempo import TempoHeads, heads
from sandbox.component import free_port
from sandbox.tempo_node import TempoNode
from tests.system.proxy import proxy_to


@asynccontextmanager
async def listening(url: str, wake: asyncio.Event) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(TempoHeads(url, api_key=None, wake=wake, clock=SystemClock()).run(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task


async def woken(wake: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await wake.wait()
    wake.clear()


async def test_each_head_wakes_and_a_cut_connection_is_made_again(
    tempo_node: TempoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that restarts must not leave the watcher without heads for ever."""
    monkeypatch.setattr(heads, "_PAUSE_SECONDS", 0.1)
    wake = asyncio.Event()
    async with proxy_to(tempo_node.url) as proxy, listening(proxy.url.replace("http:", "ws:"), wake):
        await woken(wake)
        await woken(wake)
        await proxy.cut()
        await proxy.mend()
        wake.clear()
        await woken(wake)


async def test_where_nobody_answers_it_goes_on_trying_and_leaves_when_told() -> None:
    """An address that is wrong costs the wallet nothing but what it would have had without it."""
    wake = asyncio.Event()
    async with listening(f"ws://127.0.0.1:{free_port()}", wake):
        await asyncio.sleep(0.2)
    assert not wake.is_set()
