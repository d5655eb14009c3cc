"""Webhooks from the simulator, all the way: subscribed to, delivered over HTTP, kept, looked into; and lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from domain.clock import SystemClock, SystemEntropy
from domain.money import Asset, Money
from providers.base import Accepted
from providers.circle import CircleConfig, CircleRail, EventRules, Rates, connect, known_tokens
from providers.custodian import CustodyWallet, OrderState, TransferOrder, order_key
from providers.events import EventVerifier
from sandbox.component import free_port
from server.circle import MINT_PATH, WALLETS_PATH
from server.http import HttpServer
from server.webhooks import Webhooks
from server.workers import transfer_sweep
from server.workers.inbox import InboxWorker
from server.workers.transfer_sweep import TransferSweep
from storage.database import Engine, create_engine
from tests.circle import API_KEY, ENTITY_ID, ENTITY_SECRET, MINT_API_KEY, CircleSandbox

CHAIN = "ARC-TESTNET"
CLOCK = SystemClock()
ENTROPY = SystemEntropy(CLOCK)
ELSEWHERE = "0x" + "ab" * 20


class Process:
    """The part of a worker process that hears Circle."""

    def __init__(self, circle: CircleSandbox, engine: Engine, rail: CircleRail, *, port: int) -> None:
        self.circle = circle
        self.rail = rail
        self.seen: dict[str, list[OrderState]] = {}
        self.deposits: list[str] = []
        self.registry = CollectorRegistry()
        self.url = f"http://127.0.0.1:{port}"
        looks = {"transaction": self.look, "deposit": self.look_at_deposit, "subscription_confirmation": self.confirm}
        self.inbox = InboxWorker(engine=engine, looks=looks, clock=CLOCK, registry=self.registry)
        self.sweep = TransferSweep(engine=engine, rail=rail.wallets, clock=CLOCK)
        verifiers: dict[str, EventVerifier] = {WALLETS_PATH: rail.events.wallets, MINT_PATH: rail.events.mint}
        webhooks = Webhooks(engine=engine, verifiers=verifiers, clock=CLOCK, registry=self.registry)
        self.server = HttpServer(f"127.0.0.1:{port}", offset=0, registry=self.registry, routes=webhooks.routes)

    async def look(self, reference: str) -> bool:
        """What a worker that gives orders would do: read it, and believe only what was read."""
        found = await self.rail.wallets.transfer(reference)
        if found is not None:
            self.seen.setdefault(reference, []).append(found.state)
        return found is not None

    async def look_at_deposit(self, reference: str) -> bool:
        self.deposits.append(reference)
        return True

    async def confirm(self, url: str) -> bool:
        await self.rail.events.mint.confirm(url)
        return True

    async def subscribe(self) -> None:
        await self.rail.subscriptions.ensure(
            wallets_endpoint=f"{self.url}/webhooks/{WALLETS_PATH}", mint_endpoint=f"{self.url}/webhooks/{MINT_PATH}"
        )

    async def deliver(self) -> None:
        """Everything that is due arrives, while this process serves."""
        await asyncio.to_thread(self.circle.deliver_webhooks)

    async def advance(self, seconds: float) -> None:
        await asyncio.to_thread(self.circle.advance, seconds)

    def counted(self, kind: str, result: str) -> float:
        return self.registry.get_sample_value("webhook_events_total", {"kind": kind, "result": result}) or 0.0

    async def until(self, reached: Callable[[], bool]) -> None:
        for _ in range(200):
            await self.deliver()
            await self.inbox.step()
            if reached():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{[(one['type'], one['state'], one['answer']) for one in self.circle.webhooks()]}")


@pytest.fixture
async def process(circle: CircleSandbox, database: str) -> AsyncIterator[Process]:
    circle.configure(rate_limits=False)
    config = CircleConfig(
        wallets_url=circle.url,
        mint_url=circle.url,
        api_key=API_KEY,
        entity_secret=bytes.fromhex(ENTITY_SECRET),
        mint_api_key=MINT_API_KEY,
        wallet_set=circle.wallet_set_id,
        chain=CHAIN,
        tokens=known_tokens(CHAIN),
        rates=Rates(reads=1_000, writes=1_000),
        events=EventRules(entity_id=ENTITY_ID, certificate_hosts=frozenset({circle.url.removeprefix("http://")})),
    )
    engine, rail, stop = create_engine(database), connect(config, clock=CLOCK), asyncio.Event()
    process = Process(circle, engine, rail, port=free_port())
    serving = asyncio.create_task(process.server.run(stop))
    yield process
    stop.set()
    await serving
    await rail.close()
    await engine.dispose()


async def transfer(process: Process) -> str:
    """One order, carried out; Circle's name for it."""
    wallet = process.circle.operator_wallet(CHAIN)
    given = TransferOrder(
        key=order_key(ENTROPY),
        item_id=ENTROPY.uuid7(),
        amount=Money(Asset.USDC, 1_000_000),
        source=CustodyWallet(wallet["id"], wallet["address"].lower()),
        destination_address=ELSEWHERE,
        ordered_at=CLOCK.now(),
    )
    accepted = await process.rail.wallets.start(given)
    assert isinstance(accepted, Accepted), accepted
    await process.advance(60)
    return accepted.reference


