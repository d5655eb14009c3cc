"""kill -9 of the worker process at each step of a settlement, on a real chain: paid once, whatever it was doing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from sandbox.tempo_node import TempoNode
from tests.system.crashing_worker import STEPS
from tests.system.tempo import PATIENCE_SECONDS, Chain, System, system_on
from tests.workers.house import UNIT

# The two that most look like a loss and like a double; the others are for the long run.
SHORT = ("after_persist", "after_broadcast")


@pytest.fixture
async def system(tempo_node: TempoNode, database: str) -> AsyncIterator[System]:
    async with system_on(await Chain.of(tempo_node), database) as system:
        yield system


@pytest.mark.timeout(240)
@pytest.mark.parametrize("step", [pytest.param(s, marks=[] if s in SHORT else [pytest.mark.system]) for s in STEPS])
async def test_a_worker_killed_at_any_step_pays_everybody_once(system: System, step: str) -> None:
    """Persisted before it is sent, sent again until it lands or is proven dead: nothing lost, nothing doubled.

    The first kill may hit an activation, whose allowance then stands or is granted again.
    """
    consumers = await system.consumers(3)
    async with system.worker():
        await system.credited(consumers)
    items = []
    async with system.worker(crash_at=step) as doomed:
        for payer, payee in ((0, 1), (0, 2), (1, 2), (2, 0)):
            items.append(await system.house.pay(consumers[payer], consumers[payee], 3 * UNIT))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await doomed.wait() == -signal.SIGKILL
    async with system.worker():
        await system.settled()
    await system.require_each_once(items)


@pytest.mark.system
@pytest.mark.timeout(600)
async def test_a_worker_killed_again_and_again_pays_everybody_once(system: System) -> None:
    """At whatever moment, many times in a row, while payments go on."""
    consumers = await system.consumers(4, micros=100 * UNIT)
    async with system.worker():
        await system.credited(consumers)
    items = []
    for turn in range(8):
        async with system.worker() as doomed:
            for payer in range(4):
                items.append(await system.house.pay(consumers[payer], consumers[(payer + 1 + turn % 3) % 4], UNIT))
            # A worker needs some two seconds to start, and settles within one.
            await asyncio.sleep(2.0 + 0.17 * turn)
            doomed.kill()
            await doomed.wait()
    async with system.worker():
        await system.settled()
    await system.require_each_once(items)
