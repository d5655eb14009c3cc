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


# How far back a look reaches, and how often it is taken. What was committed in the order of its ids is found by the
# first of them; the others are for what was overtaken.
QUICK = timedelta(seconds=1)
LOOKS = ((LATENESS, 60.0), (OVERLAP, 10.0))


class AuditChain:
    """Extends the chain. Any number of them may run; one at a time does."""

    def __init__(self, *, engine: Engine, clock: Clock, interval_seconds: float = 1.0) -> None:
        self._engine = engine
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._due = {reach: clock.monotonic() for reach, _ in LOOKS}

    async def run(self, stop: asyncio.Event) -> None:
        """Chain what is new until `stop` is set, and look further back every now and then."""
        while not stop.is_set():
            reach = self._next_reach()
            while await self.extend(reach) and not stop.is_set():
                reach = QUICK
            if reach == LATENESS:
                await self._tell_head()
            await self._clock.sleep(self._interval_seconds)

    async def extend(self, reach: timedelta = OVERLAP) -> bool:
        """Chain one portion; True if there may be more."""
        async with self._engine.begin() as tx:
            return await audit_chain.extend(tx, now=self._clock.now(), reach=reach) == CHUNK

    def _next_reach(self) -> timedelta:
        """The furthest look that is due."""
        now = self._clock.monotonic()
        for reach, interval_seconds in LOOKS:
            if now >= self._due[reach]:
                self._due[reach] = now + interval_seconds
                return reach
        return QUICK

    async def _tell_head(self) -> None:
        async with self._engine.connect() as tx:
            head = await audit_chain.head(tx)
        log.info("audit.head", sequence=head.sequence, hash=head.hash.hex())
