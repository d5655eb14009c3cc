"""How many calls a caller may make: a limit a minute for each kind of caller, kept by all processes together.

The decision is made here, in memory, from two numbers: the calls of this minute and those of the last one, of which the
part counts that lies less than a minute back. So there is no moment at which a caller could make twice as many. Once a
second the process adds what it admitted to counters in the cache and learns from the answer what the other processes
admitted. Between two answers it knows only its own share, so a caller who uses n processes at once can have up to a
second's worth of calls more; with the cache away each process goes on alone, and the bound is n times the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from domain.clock import Clock
from domain.errors import RateLimited
from server.api.access import Caller, CallerKind
from storage.rate_counters import CountersUnavailable, RateCounters

log = structlog.get_logger()

WINDOW_SECONDS = 60
SHARE_SECONDS = 1.0


class RateLimits:
    """Counts calls and refuses those above the limit."""

    def __init__(self, limits: Mapping[CallerKind, int], *, counters: RateCounters, clock: Clock) -> None:
        """`limits` are calls a minute; a kind of caller without one, or with 0, has none."""
        self._limits = {kind: limit for kind, limit in limits.items() if limit > 0}
        self._counters = counters
        self._clock = clock
        self._minute = 0
        self._calls: dict[str, int] = {}
        self._calls_before: dict[str, int] = {}
        self._not_shared: dict[str, int] = {}

    def count(self, caller: Caller) -> None:
        """Count a call, or raise `RateLimited`. This is on the hot path: a few look-ups and one division."""
        limit = self._limits.get(caller.kind)
        if limit is None:
            return
        now = self._clock.now().timestamp()
        minute = int(now // WINDOW_SECONDS)
        if minute > self._minute:
            self._turn_to(minute)
        key = caller.key
        calls, before = self._calls.get(key, 0), self._calls_before.get(key, 0)
        # A clock that was put back does not make the minute young again.
        passed = max(0.0, now / WINDOW_SECONDS - self._minute)
        if calls + 1 + before * (1 - passed) > limit:
            raise _refusal(limit, calls, before, passed, now)
        self._calls[key] = calls + 1
        self._not_shared[key] = self._not_shared.get(key, 0) + 1

    async def run(self, stop: asyncio.Event) -> None:
        """Share the counts with the other processes until `stop` is set."""
        alone = False
        while not stop.is_set():
            await self._clock.sleep(SHARE_SECONDS)
            if not self._counters.enabled:
                continue
            try:
                await self.share()
            except CountersUnavailable as error:
                if not alone:
                    log.warning("rate_limits.counting_alone", error=str(error))
                alone = True
            else:
                alone = False

    async def share(self) -> None:
        """Add what was admitted since the last time, and learn what everybody has."""
        shared, self._not_shared, minute = self._not_shared, {}, self._minute
        if not shared:
            return
        totals = await self._counters.add(minute, shared)
        if minute == self._minute:
            for key, total in totals.items():
                # Some were admitted while we waited for the answer. What the cache forgot we have not.
                self._calls[key] = max(self._calls[key], total + self._not_shared.get(key, 0))
        elif minute == self._minute - 1:
            self._calls_before.update(totals)

    def _turn_to(self, minute: int) -> None:
        """A new minute. What was not shared of the last one stays our own: the next answer is about the new one."""
        self._calls_before = self._calls if minute == self._minute + 1 else {}
        self._calls, self._not_shared, self._minute = {}, {}, minute


def _refusal(limit: int, calls: int, before: int, passed: float, now: float) -> RateLimited:
    """When there is room again: later in this minute, as the last one's calls grow old, or in the next one."""
    # Both are parts of a minute from its beginning.
    later, next_minute = 1 - (limit - 1 - calls) / (before or 1), 2 - (limit - 1) / (calls or 1)
    wait = (later if calls < limit else next_minute) - passed
    used = calls + before * (1 - passed)
    return RateLimited(
        limit=limit,
        remaining=max(0, int(limit - used)),
        reset_time=datetime.fromtimestamp(now + wait * WINDOW_SECONDS, UTC),
        retry_after_ms=max(1, round(wait * WINDOW_SECONDS * 1000)),
    )
