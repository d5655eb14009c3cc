"""The judge of expired attempts: dead only when proven, INDETERMINATE until then (money rule 3).

Death of a signed hash is proven by ONE endpoint that has finalized a block past the attempt's `valid_before`, at which
the watcher has read every log up to that block without the hash or its memos, where the endpoint has no receipt for it,
and where each sender's balance is what custody says. A timeout, an error or a null receipt alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from domain.clock import Clock
from domain.identity import OPERATOR
from domain.settlement import Rail
from providers.base import ChainReader, DeathEvidence, Holding, ProviderUnavailable
from storage import attempts, cursors, custody, settlements
from storage.attempts import Attempt
from storage.database import Engine, Tx

log = structlog.get_logger()


class Judge:
    """Looks at expired attempts and buries the dead."""

    def __init__(
        self,
        *,
        engine: Engine,
        reader: ChainReader,
        rail: Rail,
        chain: str,
        operator_address: str,
        clock: Clock,
        unproven_after: timedelta,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._rail = rail
        self._chain = chain
        self._operator_address = operator_address
        self._clock = clock
        self._unproven_after = unproven_after

    async def judge(self, under_way: Sequence[Attempt]) -> int:
        """Bury those that are proven dead; show the rest of the expired ones as INDETERMINATE (money rule 3)."""
        cases = await self._expired(under_way) if under_way else []
        buried = 0
        for case in cases:
            doubt = await self.doubt(case)
            async with self._engine.begin() as tx:
                if doubt:
                    await attempts.mark_indeterminate(tx, case.attempt.id, doubt)
                else:
                    await self._bury(tx, case)
                    buried += 1
            log.warning("settlement.expired", reference=case.attempt.reference, doubt=doubt or "none: proven dead")
        return buried

    async def _bury(self, tx: Tx, case: Case) -> None:
        reason = f"expired unmined, proven at block {case.cursor.number}"
        await attempts.bury(tx, self._rail, case.attempt, now=self._clock.now(), reason=reason)

    async def _expired(self, under_way: Sequence[Attempt]) -> list[Case]:
        """The expired among them that are still open, with the cursor and the senders' custody of the same moment."""
        now = self._clock.now()
        async with self._engine.connect() as tx:
            await tx.execution_options(isolation_level="REPEATABLE READ")
            cursor = await cursors.read(tx, self._chain)
            if cursor is None:
                return []
            overdue = [
                attempt
                for attempt in under_way
                if attempt.valid_before <= cursor.block_time or attempt.valid_before + self._unproven_after < now
            ]
            expired = await attempts.still_open(tx, overdue)
            items = await settlements.items_of_attempts(tx, [attempt.id for attempt in expired])
            queues = {item.queue for carried in items.values() for item in carried}
            positions = await custody.positions(tx, self._rail, sorted(queues))
            addresses = await custody.addresses_of(tx, {holder for holder, _ in queues} - {OPERATOR})
        located = {holder: found.address for holder, found in addresses.items()}
        located[OPERATOR] = self._operator_address
        return [
            Case(
                attempt,
                cursor,
                {
                    Holding(located[item.queue[0]], item.queue[1]): positions[item.queue].micros
                    for item in items[attempt.id]
                },
            )
            for attempt in expired
        ]

    async def doubt(self, case: Case) -> str:
        """What keeps the attempt's death from being proven; empty when it is proven."""
        attempt, cursor = case.attempt, case.cursor
        if cursor.halted_reason:
            return f"settlement is halted: {cursor.halted_reason}"
        if cursor.block_time < attempt.valid_before:
            return "no finalized block past its expiry has been read yet"
        try:
            evidence = await self._reader.evidence_of_death(
                attempt.reference, holdings=sorted(case.custody, key=str), at_block=cursor.number
            )
        except ProviderUnavailable as fault:
            return f"no endpoint could show it: {fault}"[:200]
        return _gap(evidence, case)


@dataclass(frozen=True, slots=True)
class Case:
    """An expired attempt, where the watcher stood, and what custody said of its senders then."""

    attempt: Attempt
    cursor: cursors.Cursor
    custody: dict[Holding, int]


def _gap(evidence: DeathEvidence, case: Case) -> str:
    """What the evidence of one endpoint lacks for a proof (money rule 3)."""
    if evidence.block.hash != case.cursor.hash:
        return "the endpoint shows another block than the watcher read"
    if not evidence.shows_expiry(case.attempt.valid_before):
        return "the endpoint knows the transaction, or has not finalized a block past its expiry"
    if dict(evidence.balances) != case.custody:
        return "a sender's balance on the chain differs from custody"
    return ""
