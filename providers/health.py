"""How a provider has been doing lately, and whether it should be trusted with items now.

A rolling window of outcomes gives success rate and latency; a breaker turns them into closed, open or half-open. While
it is half-open only probes go out, and probes are reads: an item is never the thing an experiment is made with (money
rule 5).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.clock import Clock
from providers.base import Accepted, Outcome, Preparation, Probe, Rejected


class BreakerState(StrEnum):
    """Closed: items go out. Open: nothing does. Half-open: probes do."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and how it closes again."""

    window: timedelta = timedelta(seconds=60)
    fewest_outcomes: int = 5
    lowest_success_percent: int = 50
    probes_to_close: int = 3
    first_pause: timedelta = timedelta(seconds=2)
    longest_pause: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """What routing, the status rpc, the health service and the metrics all read."""

    state: BreakerState
    success_percent: int
    latency_ms: int | None
    outcomes: int
    last_success_at: datetime | None

    @property
    def accepts_items(self) -> bool:
        return self.state is BreakerState.CLOSED


@dataclass(frozen=True, slots=True)
class _Observation:
    at: float
    succeeded: bool
    latency: timedelta


def answered(outcome: Outcome | Preparation | Probe) -> bool:
    """Whether an outcome speaks for the provider. A definite refusal does: it was there and knew its mind."""
    return isinstance(outcome, Accepted | Rejected | Preparation | Probe)


class ProviderHealth:
    """The window and the breaker of one provider."""

    def __init__(self, clock: Clock, rules: BreakerRules | None = None) -> None:
        self._clock, self._rules = clock, rules or BreakerRules()
        self._window: deque[_Observation] = deque()
        self._opened_at: float | None = None
        self._openings = 0
        self._good_probes = 0
        self._last_success_at: datetime | None = None

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        waited = self._clock.monotonic() - self._opened_at
        return BreakerState.HALF_OPEN if waited >= self._pause().total_seconds() else BreakerState.OPEN

    def record(self, *, succeeded: bool, latency: timedelta) -> None:
        """Note one outcome, of an item's call or of a probe."""
        state = self.state
        self._window.append(_Observation(self._clock.monotonic(), succeeded, latency))
        if succeeded:
            self._last_success_at = self._clock.now()
        if state is BreakerState.CLOSED and self._too_many_failures():
            self._open()
        elif state is BreakerState.HALF_OPEN:
            self._judge_probe(succeeded)

    def snapshot(self) -> HealthSnapshot:
        recent = self._recent()
        latencies = sorted(o.latency for o in recent if o.succeeded)
        return HealthSnapshot(
            state=self.state,
            success_percent=_percent(recent),
            latency_ms=round(latencies[len(latencies) // 2] / timedelta(milliseconds=1)) if latencies else None,
            outcomes=len(recent),
            last_success_at=self._last_success_at,
        )

    def _judge_probe(self, succeeded: bool) -> None:
        if not succeeded:
            self._open()
            return
        self._good_probes += 1
        if self._good_probes >= self._rules.probes_to_close:
            # What happened before belongs to the outage; counting it again would open the breaker at once.
            self._window.clear()
            self._opened_at, self._openings = None, 0

    def _open(self) -> None:
        self._opened_at = self._clock.monotonic()
        self._openings += 1
        self._good_probes = 0

    def _pause(self) -> timedelta:
        doubled: timedelta = self._rules.first_pause * 2 ** min(self._openings - 1, 16)
        return min(doubled, self._rules.longest_pause)

    def _too_many_failures(self) -> bool:
        recent = self._recent()
        return len(recent) >= self._rules.fewest_outcomes and _percent(recent) < self._rules.lowest_success_percent

    def _recent(self) -> deque[_Observation]:
        oldest = self._clock.monotonic() - self._rules.window.total_seconds()
        while self._window and self._window[0].at < oldest:
            self._window.popleft()
        return self._window


def _percent(observations: deque[_Observation]) -> int:
    """The share that succeeded. Nothing observed is no complaint."""
    return 100 * sum(o.succeeded for o in observations) // len(observations) if observations else 100
