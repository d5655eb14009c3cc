"""The balance feed: whoever watches a consumer's balances hears of each change, soon and never out of order.

Balances are state, so a watcher gets the newest version and not every one between; what waits for a slow one is at most
one reading for each asset. The truth is read from the database, always, in one statement for everybody who has news.
When to read is said by three hints, of which any may fail: this process's own commits, other processes' commits through
the cache, and a comparison of all versions every few seconds, so that a lost hint or a dead cache costs seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from uuid import UUID

import structlog

from domain.clock import Clock
from domain.commands import BalanceKey
from domain.errors import ConsumerNotFound, DatabaseUnavailable, Overloaded
from domain.identity import ConsumerId
from domain.money import Asset
from server.balance_reader import BalanceReader
from storage import balances
from storage.balances import BalanceReading
from storage.database import Engine, reading
from storage.hints import BalanceHints, HintsUnavailable

log = structlog.get_logger()

REREAD_SECONDS = 3.0
PAUSE_SECONDS = 1.0
BETWEEN_MESSAGES_SECONDS = 0.005
# Nobody watches in any process. Whoever comes first meanwhile waits so long for others' first change, and no longer.
UNHEARD_SECONDS = 0.1
READ_CHUNK = 1_000
# More changed balances than this between two messages are not told; the comparison of versions finds them.
UNPUBLISHED_LIMIT = 10_000

_ORDER = {asset: place for place, asset in enumerate(Asset)}


class Watch:
    """One stream's view of a consumer's balances."""

    __slots__ = ("_news", "_pending", "begun", "gone")

    def __init__(self) -> None:
        self._pending: dict[Asset, BalanceReading] = {}
        self._news = asyncio.Event()
        self.begun = False
        """Whether it was offered its first readings, which are all balances there are."""
        self.gone: Exception | None = None

    async def next(self) -> list[BalanceReading]:
        """The newest reading of each asset that changed since the last call; of all assets at first."""
        await self._news.wait()
        self._news.clear()
        if self.gone is not None:
            raise self.gone
        news, self._pending = self._pending, {}
        return sorted(news.values(), key=lambda reading: _ORDER[reading.asset])

    def offer(self, readings: Iterable[BalanceReading]) -> None:
        self.begun = True
        self._pending.update((reading.asset, reading) for reading in readings)
        self._news.set()

    def end(self, error: Exception) -> None:
        self.gone = error
        self._news.set()


class _Watched:
    """A consumer somebody watches: by whom, and which versions they were offered."""

    __slots__ = ("versions", "watches")

    def __init__(self) -> None:
        self.watches: set[Watch] = set()
        self.versions: dict[Asset, int] = {}

    def offer(self, readings: Sequence[BalanceReading]) -> None:
        newer = [reading for reading in readings if reading.version > self.versions.get(reading.asset, -1)]
        self.versions.update((reading.asset, reading.version) for reading in newer)
        for watch in self.watches:
            if not watch.begun:
                watch.offer(readings)
            elif newer:
                watch.offer(newer)


class BalanceFeed:
    """Tells watchers what changed. One for each process."""

    def __init__(
        self,
        *,
        engine: Engine,
        reader: BalanceReader,
        hints: BalanceHints,
        clock: Clock,
        reread_seconds: float = REREAD_SECONDS,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._hints = hints
        self._clock = clock
        self._reread_seconds = reread_seconds
        self._watched: dict[UUID, _Watched] = {}
        self._stale: set[UUID] = set()
        self._watching = asyncio.Event()
        self._wake = asyncio.Event()
        self._unpublished: set[UUID] = set()
        self._publish = asyncio.Event()
        self._compare_at = 0.0

    def on_commit(self, keys: Sequence[BalanceKey]) -> None:
        """Take note of what this process just committed. It stands on the hot path and neither waits nor fails."""
        self._mark(consumer for consumer, _ in keys)
        if self._hints.enabled and len(self._unpublished) < UNPUBLISHED_LIMIT:
            self._unpublished.update(consumer for consumer, _ in keys)
            self._publish.set()

    @asynccontextmanager
    async def watch(self, consumer: ConsumerId) -> AsyncIterator[Watch]:
        """A watch of this consumer's balances, for as long as the context is open."""
        watch = Watch()
        watched = self._watched.setdefault(consumer, _Watched())
        watched.watches.add(watch)
        self._watching.set()
        self._mark([consumer])
        try:
            yield watch
        finally:
            watched.watches.discard(watch)
            if not watched.watches:
                self._watched.pop(consumer, None)
            if not self._watched:
                self._watching.clear()

    async def run(self, stop: asyncio.Event) -> None:
        """Read, publish and listen until `stop` is set."""
        loops = [self._read_loop()]
        if self._hints.enabled:
            loops += [self._publish_loop(), self._listen_loop()]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(loop) for loop in loops]
            await stop.wait()
            for task in running:
                task.cancel()

    def _mark(self, consumers: Iterable[UUID]) -> None:
        news = [consumer for consumer in consumers if consumer in self._watched]
        if news:
            self._stale.update(news)
            self._wake.set()

    async def _read_loop(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._compare_at - self._clock.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            started = self._clock.monotonic()
            try:
                await self._read_stale()
                if started >= self._compare_at:
                    await self._compare()
                    self._compare_at = started + self._reread_seconds
            except (DatabaseUnavailable, Overloaded) as error:
                log.warning("balance_feed.database", error=str(error.__cause__ or error)[:200])
                await self._clock.sleep(PAUSE_SECONDS)
            # As long again as the reading took: however many commits there are, watchers cost half a connection.
            await self._clock.sleep(min(self._clock.monotonic() - started, PAUSE_SECONDS))

    async def _read_stale(self) -> None:
        """Read everybody who has news, and offer it to those who watch them."""
        self._wake.clear()
        while self._stale:
            chunk = list(islice(self._stale, READ_CHUNK))
            # Taken out before they are read: whoever is marked meanwhile is read once more.
            self._stale.difference_update(chunk)
            try:
                found = await self._reader.of_consumers(chunk)
            except (DatabaseUnavailable, Overloaded):
                self._stale.update(chunk)
                raise
            for consumer in chunk:
                self._offer(consumer, [found[consumer, asset] for asset in Asset if (consumer, asset) in found])

    def _offer(self, consumer: UUID, readings: Sequence[BalanceReading]) -> None:
        watched = self._watched.get(consumer)
        if watched is None:
            return
        if readings:
            watched.offer(readings)
            return
        for watch in watched.watches:
            watch.end(ConsumerNotFound(consumer))

    async def _compare(self) -> None:
        """Find whoever moved on without a hint."""
        known = {consumer: sum(watched.versions.values()) for consumer, watched in self._watched.items()}
        consumers = iter(known)
        while chunk := list(islice(consumers, READ_CHUNK)):
            async with reading(self._engine) as tx:
                self._mark(await balances.changed(tx, {consumer: known[consumer] for consumer in chunk}))

    async def _publish_loop(self) -> None:
        while True:
            await self._publish.wait()
            self._publish.clear()
            consumers, self._unpublished = self._unpublished, set()
            # The first commit is told at once; of many, several share a message, which every process has to read.
            pause = BETWEEN_MESSAGES_SECONDS
            try:
                if not await self._hints.publish(consumers):
                    pause = UNHEARD_SECONDS
            except HintsUnavailable as error:
                log.warning("balance_feed.hints_not_sent", consumers=len(consumers), error=str(error))
                pause = PAUSE_SECONDS
            await self._clock.sleep(pause)

    async def _listen_loop(self) -> None:
        while True:
            # Where nobody watches, nobody has to hear: reading the others' hints costs as much as a tenth of a process.
            await self._watching.wait()
            try:
                async with self._hints.subscribed() as messages, aclosing(messages):
                    self._compare_at = 0.0  # What was published while we were away is lost: look at once.
                    self._wake.set()
                    async for consumers in messages:
                        self._mark(consumers)
                        if not self._watched:
                            break
            except HintsUnavailable as error:
                log.warning("balance_feed.hints_not_heard", error=str(error))
                await self._clock.sleep(PAUSE_SECONDS)
