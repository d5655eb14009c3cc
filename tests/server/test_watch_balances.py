"""WatchBalances: a snapshot, then only newer versions, whatever becomes of the cache, the client or the server."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import event

from domain.identity import ConsumerId
from domain.money import Asset
from monay.wallet.v1.money_pb2 import WatchBalancesRequest
from sandbox.component import free_port
from sandbox.postgres import Postgres
from sandbox.valkey import Valkey
from server.balance_feed import BalanceFeed
from server.balance_reader import BalanceReader
from storage.cache import Cache
from storage.database import create_engine
from storage.hints import BalanceHints
from tests.books import CLOCK, DOLLAR, ENTROPY, FEE, Books, books_of, deposit, payment

from .conftest import Metadata, Wallet, consumer, service, serving, unpacked, wallet_settings
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    async with new_town(postgres, migrated_template, folder, redis_url=valkey.url) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob")


class Listener:
    """A client that watches, one message at a time."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.versions: list[int] = []

    async def next(self) -> Any:
        message = await asyncio.wait_for(self.call.read(), SOON)
        if message.WhichOneof("event") == "update":
            self.versions.append(message.update.version)
        return message

    async def until(self, micros: int, asset: str = "USDC") -> Any:
        """The first update of the asset with that much available."""
        while True:
            message = await self.next()
            if message.update.asset == asset and message.update.available_micros == micros:
                return message.update

    async def refusal(self) -> Any:
        """What the stream ends with."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                continue
        except grpc.aio.AioRpcError as error:
            return unpacked(error)
        raise AssertionError("the stream ended without a word")


@asynccontextmanager
async def watching(wallet: Wallet, token: Metadata, **fields: Any) -> AsyncIterator[Listener]:
    call = wallet.consumers.WatchBalances(WatchBalancesRequest(**fields), metadata=token)
    try:
        yield Listener(call)
    finally:
        call.cancel()


async def test_the_first_message_is_a_snapshot_of_all_assets(town: Town, ann: Person) -> None:
    """A client that connects knows everything at once, and asks for nothing besides."""
    async with watching(town.wallet, ann.token) as listener:
        snapshot = (await listener.next()).snapshot
    assert [one.asset for one in snapshot.balances] == ["USDC", "USDT", "PYUSD", "EURC", "USDB"]
    assert (snapshot.balances[0].available_micros, snapshot.balances[0].version) == (100 * DOLLAR, 1)


async def test_both_sides_hear_of_a_transfer_at_once(town: Town, ann: Person, bob: Person) -> None:
    """The commit itself wakes the streams of its own process: nobody waits for a poll."""
    async with watching(town.wallet, ann.token) as ours, watching(town.wallet, bob.token) as theirs:
        await ours.next()
        await theirs.next()
        started = time.monotonic()
        await town.pay(ann, bob, 10 * DOLLAR)
        paid, got = (await ours.next()).update, (await theirs.next()).update
        assert time.monotonic() - started < 2
    assert (paid.available_micros, paid.version) == (90 * DOLLAR - FEE, 2)
    assert (got.available_micros, got.settling_micros, got.version) == (10 * DOLLAR, 10 * DOLLAR, 1)


async def test_commits_of_other_processes_arrive_through_the_cache(town: Town, valkey: Valkey) -> None:
    """A deposit is credited by the workers' process, and the phone that waits for it hangs on another one."""
    watcher = await town.settle_in("watcher")
    engine = create_engine(town.books.url)
    cache = Cache(valkey.url)
    reader = BalanceReader(database_url=town.books.url)
    feed = BalanceFeed(
        engine=engine,
        reader=reader,
        hints=BalanceHints(cache, entropy=ENTROPY),
        clock=CLOCK,
        reread_seconds=3_600,
    )
    stop = asyncio.Event()
    running = asyncio.gather(reader.run(stop), feed.run(stop))
    try:
        async with watching(town.wallet, watcher.token) as listener:
            await listener.next()
            outcomes = await town.books.apply(deposit(watcher.id, DOLLAR))
            feed.on_commit([(watcher.id, Asset.USDC)])
            started = time.monotonic()
            update = await listener.until(DOLLAR)
            assert time.monotonic() - started < 2
            assert update.version == outcomes[0].version_after
    finally:
        stop.set()
        await running
        await cache.close()
        await engine.dispose()


