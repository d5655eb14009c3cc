"""The breaker and the window behind it, on a clock that the test moves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.clock import Clock
from providers.base import Accepted, OutcomeUnknown, Rejected, Retryable
from providers.health import BreakerState, ProviderHealth, answered
from tests.providers.worlds import ManualClock

QUICK = timedelta(milliseconds=40)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def failing(clock: Clock, times: int = 5) -> ProviderHealth:
    health = ProviderHealth(clock)
    for _ in range(times):
        health.record(succeeded=False, latency=QUICK)
    return health


def state_of(health: ProviderHealth) -> BreakerState:
    return health.snapshot().state


def test_nothing_observed_is_no_complaint(clock: ManualClock) -> None:
    """A fresh process must be able to send its first item."""
    snapshot = ProviderHealth(clock).snapshot()
    assert snapshot.accepts_items
    assert (snapshot.success_percent, snapshot.latency_ms, snapshot.outcomes) == (100, None, 0)


def test_a_single_failure_opens_nothing(clock: ManualClock) -> None:
    """One lost packet is not an outage."""
    assert state_of(failing(clock, times=4)) is BreakerState.CLOSED


def test_a_failing_provider_is_left_alone_then_probed_then_trusted(clock: ManualClock) -> None:
    """Money rule 5: between open and closed lie reads, never items."""
    health = failing(clock)
    assert state_of(health) is BreakerState.OPEN
    clock.advance(2)
    assert state_of(health) is BreakerState.HALF_OPEN
    assert not health.snapshot().accepts_items
    for _ in range(3):
        health.record(succeeded=True, latency=QUICK)
    assert state_of(health) is BreakerState.CLOSED
    assert health.snapshot().success_percent == 100, "the outage's failures do not count against the new start"


def test_a_failed_probe_doubles_the_pause_up_to_a_bound(clock: ManualClock) -> None:
    """A provider that stays down costs less and less, and is never forgotten."""
    health = failing(clock)
    for pause in (2, 4, 8, 16, 32, 60, 60):
        clock.advance(pause - 0.1)
        assert state_of(health) is BreakerState.OPEN
        clock.advance(0.1)
        assert state_of(health) is BreakerState.HALF_OPEN
        health.record(succeeded=False, latency=QUICK)


def test_what_lies_before_the_window_is_forgotten(clock: ManualClock) -> None:
    """An hour-old failure says nothing about now."""
    health = failing(clock, times=4)
    clock.advance(61)
    health.record(succeeded=True, latency=QUICK)
    snapshot = health.snapshot()
    assert (snapshot.success_percent, snapshot.outcomes, snapshot.latency_ms) == (100, 1, 40)


def test_an_answer_of_no_is_an_answer() -> None:
    """Health is about the provider, not about whether we liked what it said."""
    assert answered(Accepted("0x1"))
    assert answered(Rejected("forbidden", permanent=True))
    assert not answered(Retryable("busy"))
    assert not answered(OutcomeUnknown("timeout"))
