"""Signed attempts: persisted, then handed over, again and again if need be, until the chain or a proof of death."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.identity import AttemptId, HolderId
from domain.settlement import Rail
from providers.base import Accepted, Outcome, OutcomeUnknown, PreparedAttempt, SettlementProvider
from server.workers.concurrency import all_of
from storage import attempts
from storage.attempts import Attempt
from storage.database import Engine
from storage.settlements import ClaimedItem

log = structlog.get_logger()


class Attempts:
    """What one provider signed for us. Nothing is sent that is not persisted (money rule 1)."""

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

    async def carry_out(self, prepared: Sequence[PreparedAttempt], claimed: Mapping[UUID, ClaimedItem]) -> int:
        """Persist what was signed for claimed items, then send it; returns how many items were handed over."""
        if not prepared:
            return 0
        signed = [(self._row(one), [claimed[movement.item_id] for movement in one.movements]) for one in prepared]
        async with self._engine.begin() as tx:
            kept = await attempts.persist_attempts(tx, signed)
        if len(kept) < len(signed):
            log.warning("settlement.signatures_thrown_away", count=len(signed) - len(kept))
        await self.send(kept)
        ids = {attempt.id for attempt in kept}
        return sum(len(items) for attempt, items in signed if attempt.id in ids)

    async def activate(self, prepared: Mapping[HolderId, PreparedAttempt]) -> None:
        """Persist signed activations, but for consumers who have one under way, then send them."""
        rows = [self._row(one, holder) for holder, one in prepared.items()]
        async with self._engine.begin() as tx:
            kept = await attempts.persist_activations(tx, rows)
        await self.send(kept)

    async def send(self, persisted: Sequence[Attempt]) -> None:
        """Hand persisted attempts over. Whatever the answer, they stay open until the chain decides (money rule 1)."""
        outcomes = await all_of([self._provider.submit(attempt.payload) for attempt in persisted])
        notes = [(attempt.id, _error(attempt, outcome)) for attempt, outcome in zip(persisted, outcomes, strict=True)]
        async with self._engine.begin() as tx:
            await attempts.mark_broadcast(tx, notes, now=self._clock.now())

    async def resend(self, under_way: Sequence[Attempt]) -> None:
        """Hand over again what has not been seen in a block for a while: harmless, and it heals a lost broadcast."""
        now = self._clock.now()
        silent = [attempt for attempt in under_way if attempt.signed_at + self._resend_after <= now]
        alive = [attempt for attempt in silent if attempt.valid_before > now]
        if alive:
            await self.send(alive)

    def _row(self, prepared: PreparedAttempt, holder: HolderId | None = None) -> Attempt:
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


def _error(attempt: Attempt, outcome: Outcome) -> str:
    """What an attempt's row says about how it was handed over; empty when it was accepted."""
    if isinstance(outcome, Accepted):
        return ""
    if isinstance(outcome, OutcomeUnknown):
        log.warning("settlement.outcome_unknown", reference=attempt.reference, reason=outcome.reason[:200])
    return outcome.reason[:200]
