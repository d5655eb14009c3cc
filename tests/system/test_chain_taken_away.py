"""The chain taken away at each step of a settlement, in each way in which chains go: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from domain.settlement import ItemState
from sandbox.component import free_port
from sandbox.tempo_node import TempoNode
from sandbox.tempo_tokens import open_endpoint
from tests.providers.stand_in import stand_in
from tests.simulation.process import AtPoint, Process
from tests.system.proxy import Proxy, proxy_to
from tests.system.tempo import Chain, Rail, System, rail_of, system_on
from tests.workers.house import UNIT, running, until

STEPS = ("prepare", "prepare done", "submit", "submit done", "blocks", "blocks done")
AWAY_SECONDS = 3.0
# Left in the background on purpose; referred to, so that they are not collected.
_returns: set[asyncio.Task[None]] = set()

Absence = Callable[[TempoNode, Proxy], Awaitable[None]]


async def suspended(node: TempoNode, proxy: Proxy) -> None:
    """Neither answers nor errors: requests hang until their timeout."""
    assert node.process is not None
    pid = node.process.pid
    os.kill(pid, signal.SIGSTOP)
    _later(lambda: asyncio.to_thread(os.kill, pid, signal.SIGCONT))


async def cut_off(node: TempoNode, proxy: Proxy) -> None:
    """Connections end in the middle of whatever they carried, and new ones are refused."""
    await proxy.cut()
    _later(proxy.mend)


async def restarted(node: TempoNode, proxy: Proxy) -> None:
    """Ended in order and started again with all its blocks, and without its mempool."""
    await asyncio.to_thread(node.stop)
    _later(lambda: asyncio.to_thread(_start, node))


def _start(node: TempoNode) -> None:
    node.start()
    node.wait_ready()


def _later(happens: Callable[[], Awaitable[None]]) -> None:
    async def after_a_while() -> None:
        await asyncio.sleep(AWAY_SECONDS)
        await happens()

    _returns.add(asyncio.create_task(after_a_while()))


@pytest.fixture
def mortal_node(sandbox_folder: Path) -> Iterator[TempoNode]:
    """A node that nobody else needs. It writes its state only when it is ended in order."""
    node = TempoNode(sandbox_folder / f"tempo-{free_port()}", port=free_port(), state_seconds=3600)
    node.start()
    try:
        node.wait_ready()
        yield node
    finally:
        node.stop()


@pytest.fixture
async def system(mortal_node: TempoNode, database: str) -> AsyncIterator[System]:
    async with system_on(await Chain.of(mortal_node), database) as system:
        yield system


async def _quietly(point: str, others_may_act: bool) -> bool:
    return False


@asynccontextmanager
async def working(system: System, rail: Rail, at_point: AtPoint = _quietly) -> AsyncIterator[None]:
    """Settlement and the watcher in this process, over that rail."""
    outside = Process("worker", system.house.engine, system.house.writer, rail, at_point)
    async with running(system.house.new_settlement_worker(outside), system.house.new_watcher(outside)):
        yield


@pytest.mark.system
@pytest.mark.timeout(240)
@pytest.mark.parametrize("absence", [suspended, cut_off, restarted])
@pytest.mark.parametrize("step", STEPS)
async def test_a_chain_that_goes_away_at_any_step_loses_and_doubles_nothing(
    system: System, step: str, absence: Absence
) -> None:
    """A timeout, a reset, a null receipt: none of them is an answer, so all of them are waited out."""
    consumers = await system.consumers(3)
    node = system.chain.node
    async with proxy_to(node.url) as proxy, rail_of(system.chain, proxy.url) as rail:
        async with working(system, rail):
            await system.credited(consumers)
            items = [await system.house.pay(consumers[0], consumers[1], UNIT)]
            await system.settled()
        gone = False

        async def goes_away(point: str, others_may_act: bool) -> bool:
            nonlocal gone
            if point == f"worker:{step}" and not gone:
                gone = True
                await absence(node, proxy)
            return False

        async with working(system, rail, goes_away):
            for payer, payee in ((0, 1), (0, 2), (1, 2), (2, 0)):
                items.append(await system.house.pay(consumers[payer], consumers[payee], 2 * UNIT))
            await system.settled()
        assert gone
    await system.require_each_once(items)


@pytest.mark.timeout(240)
async def test_rule_14_a_chain_that_forgot_final_blocks_stops_settlement_and_pays_nobody_twice(system: System) -> None:
    """kill -9 of a dev chain, which Tempo never does: noticed as another chain, a break, and not one more payment."""
    ann, bob = await system.consumers(2)
    node = system.chain.node
    async with rail_of(system.chain) as rail:
        async with working(system, rail):
            await system.credited([ann, bob])
        await asyncio.to_thread(node.stop)
        await asyncio.to_thread(_start, node)
        async with working(system, rail):
            settled = await system.house.pay(ann, bob, UNIT)
            await system.settled()
        assert (await system.chain.memos())[settled] == 1
        lost = await system.house.pay(ann, bob, UNIT)
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(_start, node)
        async with working(system, rail):

            async def noticed() -> bool:
                return await system.house.breaks() == ["chain_changed"]

            await until(noticed)
            await asyncio.sleep(3)
    assert (await system.house.item(settled)).state == ItemState.CONFIRMED
    assert (await system.house.item(lost)).state in (ItemState.PENDING, ItemState.CLAIMED)
    memos = await system.chain.memos()
    assert memos[settled] <= 1
    assert memos[lost] == 0
    assert not (await system.house.prove()).clean


@pytest.mark.system
@pytest.mark.timeout(240)
async def test_rule_03_a_lagging_endpoint_is_passed_over_and_proves_nothing(system: System) -> None:
    """It answers null for everything it has not heard of, and it is the first in the list."""
    ann, bob = await system.consumers(2)
    items = []
    async with (
        stand_in(system.chain.node.url) as lagging,
        rail_of(system.chain, lagging.url, system.chain.node.url) as rail,
    ):
        async with working(system, rail):
            await system.credited([ann, bob])
            items.append(await system.house.pay(ann, bob, UNIT))
            await system.settled()
            head = await rail.reader.finalized()
            lagging.freeze_head(await _header(system, head.number))
            for _ in range(4):
                items.append(await system.house.pay(ann, bob, UNIT))
                await asyncio.sleep(1)
            await system.settled()
        await system.require_each_once(items)


@pytest.mark.system
@pytest.mark.timeout(240)
async def test_rule_05_with_nothing_but_a_lagging_endpoint_nothing_is_signed(system: System) -> None:
    """Better late than on a head that is not the chain's."""
    ann, bob = await system.consumers(2)
    async with (
        stand_in(system.chain.node.url) as lagging,
        rail_of(system.chain, lagging.url) as rail,
        working(system, rail),
    ):
        await system.credited([ann, bob])
        items = [await system.house.pay(ann, bob, UNIT)]
        await system.settled()
        lagging.freeze_head(await _header(system, (await rail.reader.finalized()).number))
        await asyncio.sleep(4)
        items.append(await system.house.pay(ann, bob, UNIT))
        await asyncio.sleep(2)
        assert (await system.house.item(items[1])).attempt_id is None
        lagging.spoil = lambda _, answer: answer
        await system.settled()
    await system.require_each_once(items)


async def _header(system: System, number: int) -> dict[str, object]:
    async with open_endpoint(system.chain.node.url) as endpoint:
        header: dict[str, object] = await endpoint.call("eth_getBlockByNumber", [hex(number), False])
        return header
