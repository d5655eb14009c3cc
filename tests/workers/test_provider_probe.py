"""The probe of a provider: what it writes for whoever decides, and that silence is an answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from domain.clock import SystemClock
from providers.base import Retryable
from providers.health import ProviderHealth
from server.workers.provider_probe import ProviderProbe
from storage import provider_health
from storage.database import create_engine, reading
from storage.provider_health import ProviderHealthRow


async def answers() -> timedelta:
    return timedelta(milliseconds=7)


async def refuses() -> Retryable:
    return Retryable("busy")


async def is_silent() -> timedelta:
    """As a node that is suspended: it takes the question and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    ("look", "healthy", "detail"),
    [(answers, True, ""), (refuses, False, "busy"), (is_silent, False, "no answer within 0.05 s")],
)
async def test_what_a_provider_shows_is_written_down(database: str, look: object, healthy: bool, detail: str) -> None:
    """A silent provider must not be shown as it last was: routing would go on choosing it until its row is too old."""
    engine, clock = create_engine(database), SystemClock()
    probe = ProviderProbe(
        engine=engine,
        name="tempo",
        look=look,  # type: ignore[arg-type]
        health=ProviderHealth(clock),
        clock=clock,
        patience_seconds=0.05,
    )
    await asyncio.wait_for(probe.step(), 10)
    row = await _row(engine)
    assert (row.healthy, row.detail) == (healthy, detail)
    await engine.dispose()


async def _row(engine: object) -> ProviderHealthRow:
    async with reading(engine) as tx:  # type: ignore[arg-type]
        (row,) = await provider_health.read_all(tx)
    return row
