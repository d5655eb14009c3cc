"""Failover on a real chain and the Circle simulator, under faults drawn from a seed: the invariants of the simulation.

The node is suspended in the middle of payments, Circle loses answers after it has done what was asked, repeats and
reorders its webhooks (nobody listens here) and ends transfers without effect. In the end each item has settled once, on
one rail, and the books are exact on both.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from domain.clock import SystemClock, SystemEntropy
from domain.identity import OPERATOR
from domain.money import Asset
from domain.pricing import FeeSchedule
from domain.routing import RoutingPolicy, known_routes
from domain.settlement import Rail
from providers.circle import CircleConfig, CircleRail, EventRules, Rates, connect, known_tokens
from providers.custodian import OrderState
from providers.health import ProviderHealth
from sandbox.component import free_port
from sandbox.tempo_node import TempoNode
from server.workers.circle_wallets import CircleWalletPool
from server.workers.custodian_float import CustodianFloat
from server.workers.failover import Failover, FailoverPace
from server.workers.orders import Orders
from server.workers.provider_probe import ProviderProbe, chain_look
from server.workers.repatriation import Repatriation, RepatriationPace
from storage import custody
from tests.circle import API_KEY, ENTITY_ID, ENTITY_SECRET, CircleSandbox
from tests.system.tempo import Chain, System, system_on
from tests.workers.house import UNIT, running, until

TRANSFER = "/v1/w3s/developer/transactions/transfer"
PATIENCE_SECONDS = 150.0


@pytest.fixture
def mortal_node(sandbox_folder: Path) -> Iterator[TempoNode]:
    """A node that nobody else needs."""
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


@pytest.fixture
async def custodian(circle: CircleSandbox) -> AsyncIterator[CircleRail]:
    config = CircleConfig(
        wallets_url=circle.url,
        mint_url=circle.url,
        api_key=API_KEY,
        entity_secret=bytes.fromhex(ENTITY_SECRET),
        wallet_set=circle.wallet_set_id,
        chain="ARC-TESTNET",
        tokens=known_tokens("ARC-TESTNET"),
        rates=Rates(reads=20, writes=5),
        request_timeout=timedelta(seconds=3),
        events=EventRules(entity_id=ENTITY_ID, topics=frozenset(), certificate_hosts=frozenset()),
    )
    rail = connect(config, clock=SystemClock())
    yield rail
    await rail.close()


@asynccontextmanager
async def working(system: System, custodian: CircleRail) -> AsyncIterator[None]:
    """Everything of a worker process that settles, watches, probes and fails over."""
    house, wallets = system.house, custodian.wallets
    clock, entropy = SystemClock(), SystemEntropy(SystemClock())
    pool = CircleWalletPool(engine=house.engine, rail=wallets, clock=clock, entropy=entropy, target=8)
    while await pool.step():
        pass
    float_books = CustodianFloat(engine=house.engine, writer=house.writer, rail=wallets, clock=clock, entropy=entropy)
    assert await float_books.open()
    look = chain_look(system.house.rail.provider)
    workers = (
        house.new_settlement_worker(),
        house.new_watcher(),
        ProviderProbe(engine=house.engine, name="tempo", look=look, health=ProviderHealth(clock), clock=clock),
        ProviderProbe(
            engine=house.engine, name="circle", look=wallets.check, health=ProviderHealth(clock), clock=clock
        ),
        Orders(engine=house.engine, writer=house.writer, rail=wallets, clock=clock, entropy=entropy),
        Failover(
            engine=house.engine,
            rail=wallets,
            routes=known_routes(FeeSchedule()),
            policy=RoutingPolicy(),
            clock=clock,
            entropy=entropy,
            pace=FailoverPace(patience=timedelta(seconds=2)),
        ),
        Repatriation(
            engine=house.engine,
            rail=wallets,
            clock=clock,
            entropy=entropy,
            pace=RepatriationPace(steady_after=timedelta(seconds=3)),
        ),
    )
    async with running(*workers):
        yield


def _break_something(circle: CircleSandbox, chance: random.Random) -> None:
    """One fault of Circle's, for the next order."""
    kind = chance.choice(["silence", "error", "reset", "rate_limit", "fails"])
    if kind == "fails":
        circle.set_outcome("transaction", "FAILED", error="FAILED_ON_CHAIN")
    elif kind == "silence":
        circle.set_fault("silence", when="after", method="POST", path=TRANSFER)
    else:
        circle.set_fault(kind, when=chance.choice(["before", "after"]), method="POST", path=TRANSFER)


@pytest.mark.system
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_chain_that_is_away_and_a_circle_that_loses_answers_double_nothing(
    system: System, circle: CircleSandbox, custodian: CircleRail, seed: int
) -> None:
    """Whatever was lost: each payment settles once, on one rail, and everybody's money comes home."""
    chance = random.Random(seed)
    consumers = await system.consumers(4)
    node = system.chain.node.process
    assert node is not None
    paid: list[UUID] = []

    async def pay(count: int) -> None:
        for _ in range(count):
            payer, payee = chance.sample(consumers, 2)
            paid.append(await system.house.pay(payer, payee, chance.randint(1, 3) * UNIT // 4))
            await asyncio.sleep(0.05)

    async with working(system, custodian):
        await system.credited(consumers)
        await pay(4)
        os.kill(node.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                _break_something(circle, chance)
                await pay(2)
            await until(lambda: _went_abroad(system, 3), seconds=PATIENCE_SECONDS)
        finally:
            os.kill(node.pid, signal.SIGCONT)
        circle.clear_faults()
        await pay(2)
        await until(lambda: _all_home(system), seconds=PATIENCE_SECONDS)
    rows = {row.id: row for row in await system.house.items()}
    assert {rows[item].state for item in paid} == {"CONFIRMED"}
    settled = await system.chain.memos() + await _complete_at_circle(custodian)
    assert {settled[item] for item in paid} == {1}
    assert max(settled.values()) == 1
    await system.house.prove_clean()
    await _require_books_of_circle(system, custodian)


async def _went_abroad(system: System, count: int) -> bool:
    rows = await system.house.execute(
        "SELECT 1 FROM settlement_items WHERE rail = 'circle' AND purpose = 'payment' AND state = 'CONFIRMED'"
    )
    return len(rows) >= count


async def _all_home(system: System) -> bool:
    """Nothing is on its way, and nothing but the float stands abroad."""
    away = await system.house.execute(
        "SELECT 1 FROM settlement_items WHERE state NOT IN ('CONFIRMED', 'FAILED') UNION ALL "
        "SELECT 1 FROM custody_positions WHERE rail = 'circle' AND micros > 0 AND holder_id <> :operator",
        operator=OPERATOR,
    )
    return not away


async def _complete_at_circle(custodian: CircleRail) -> Counter[UUID]:
    """How often each item was paid there, asked of Circle and of nothing of ours."""
    now = SystemClock().now()
    found = await custodian.wallets.transfers(since=now - timedelta(hours=1), until=now + timedelta(hours=1))
    done = (one for one in found if one.state is OrderState.COMPLETE and not one.incoming)
    return Counter(one.item_id for one in done if one.item_id is not None)


async def _require_books_of_circle(system: System, custodian: CircleRail) -> None:
    wallet = await custodian.wallets.labelled(OPERATOR)
    assert wallet is not None
    stands = await custodian.wallets.positions(wallet)
    async with system.house.engine.connect() as tx:
        books = await custody.positions(tx, Rail.CIRCLE, [(OPERATOR, asset) for asset in (Asset.EURC, Asset.USDC)])
    assert {key[1]: position.micros for key, position in books.items()} == dict(stands)