async def test_a_lost_hint_costs_seconds_and_nothing_else(town: Town, ann: Person) -> None:
    """Publish and subscribe loses messages; here the hint is never even sent."""
    async with watching(town.wallet, ann.token) as listener:
        await listener.next()
        await town.books.apply(deposit(ann.id, DOLLAR))
        assert (await listener.until(101 * DOLLAR)).version == 2


async def test_versions_only_rise_and_a_slow_client_gets_the_latest(town: Town, ann: Person, bob: Person) -> None:
    """Balances are state: what nobody read in time is not worth sending, and order is never turned round."""
    async with watching(town.wallet, ann.token) as listener:
        await listener.next()
        for _ in range(60):
            await town.pay(ann, bob, 1_000)
        await listener.until(100 * DOLLAR - 60 * (1_000 + FEE))
        assert listener.versions == sorted(set(listener.versions))
        assert listener.versions[-1] == 61


async def test_a_second_stream_of_the_same_wallet_begins_with_a_snapshot_of_its_own(
    town: Town, ann: Person, bob: Person
) -> None:
    """Two devices of one person: neither misses what the other was told."""
    async with watching(town.wallet, ann.token) as first:
        await first.next()
        await town.pay(ann, bob, DOLLAR)
        await first.next()
        async with watching(town.wallet, ann.token) as second:
            assert (await second.next()).snapshot.balances[0].version == 2
            await town.pay(ann, bob, DOLLAR)
            assert (await first.next()).update.version == (await second.next()).update.version == 3


async def test_a_watch_for_nobody_ends_with_the_reason(town: Town) -> None:
    """A backend with a wrong id must not wait for ever for a first message."""
    async with watching(town.wallet, service(), consumer_id=str(uuid.uuid4())) as listener:
        assert (await listener.refusal()).reason == "CONSUMER_NOT_FOUND"


async def test_a_stream_ends_when_its_token_does(town: Town, ann: Person) -> None:
    """Whoever holds an open stream would otherwise read a wallet for ever on a token of ten minutes."""
    token = consumer(ann.id, exp=int(time.time()) + 2)
    async with watching(town.wallet, token) as listener:
        await listener.next()
        refusal = await asyncio.wait_for(listener.refusal(), 10)
    assert (refusal.reason, refusal.code) == ("TOKEN_EXPIRED", grpc.StatusCode.UNAUTHENTICATED)


