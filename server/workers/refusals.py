"""What becomes of a claimed item that could not be signed: it waits, or the operator stands in for its blocked end.

A passing reason (a paused token, a short allowance) sends the item back to its queue for a while. Of the permanent ones
there is a closed list (money rule 10), and even those never reverse what the ledger says: whatever can still move,
moves between the other end and the operator, and what cannot is kept as a BLOCKED item that every equation counts,
until people decide. Of a withdrawal the ledger has only said that it is held, so there the hold is released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Break, Command, CustodyChange, ItemTransition, NewItem
from domain.errors import Overloaded
from domain.identity import OPERATOR, HolderId, ItemId, TransactionId, is_consumer
from domain.settlement import ItemState, QueueKey, Rail, retry_after
from domain.withdrawals import Withdrawal, released
from providers.base import Preparation, Refusal, RefusalReason, Retryable, SigningRefused
from server.ledger_writer import LedgerWriter
from storage import custody, settlements, withdrawals
from storage.database import Engine
from storage.settlements import ClaimedItem, Release

log = structlog.get_logger()


class Refusals:
    """Gives claimed items back, or replaces them."""

    def __init__(self, *, engine: Engine, writer: LedgerWriter, clock: Clock, entropy: Entropy, rail: Rail) -> None:
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._entropy = entropy
        self._rail = rail

    async def handle(self, preparations: Sequence[Preparation], claimed: Mapping[UUID, ClaimedItem]) -> None:
        """Everything that was claimed and not signed, of one round."""
        refusals = [refusal for preparation in preparations for refusal in preparation.refusals]
        deferred = [claimed[item_id] for preparation in preparations for item_id in preparation.deferred]
        passing = [refusal for refusal in refusals if not refusal.permanent]
        now = self._clock.now()
        releases = [_back_in_queue(claimed[refusal.item_id], refusal, now) for refusal in passing]
        releases += [Release(item, "waits behind another item", failed=False) for item in deferred]
        await self._give_back(releases, without_allowance=_without_allowance(passing, claimed))
        permanent = [refusal for refusal in refusals if refusal.permanent]
        holds = await self._holds([refusal.item_id for refusal in permanent])
        for refusal in permanent:
            item, withdrawal = claimed[refusal.item_id], holds.get(ItemId(refusal.item_id))
            await self._submit(
                self._release(item, refusal, withdrawal) if withdrawal else self._replacement(item, refusal)
            )
            step = "settlement.withdrawal_failed" if withdrawal else "settlement.operator_steps_in"
            log.warning(step, item_id=str(refusal.item_id), reason=refusal.reason)

    async def postpone(self, items: Sequence[ClaimedItem], cause: Retryable) -> None:
        """Nothing was signed for these, through no fault of theirs."""
        await self._give_back([Release(item, cause.reason[:200], failed=False) for item in items])

    async def report(self, items: Sequence[ClaimedItem], refused: SigningRefused) -> None:
        """The signer's own derivation disagrees with the books: a break, and the items wait for a person (rule 27)."""
        reason = f"signing refused: {refused}"[:200]
        now = self._clock.now()
        await self._give_back([Release(i, reason, now + retry_after(i.candidate.failures)) for i in items])
        subject, ids = str(items[0].candidate.item_id), ",".join(str(item.candidate.item_id) for item in items)
        found = Break(self._entropy.uuid7(), "signing_refused", subject, {"reason": reason, "items": ids})
        await self._submit(Command(breaks=(found,)))
        log.error("settlement.signing_refused", items=ids, reason=reason)

    async def _give_back(self, releases: Sequence[Release], *, without_allowance: Sequence[QueueKey] = ()) -> None:
        if not releases:
            return
        async with self._engine.begin() as tx:
            await settlements.release(tx, self._rail, releases)
            # The chain knows no allowance where the books thought there was one: it is granted again.
            await custody.mark_activated(tx, self._rail, without_allowance, activated=False)

    async def _submit(self, command: Command) -> None:
        """A lost lease refuses the command, and a full queue leaves the lease to expire: both are looked at again."""
        try:
            await self._writer.submit(command)
        except Overloaded as fault:
            log.warning("settlement.refusal_postponed", detail=str(fault))

    # --- permanent reasons --------------------------------------------------------------------------------------------

    async def _holds(self, item_ids: Sequence[UUID]) -> Mapping[ItemId, Withdrawal]:
        """The withdrawals among these items, whose money is still the consumer's."""
        if not item_ids:
            return {}
        async with self._engine.connect() as tx:
            return await withdrawals.by_item(tx, item_ids)

    def _release(self, item: ClaimedItem, refusal: Refusal, withdrawal: Withdrawal) -> Command:
        """A withdrawal that definitely cannot happen: the hold and the day's limit are given back (money rule 11)."""
        reason, now = _permanently(refusal), self._clock.now()
        transaction_id = TransactionId(self._entropy.uuid7())
        end = released(withdrawal, transaction_id=transaction_id, caller="worker:settlement", reason=reason, at=now)
        return Command(
            transactions=(end.transaction,),
            postings=(end.postings,),
            record_transitions=(end.transition,),
            limit_return=end.limit_return,
            transitions=(self._ended(item, ItemState.FAILED, reason, now),),
            custody=(self._freed(item),),
        )

    def _replacement(self, item: ClaimedItem, refusal: Refusal) -> Command:
        """A transfer that can never settle as planned (money rule 10). The ledger's side of it is not touched."""
        candidate = item.candidate
        between_consumers = is_consumer(candidate.sender) and is_consumer(candidate.recipient)
        reason = _permanently(refusal)
        if not between_consumers:
            blocked = self._ended(item, ItemState.BLOCKED, reason, None)
            return Command(transitions=(blocked,), custody=(self._freed(item),))
        failed = self._ended(item, ItemState.FAILED, reason, self._clock.now())
        return Command(transitions=(failed,), custody=(self._freed(item),), items=self._stand_ins(item, refusal))

    def _ended(self, item: ClaimedItem, state: ItemState, reason: str, at: datetime | None) -> ItemTransition:
        return ItemTransition(
            item_id=item.candidate.item_id,
            expected=frozenset({ItemState.CLAIMED}),
            state=state,
            lease_token=item.token,
            reason=reason,
            at=at,
        )

    def _freed(self, item: ClaimedItem) -> CustodyChange:
        candidate = item.candidate
        return CustodyChange(candidate.sender, self._rail, candidate.asset, 0, -candidate.micros)

    def _stand_ins(self, item: ClaimedItem, refusal: Refusal) -> tuple[NewItem, NewItem]:
        """By way of the operator. Without a blocked end there would be no reason for it, so one half is BLOCKED."""
        candidate = item.candidate
        source_blocked = refusal.blocked in ("source", "both")
        destination_blocked = refusal.blocked in ("destination", "both")
        return (
            self._stand_in(item, candidate.sender, OPERATOR, blocked_by=refusal if source_blocked else None),
            self._stand_in(item, OPERATOR, candidate.recipient, blocked_by=refusal if destination_blocked else None),
        )

    def _stand_in(
        self, item: ClaimedItem, sender: HolderId, recipient: HolderId, *, blocked_by: Refusal | None
    ) -> NewItem:
        return NewItem(
            id=ItemId(self._entropy.uuid7()),
            sender=sender,
            recipient=recipient,
            asset=item.candidate.asset,
            micros=item.candidate.micros,
            state=ItemState.BLOCKED if blocked_by else ItemState.PENDING,
            transaction_id=item.transaction_id,
            reason=_permanently(blocked_by) if blocked_by else "",
        )


def _permanently(refusal: Refusal) -> str:
    """Why it never settles as planned, and where that was seen."""
    return f"{refusal.reason} at block {refusal.at_block}"


def _back_in_queue(item: ClaimedItem, refusal: Refusal, now: datetime) -> Release:
    not_before = now + retry_after(item.candidate.failures)
    return Release(item, f"{refusal.reason} {refusal.detail}".strip()[:200], not_before)


def _without_allowance(refusals: Sequence[Refusal], claimed: Mapping[UUID, ClaimedItem]) -> list[QueueKey]:
    short = [refusal for refusal in refusals if refusal.reason is RefusalReason.INSUFFICIENT_ALLOWANCE]
    return sorted({claimed[refusal.item_id].queue for refusal in short})
