"""The worlds the provider tests run in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox import tempo_tokens
from sandbox.component import free_port
from sandbox.tempo_node import TempoNode
from tests.providers.worlds import SimulatedWorld, TempoChain, TempoWorld, World, blacklist_on_usdb

OPERATOR_KEY = bytes.fromhex("a1" * 32)
FEE_PAYER_KEY = bytes.fromhex("a2" * 32)


@pytest.fixture(scope="session")
def quick_node(sandbox_folder: Path) -> Iterator[TempoNode]:
    """A chain of these tests alone, with a block every fifth of a second: most of their time is waiting for one."""
    node = TempoNode(sandbox_folder / "providers-tempo", port=free_port(), block_seconds=0.2, state_seconds=None)
    node.start()
    try:
        node.wait_ready()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def tempo_chain(quick_node: TempoNode) -> TempoChain:
    seeded = asyncio.run(tempo_tokens.seed(quick_node.url, operator_key=OPERATOR_KEY, fee_payer_key=FEE_PAYER_KEY))
    policy = asyncio.run(blacklist_on_usdb(quick_node.url, seeded, OPERATOR_KEY))
    return TempoChain(quick_node.url, seeded, OPERATOR_KEY, FEE_PAYER_KEY, policy)


@pytest.fixture
async def tempo(tempo_chain: TempoChain) -> AsyncIterator[TempoWorld]:
    world = TempoWorld(tempo_chain)
    yield world
    await world.rail.close()


@pytest.fixture
def simulated() -> SimulatedWorld:
    return SimulatedWorld()


@pytest.fixture(params=["simulated", "tempo"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.getfixturevalue(request.param)
    return chosen
