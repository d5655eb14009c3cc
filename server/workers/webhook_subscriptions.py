"""Webhook subscriptions: asked for once the endpoints are there, and looked after, for providers forget old ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from domain.clock import Clock
from providers.base import ProviderUnavailable

log = structlog.get_logger()

AGAIN_SECONDS = 3_600.0
FAULT_SECONDS = 10.0


class WebhookSubscriptions:
    """Sees to it that a provider knows where we listen."""

    def __init__(self, ensure: Callable[[], Awaitable[None]], *, clock: Clock) -> None:
        self._ensure = ensure
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Look after them until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                due = self._clock.monotonic() + await self._pause_after_step()
            await self._clock.sleep(0.5)

    async def _pause_after_step(self) -> float:
        try:
            await self._ensure()
        except ProviderUnavailable as fault:
            log.warning("webhooks.not_subscribed", detail=str(fault)[:200])
            return FAULT_SECONDS
        return AGAIN_SECONDS
