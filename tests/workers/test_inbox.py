"""The inbox worker: one look for each resource that an event names, again and again until somebody recognises it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from providers.base import ProviderUnavailable
from server.workers.inbox import GIVE_UP_AFTER, KEPT_FINISHED, LONGEST_PAUSE, InboxWorker
from storage import inbox
from storage.database import Engine, create_engine
from storage.inbox import ReceivedEvent
from tests.providers.worlds import ManualClock


class Resources:
    """What somebody here knows, and how often it was looked at."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.looks: list[str] = []
        self.away = False

    async def look(self, reference: str) -> bool:
        self.looks.append(reference)
        if self.away:
            raise ProviderUnavailable("away")
        return reference in self.known


class Bench:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.clock = ManualClock()
        self.resources = Resources()
        self.worker = self.another_worker()

    def another_worker(self) -> InboxWorker:
        looks = {"transaction": self.resources.look}
        return InboxWorker(engine=self.engine, looks=looks, clock=self.clock, registry=CollectorRegistry())

    async def receive(self, name: str, reference: str = "r", *, subject: str = "transaction") -> bool:
        event = ReceivedEvent(
            id=name, source="test", subject=subject, reference=reference, occurred_at=self.clock.now()
        )
        async with self.engine.begin() as tx:
            return bool(await inbox.receive(tx, [event], now=self.clock.now()))

    async def open(self) -> dict[str, int]:
        async with self.engine.connect() as tx:
            return await inbox.counts(tx)


@pytest.fixture
async def bench(database: str) -> AsyncIterator[Bench]:
    engine = create_engine(database)
    yield Bench(engine)
    await engine.dispose()


async def test_an_event_leads_to_one_look(bench: Bench) -> None:
    bench.resources.known.add("r")
    await bench.receive("a")
    await bench.worker.step()
    await bench.worker.step()
    assert bench.resources.looks == ["r"]
    assert await bench.open() == {}


async def test_many_events_about_one_resource_need_one_look(bench: Bench) -> None:
    """In whatever order they came: the look sees the resource as it is now."""
    bench.resources.known |= {"r", "s"}
    for name, reference in (("a", "r"), ("b", "s"), ("c", "r"), ("d", "r")):
        await bench.receive(name, reference)
    await bench.worker.step()
    assert sorted(bench.resources.looks) == ["r", "s"]
    assert await bench.open() == {}


async def test_an_event_that_is_ahead_of_our_own_commit_is_kept_until_it_is_recognised(bench: Bench) -> None:
    await bench.receive("a")
    await bench.worker.step()
    assert await bench.open() == {inbox.UNMATCHED: 1}
    bench.resources.known.add("r")
    bench.clock.advance(2)
    await bench.worker.step()
    assert await bench.open() == {}


async def test_the_pauses_grow_to_an_hour_and_nothing_is_given_up_for_two_weeks(bench: Bench) -> None:
    await bench.receive("a")
    until = bench.clock.now() + GIVE_UP_AFTER
    while bench.clock.now() < until:
        await bench.worker.step()
        bench.clock.advance(LONGEST_PAUSE.total_seconds() / 2)
    assert await bench.open() == {inbox.UNMATCHED: 1}
    assert len(bench.resources.looks) < 2 * GIVE_UP_AFTER / LONGEST_PAUSE
    bench.clock.advance(2 * LONGEST_PAUSE.total_seconds())
    await bench.worker.step()
    assert await bench.open() == {}, "somebody was told that it never fitted anything"


async def test_while_the_provider_is_away_events_wait(bench: Bench) -> None:
    bench.resources.away = True
    await bench.receive("a")
    await bench.worker.step()
    assert await bench.open() == {inbox.WAITING: 1}
    bench.resources.away = False
    bench.resources.known.add("r")
    bench.clock.advance(LONGEST_PAUSE.total_seconds())
    await bench.worker.step()
    assert await bench.open() == {}


async def test_an_event_about_nothing_that_we_keep_is_put_aside(bench: Bench) -> None:
    await bench.receive("a", "", subject="")
    await bench.worker.step()
    assert bench.resources.looks == []
    assert await bench.open() == {}


async def test_a_subject_that_nobody_here_looks_into_waits_for_a_version_that_does(bench: Bench) -> None:
    await bench.receive("a", subject="of_the_future")
    await bench.worker.step()
    assert await bench.open() == {inbox.UNMATCHED: 1}


async def test_a_worker_that_died_over_an_event_leaves_it_to_the_next(bench: Bench) -> None:
    await bench.receive("a")
    async with bench.engine.begin() as tx:
        taken = await inbox.take_due(tx, now=bench.clock.now(), lease=timedelta(minutes=2), limit=10)
    assert [event.id for event in taken] == ["a"]
    other = bench.another_worker()
    assert await other.step() == 0, "it is leased"
    bench.resources.known.add("r")
    bench.clock.advance(121)
    assert await other.step() == 1
    assert await bench.open() == {}


async def test_an_event_is_remembered_longer_than_it_is_delivered_again(bench: Bench) -> None:
    bench.resources.known.add("r")
    await bench.receive("a")
    await bench.worker.step()
    bench.clock.advance((KEPT_FINISHED - timedelta(hours=1)).total_seconds())
    async with bench.engine.begin() as tx:
        assert await inbox.forget(tx, finished_before=bench.clock.now() - KEPT_FINISHED) == 0
    assert not await bench.receive("a")
    bench.clock.advance(2 * 3_600)
    async with bench.engine.begin() as tx:
        assert await inbox.forget(tx, finished_before=bench.clock.now() - KEPT_FINISHED) == 1
