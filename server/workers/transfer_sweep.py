"""The sweep over a custodian's transfers: what came and went, asked for every minute and put into the inbox.

Webhooks are hints and may all be lost; this makes it harmless. What is found in a state that was not seen before
becomes an event like any other, and is looked into by the same worker. Orders of ours are followed by those who gave
them anyway; only here is seen what nobody here ordered.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from domain.clock import Clock
from providers.base import ProviderUnavailable
from providers.custodian import TransferRail, WalletTransfer
from storage import inbox
from storage.database import Engine
from storage.inbox import ReceivedEvent

log = structlog.get_logger()

SOURCE = "sweep"
EVERY_SECONDS = 60.0
THOROUGH_SECONDS = 3_600.0
# An overlap for clocks that differ and transfers that take their time. The thorough one covers our own outages.
WINDOW = timedelta(minutes=15)
THOROUGH_WINDOW = timedelta(hours=24)
# A sandbox's clock may be ahead of ours by as much as a test likes.
AHEAD = timedelta(days=31)


class TransferSweep:
    """Lists transfers, and puts into the inbox what is new."""

    def __init__(
        self, *, engine: Engine, rail: TransferRail, clock: Clock, interval_seconds: float = EVERY_SECONDS
    ) -> None:
        self._engine = engine
        self._rail = rail
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._thorough_at = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep every interval until `stop` is set, thoroughly at the start and every hour."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self._sweep_in_time()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.2)

    async def sweep(self, *, thorough: bool) -> int:
        """One sweep; how much was new. Raises `ProviderUnavailable` where the custodian does not answer."""
        now = self._clock.now()
        since = now - (THOROUGH_WINDOW if thorough else WINDOW)
        found = [_event(transfer) for transfer in await self._rail.transfers(since=since, until=now + AHEAD)]
        async with self._engine.begin() as tx:
            return len(await inbox.receive(tx, found, now=now))

    async def _sweep_in_time(self) -> None:
        thorough = self._clock.monotonic() >= self._thorough_at
        try:
            new = await self.sweep(thorough=thorough)
        except ProviderUnavailable as fault:
            log.warning("sweep.unfinished", thorough=thorough, detail=str(fault)[:200])
            return
        if thorough:
            self._thorough_at = self._clock.monotonic() + THOROUGH_SECONDS
        if new:
            log.info("sweep.found", new=new, thorough=thorough)


def _event(transfer: WalletTransfer) -> ReceivedEvent:
    """The same transfer in the same state is the same event."""
    name = f"{SOURCE}:transaction:{transfer.reference}:{transfer.state}"
    return ReceivedEvent(
        id=name,
        source=SOURCE,
        subject="transaction",
        reference=transfer.reference,
        occurred_at=transfer.created_at,
    )
