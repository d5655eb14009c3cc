"""The audit chain: what was done is tied to what was done before, within seconds and off the hot path.

The head of the chain goes into the log now and then. Who keeps logs elsewhere keeps it there, out of reach of whoever
could rewrite a whole database: `VerifyAudit` says the head that it finds, to be compared.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from domain.clock import Clock
from storage import audit_chain
from storage.audit import LATENESS, OVERLAP
from storage.audit_chain import CHUNK
from storage.database import Engine

log = structlog.get_logger()


class AuditChain:
    """Extends the chain. Any number of them may run; one at a time does."""

    def __init__(
        self, *, engine: Engine, clock: Clock, interval_seconds: float = 1.0, sweep_seconds: float = 60.0
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._sweep_seconds = sweep_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Chain what is new until `stop` is set, and look further back every now and then."""
        next_sweep = self._clock.monotonic()
        while not stop.is_set():
            sweeping = self._clock.monotonic() >= next_sweep
            if sweeping:
                next_sweep = self._clock.monotonic() + self._sweep_seconds
            if await self.extend(LATENESS if sweeping else OVERLAP):
                continue
            if sweeping:
                await self._tell_head()
            await self._clock.sleep(self._interval_seconds)

    async def extend(self, reach: timedelta = OVERLAP) -> bool:
        """Chain one portion; True if there may be more."""
        async with self._engine.begin() as tx:
            return await audit_chain.extend(tx, now=self._clock.now(), reach=reach) == CHUNK

    async def _tell_head(self) -> None:
        async with self._engine.connect() as tx:
            head = await audit_chain.head(tx)
        log.info("audit.head", sequence=head.sequence, hash=head.hash.hex())
