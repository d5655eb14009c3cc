"""Signed attempts: handing them over, again and again if need be, until the chain or a proof of death closes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from domain.clock import Clock, Entropy
from domain.identity import AttemptId, HolderId
from domain.settlement import Rail
from providers.base import Accepted, OutcomeUnknown, PreparedAttempt, SettlementProvider
from storage import settlements
from storage.database import Engine
from storage.settlements import Attempt

log = structlog.get_logger()


class Attempts:
    """What one provider signed for us. An attempt is persisted by whoever prepared it, and only then sent."""

    def __init__(
        self,
        *,
        engine: Engine,
        provider: SettlementProvider,
        clock: Clock,
        entropy: Entropy,
        resend_after: timedelta,
    ) -> None:
        self._engine = engine
        self._provider = provider
        self._clock = clock
        self._entropy = entropy
        self._resend_after = resend_after

    def of(self, prepared: PreparedAttempt, holder: HolderId | None = None) -> Attempt:
        """The row to persist for what was just signed."""
        return Attempt(
            id=AttemptId(self._entropy.uuid7()),
            kind=prepared.kind,
            rail=Rail(self._provider.rail),
            provider=self._provider.name,
            reference=prepared.reference,
            payload=prepared.payload,
            valid_before=prepared.valid_before,
            signed_at=self._clock.now(),
            holder=holder,
            assets=prepared.assets,
        )

    async def send(self, attempts: Sequence[Attempt]) -> None:
        """Hand persisted attempts over. Whatever the answer, they stay open until the chain decides (money rule 1)."""
        outcomes = await asyncio.gather(*(self._provider.submit(attempt.payload) for attempt in attempts))
        notes = []
        for attempt, outcome in zip(attempts, outcomes, strict=True):
            error = "" if isinstance(outcome, Accepted) else getattr(outcome, "reason", str(outcome))[:200]
            notes.append((attempt.id, error))
            if isinstance(outcome, OutcomeUnknown):
                log.warning("settlement.outcome_unknown", reference=attempt.reference, reason=error)
        async with self._engine.begin() as tx:
            await settlements.mark_broadcast(tx, notes, now=self._clock.now())

    async def resend(self) -> int:
        """Hand over again what has not been seen in a block yet: harmless, and it heals a lost broadcast."""
        now = self._clock.now()
        async with self._engine.connect() as tx:
            attempts = await settlements.open_attempts(tx, signed_before=now - self._resend_after)
        alive = [attempt for attempt in attempts if attempt.valid_before > now]
        if alive:
            await self.send(alive)
        return len(alive)