async def test_a_stream_that_has_nothing_to_say_says_that_it_lives(
    town: Town, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load balancers cut what is silent for a minute, and a client cannot tell silence from a dead server."""
    settings = wallet_settings(town.books.url, Path(town.wallet.settings.sealing_keys_file or "").parent)
    monkeypatch.setattr("server.api.balances.HEARTBEAT_SECONDS", 0.2)
    async with serving(settings) as wallet, watching(wallet, ann.token) as listener:
        await listener.next()
        for _ in range(3):
            assert (await listener.next()).WhichOneof("event") == "heartbeat"


async def test_streams_end_cleanly_when_the_server_is_replaced(town: Town, ann: Person) -> None:
    """UNAVAILABLE tells the client to connect again, to another one; and the server does not wait for it to leave."""
    settings = wallet_settings(town.books.url, Path(town.wallet.settings.sealing_keys_file or "").parent)
    async with serving(settings) as wallet, watching(wallet, ann.token) as listener:
        await listener.next()
        started = time.monotonic()
        wallet.stop.set()
        refusal = await asyncio.wait_for(listener.refusal(), 10)
    assert (refusal.reason, refusal.code) == ("SHUTTING_DOWN", grpc.StatusCode.UNAVAILABLE)
    assert time.monotonic() - started < 5


# --- the feed itself --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def feed_of(books: Books, redis_url: str | None = None, **options: Any) -> AsyncIterator[BalanceFeed]:
    cache = Cache(redis_url)
    reader = BalanceReader(database_url=books.url)
    hints = BalanceHints(cache, entropy=ENTROPY)
    feed = BalanceFeed(engine=books.engine, reader=reader, hints=hints, clock=CLOCK, **options)
    stop = asyncio.Event()
    running = asyncio.gather(reader.run(stop), feed.run(stop))
    try:
        yield feed
    finally:
        stop.set()
        await running
        await cache.close()


async def test_what_waits_for_a_slow_watcher_is_the_newest_reading_of_each_asset(town: Town) -> None:
    """Memory is bounded by the number of assets and not by how long a client sleeps."""
    (watched,) = await town.books.open(1)
    async with feed_of(town.books, reread_seconds=0.05) as feed, feed.watch(ConsumerId(watched)) as watch:
        assert len(await asyncio.wait_for(watch.next(), SOON)) == len(Asset)
        for asset in [Asset.USDC, Asset.EURC] * 5:
            await town.books.apply(deposit(watched, DOLLAR, asset=asset))
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        news = await asyncio.wait_for(watch.next(), SOON)
        assert [(reading.asset, reading.version) for reading in news] == [(Asset.USDC, 5), (Asset.EURC, 5)]


async def test_a_dead_cache_costs_seconds_and_no_commit(town: Town) -> None:
    """Balances, transfers and streams go on without it: publishing never stands in the way of a commit."""
    (watched,) = await town.books.open(1)
    feeding = feed_of(town.books, "redis://127.0.0.1:1", reread_seconds=0.2)
    async with feeding as feed, feed.watch(ConsumerId(watched)) as watch:
        await asyncio.wait_for(watch.next(), SOON)
        started = time.monotonic()
        for _ in range(1_000):
            feed.on_commit([(uuid.uuid4(), Asset.USDC)])
        assert time.monotonic() - started < 0.5
        await town.books.apply(deposit(watched, DOLLAR))
        (news,) = await asyncio.wait_for(watch.next(), SOON)
        assert news.available_micros == DOLLAR


async def test_a_cache_that_was_away_is_used_again(town: Town, tmp_path: Path) -> None:
    """Stopped and started anew, it carries hints again, and nobody had to restart a server for it."""
    cache = Valkey(tmp_path / "valkey", port=free_port())
    cache.start()
    cache.wait_ready()
    (watched,) = await town.books.open(1)
    here, there = (feed_of(town.books, cache.url, reread_seconds=3_600) for _ in range(2))
    try:
        async with here as ours, there as theirs, ours.watch(ConsumerId(watched)) as watch:
            await asyncio.wait_for(watch.next(), SOON)
            cache.stop()
            await asyncio.sleep(0.5)
            cache.start()
            cache.wait_ready()
            await town.books.apply(deposit(watched, DOLLAR))
            news = asyncio.create_task(watch.next())
            for _ in range(40):
                theirs.on_commit([(watched, Asset.USDC)])
                await asyncio.wait([news], timeout=0.5)
                if news.done():
                    break
            assert news.result()[0].available_micros == DOLLAR
    finally:
        cache.stop()


async def test_a_database_that_was_away_is_read_again(town: Town) -> None:
    """Streams outlive it: they fall silent but for heartbeats, and go on with the newest state."""
    (watched,) = await town.books.open(1)
    async with feed_of(town.books, reread_seconds=0.2) as feed, feed.watch(ConsumerId(watched)) as watch:
        await asyncio.wait_for(watch.next(), SOON)
        with psycopg.connect(town.books.url, autocommit=True) as admin:
            for _ in range(5):
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'monay%'"
                    " AND datname = current_database()"
                )
                await asyncio.sleep(0.1)
        await town.books.apply(deposit(watched, DOLLAR))
        (news,) = await asyncio.wait_for(watch.next(), 2 * SOON)
        assert news.available_micros == DOLLAR


async def test_watchers_of_many_wallets_are_served_by_few_statements(town: Town) -> None:
    """One statement for everybody who has news: a hundred streams must not be a hundred queries for each commit."""
    opened = await town.books.open(100, usdc=DOLLAR)
    statements = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1

    async with books_of(town.books.url) as books:
        event.listen(books.engine.sync_engine, "before_cursor_execute", count)
        async with feed_of(books, reread_seconds=3_600) as feed, AsyncExitStack() as open_streams:
            watches = [await open_streams.enter_async_context(feed.watch(consumer)) for consumer in opened]
            await asyncio.gather(*(watch.next() for watch in watches))
            await books.apply(*(payment(a, b, 1_000) for a, b in pairwise(opened)))
            feed.on_commit(books.announced)
            await asyncio.gather(*(watch.next() for watch in watches))
        assert statements < 20