async def test_webhooks_of_both_kinds_arrive_and_lead_to_looks(circle: CircleSandbox, process: Process) -> None:
    """ECDSA over HTTP, and SNS with its certificate and its question, as the simulator sends them."""
    await process.subscribe()
    await process.until(lambda: process.counted("circle/mint", "accepted") >= 1)
    await process.until(lambda: "confirmed" in str(_topics(circle)))
    reference = await transfer(process)
    await process.until(lambda: process.seen.get(reference, [OrderState.ABSENT])[-1] is OrderState.COMPLETE)
    assert process.counted("circle/wallets", "forged") == process.counted("circle/mint", "forged") == 0


def _topics(circle: CircleSandbox) -> object:
    with circle.mint() as client:
        return client.get("/v1/notifications/subscriptions").json()


async def test_subscribing_again_makes_no_second_subscription(circle: CircleSandbox, process: Process) -> None:
    """Mint allows one endpoint in production: a second process that started would take it from the first."""
    for _ in range(3):
        await process.subscribe()
    with circle.mint() as client:
        assert len(client.get("/v1/notifications/subscriptions").json()["data"]) == 1
    with circle.wallets() as client:
        assert len(client.get("/v2/notifications/subscriptions").json()["data"]) == 1


@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
async def test_copies_and_disorder_end_where_order_ends(circle: CircleSandbox, process: Process, fault: str) -> None:
    """The last look sees the resource as it is, whatever the event that led to it was about."""
    await process.subscribe()
    circle.set_webhook_fault(fault, times=4)
    reference = await transfer(process)
    await process.until(lambda: process.seen.get(reference, [OrderState.ABSENT])[-1] is OrderState.COMPLETE)
    assert process.seen[reference] == sorted(process.seen[reference], key=lambda state: state.final)
    if fault == "duplicate":
        assert process.counted("circle/wallets", "duplicate") >= 1


async def test_when_every_webhook_is_lost_the_sweep_finds_the_same(circle: CircleSandbox, process: Process) -> None:
    """Webhooks are hints. Nothing arrives here for an hour, and nothing is missed."""
    await process.subscribe()
    circle.set_webhook_fault("lose", times=None)
    references = [await transfer(process) for _ in range(3)]
    await process.deliver()
    await process.inbox.step()
    assert process.seen == {}
    assert await process.sweep.sweep(thorough=True) >= 3
    await process.inbox.step()
    assert {process.seen[reference][-1] for reference in references} == {OrderState.COMPLETE}
    assert await process.sweep.sweep(thorough=True) == 0, "the same in the same state is nothing new"


async def test_a_sweep_sees_a_state_that_it_has_not_seen(circle: CircleSandbox, process: Process) -> None:
    circle.freeze()
    wallet = circle.operator_wallet(CHAIN)
    circle.send_tokens(wallet["address"], "1", blockchain=CHAIN)
    first = await process.sweep.sweep(thorough=False)
    await process.advance(120)
    second = await process.sweep.sweep(thorough=False)
    assert first + second >= 1
    assert await process.sweep.sweep(thorough=False) == 0


def test_the_windows_of_the_sweep_overlap() -> None:
    """A sweep that fails, or a clock that is off, leaves no gap before the next."""
    assert timedelta(seconds=3 * transfer_sweep.EVERY_SECONDS) < transfer_sweep.WINDOW
    assert timedelta(seconds=3 * transfer_sweep.THOROUGH_SECONDS) < transfer_sweep.THOROUGH_WINDOW
