"""The probe of one provider: a read every few seconds, and what became of it, kept where requests can see it.

API processes never ask a provider themselves; routing, `GetProviderStatus`, the health service and the metrics all read
the row this worker keeps. A probe is a read: an item is never the thing an experiment is made with (money rule 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from domain.clock import Clock
from providers.base import Probe, Retryable, SettlementProvider
from providers.health import ProviderHealth
from storage import provider_health
from storage.database import Engine

log = structlog.get_logger()


Look = Callable[[], Awaitable[timedelta | Retryable]]
"""A read that shows whether a provider answers: how long it took, or why there was no answer."""


def chain_look(provider: SettlementProvider) -> Look:
    """The look at a provider that is a chain."""

    async def look() -> timedelta | Retryable:
        probe = await provider.probe()
        return probe.latency if isinstance(probe, Probe) else probe

    return look


# A provider that is silent for longer is away for whoever waits for it, and says so before its row is too old.
PATIENCE_SECONDS = 4.0


class ProviderProbe:
    """Probes one provider and writes its row."""

    def __init__(
        self,
        *,
        engine: Engine,
        name: str,
        look: Look,
        health: ProviderHealth,
        clock: Clock,
        interval_seconds: float = 3.0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._engine = engine
        self._name = name
        self._look = look
        self._health = health
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._patience_seconds = patience_seconds
        self._was_healthy: bool | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Probe every interval until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self.step()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.2)

    async def step(self) -> None:
        """One probe, one row."""
        answer = await self._answer()
        succeeded = isinstance(answer, timedelta)
        self._health.record(succeeded=succeeded, latency=answer if isinstance(answer, timedelta) else timedelta())
        snapshot = self._health.snapshot()
        healthy = succeeded and snapshot.accepts_items
        row = provider_health.ProviderHealthRow(
            provider=self._name,
            healthy=healthy,
            breaker=snapshot.state,
            latency_ms=snapshot.latency_ms or 0,
            success_rate_micros=snapshot.success_percent * 10_000,
            detail=answer.reason[:200] if isinstance(answer, Retryable) else "",
            checked_at=self._clock.now(),
        )
        async with self._engine.begin() as tx:
            await provider_health.record(tx, row)
        if healthy != self._was_healthy:
            log.info("provider.health", provider=row.provider, healthy=healthy, detail=row.detail)
            self._was_healthy = healthy

    async def _answer(self) -> timedelta | Retryable:
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await self._look()
        except TimeoutError:
            return Retryable(f"no answer within {self._patience_seconds:g} s")
