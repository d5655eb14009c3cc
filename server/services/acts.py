"""Acts: what operators do, written down in the same database transaction that does it.

Every service of operations begins an act, changes what it has to change in `act.tx`, and records it. An act that
changes nothing, because it was done before, leaves no record.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.audit import Actor, AuditFact
from domain.clock import Clock, Entropy
from storage import audit
from storage.database import Engine, Tx, writing


@dataclass(frozen=True, slots=True)
class Act:
    """An act under way: its database transaction, its time, and who acts."""

    tx: Tx
    actor: Actor
    now: datetime
    entropy: Entropy

    async def record(self, action: str, subject: object, *, consumer_id: UUID | None = None, **facts: object) -> None:
        """Write down what was done to whom."""
        fact = AuditFact(
            id=self.entropy.uuid7(),
            actor=self.actor,
            action=action,
            subject=str(subject),
            consumer_id=consumer_id,
            facts={name: str(value) for name, value in facts.items()},
        )
        await audit.append(self.tx, fact, now=self.now)


class Acts:
    """Begins acts."""

    def __init__(self, *, engine: Engine, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._clock = clock
        self._entropy = entropy

    @asynccontextmanager
    async def begin(self, actor: Actor) -> AsyncIterator[Act]:
        """One act. What it did stands once the block is left, or nothing of it does."""
        async with writing(self._engine) as tx:
            yield Act(tx, actor, self._clock.now(), self._entropy)
