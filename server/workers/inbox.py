"""The inbox worker: each event that a provider sent leads to one look at the resource it names.

A look reads the resource anew from the provider and moves what we keep about it forward, never back; so it does not
matter in which order events come, how often, or whether at all. A look that recognises nothing may be ahead of our own
commit: the event stays and is looked into again, at growing intervals, before somebody is told that it never fitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from itertools import groupby

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from domain.clock import Clock
from providers.base import ProviderUnavailable
from storage import inbox
from storage.database import Engine
from storage.inbox import InboxEvent

log = structlog.get_logger()

Look = Callable[[str], Awaitable[bool]]
"""Read the resource with this reference and move what we keep of it forward. False: nobody here knows it, yet."""

EVENTS_AT_ONCE = 50
LEASE = timedelta(minutes=2)
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=14)
# Longer than any event is delivered again, or found again by the sweep.
KEPT_FINISHED = timedelta(days=30)
IDLE_SECONDS = 0.2
TIDY_SECONDS = 3_600.0


class InboxWorker:
    """Looks into events. Any number may run."""

    def __init__(
        self, *, engine: Engine, looks: Mapping[str, Look], clock: Clock, registry: CollectorRegistry | None = None
    ) -> None:
        """`looks` by the subject of events."""
        self._engine = engine
        self._looks = looks
        self._clock = clock
        self._results = Counter(
            "inbox_events_total", "Looks into events, by what they led to.", ("subject", "result"), registry=registry
        )
        self._open = Gauge("inbox_open_events", "Events that wait for a look.", ("state",), registry=registry)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set."""
        tidy_at = self._clock.monotonic()
        while not stop.is_set():
            if not await self.step():
                await self._clock.sleep(IDLE_SECONDS)
            if self._clock.monotonic() >= tidy_at:
                await self._tidy()
                tidy_at = self._clock.monotonic() + TIDY_SECONDS

    async def step(self) -> int:
        """Look into what is due; how many events that were."""
        async with self._engine.begin() as tx:
            due = await inbox.take_due(tx, now=self._clock.now(), lease=LEASE, limit=EVENTS_AT_ONCE)
        if due:
            for _, about_one in groupby(sorted(due, key=_resource), key=_resource):
                await self._look_into(list(about_one))
            await self._count_open()
        return len(due)

    async def _look_into(self, events: Sequence[InboxEvent]) -> None:
        """Events about one resource need one look, which sees it as it is now."""
        subject, reference = _resource(events[0])
        if not subject:
            await self._finish(events, inbox.IGNORED)
            return
        look = self._looks.get(subject)
        try:
            known = look is not None and await look(reference)
        except ProviderUnavailable as fault:
            await self._postpone(events, inbox.WAITING, str(fault)[:200])
            return
        if known:
            await self._finish(events, inbox.DONE)
        else:
            await self._postpone(events, inbox.UNMATCHED, "nobody here knows it")

    async def _finish(self, events: Sequence[InboxEvent], state: str, reason: str = "") -> None:
        async with self._engine.begin() as tx:
            for event in events:
                await inbox.finish(tx, event.id, state=state, reason=reason, now=self._clock.now())
        self._results.labels(events[0].subject, state.lower()).inc(len(events))

    async def _postpone(self, events: Sequence[InboxEvent], state: str, reason: str) -> None:
        now = self._clock.now()
        hopeless = [event for event in events if now - event.received_at > GIVE_UP_AFTER]
        if hopeless:
            log.error("inbox.given_up", subject=events[0].subject, reference=events[0].reference, reason=reason)
            await self._finish(hopeless, inbox.GIVEN_UP, reason)
        async with self._engine.begin() as tx:
            for event in events:
                if event not in hopeless:
                    await inbox.postpone(tx, event.id, state=state, due_at=now + _pause(event), reason=reason)
        self._results.labels(events[0].subject, state.lower()).inc(len(events) - len(hopeless))

    async def _count_open(self) -> None:
        async with self._engine.connect() as tx:
            counts = await inbox.counts(tx)
        for state in (inbox.WAITING, inbox.UNMATCHED):
            self._open.labels(state.lower()).set(counts.get(state, 0))

    async def _tidy(self) -> None:
        async with self._engine.begin() as tx:
            await inbox.forget(tx, finished_before=self._clock.now() - KEPT_FINISHED)
        await self._count_open()


def _resource(event: InboxEvent) -> tuple[str, str]:
    return event.subject, event.reference


def _pause(event: InboxEvent) -> timedelta:
    pause: timedelta = FIRST_PAUSE * 2 ** min(event.tries, 16)
    return min(pause, LONGEST_PAUSE)
