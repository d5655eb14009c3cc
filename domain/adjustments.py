"""Adjustments: postings that two operators make together, to correct what only people can judge.

Like every movement of the ledger, one that crosses holders has to become true on a rail as well, so it brings a
settlement item of its own. Unless it undoes an item that cannot settle: then the two cancel each other out, and what
has to move on the rails is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.commands import NewItem
from domain.errors import FieldViolation, SettlementNotRetryable, ValidationFailed
from domain.identity import OUTSIDE, HolderId, ItemId, TransactionId, is_consumer
from domain.money import Money
from domain.postings import Account, AccountKind, Posting, Transaction, TransactionKind
from domain.settlement import FINAL, Candidate, ItemState

LASTS = timedelta(days=7)
"""How long a proposal waits for its second operator."""


class AdjustmentState(StrEnum):
    """Where an adjustment stands."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A posting with two names under it, or one so far."""

    id: UUID
    source: Account
    target: Account
    amount: Money
    reason: str
    cancel_item_id: ItemId | None
    proposed_by: str
    created_at: datetime
    state: AdjustmentState = AdjustmentState.PROPOSED
    approved_by: str = ""
    approved_at: datetime | None = None
    transaction_id: TransactionId | None = None

    @property
    def expires_at(self) -> datetime:
        return self.created_at + LASTS

    def at(self, now: datetime) -> AdjustmentState:
        """Its state at a time: nobody has to be there for a proposal to expire."""
        expired = self.state is AdjustmentState.PROPOSED and now >= self.expires_at
        return AdjustmentState.EXPIRED if expired else self.state

    @property
    def posting(self) -> Posting:
        return Posting(self.source, self.target, self.amount.asset, self.amount.micros)

    @property
    def consumers(self) -> list[UUID]:
        """Whose wallets it touches."""
        return [account.owner for account in (self.source, self.target) if is_consumer(account.owner)]


def check_accounts(adjustment: Adjustment) -> None:
    """A posting goes from one account to another."""
    if adjustment.source == adjustment.target:
        raise ValidationFailed((FieldViolation("to", "adjustment.accounts", "must be another account than `from`"),))


def check_cancels(adjustment: Adjustment, item: Candidate, state: ItemState) -> None:
    """The adjustment may take the item's place: nothing of it can still happen, and it is undone to the micro."""
    refuse_unless_at_rest(state)
    if item.recipient == OUTSIDE or item.group_id is not None:
        # Its end has an owner already: the withdrawal whose hold it is, the swap whose other legs go with it.
        raise SettlementNotRetryable(state, "part_of_withdrawal" if item.recipient == OUTSIDE else "part_of_group")
    undone = (item.recipient, item.sender, Money(item.asset, item.micros))
    if (adjustment.source.owner, adjustment.target.owner, adjustment.amount) != undone:
        text = "the adjustment must move exactly the item's amount, from its recipient back to its sender"
        raise ValidationFailed((FieldViolation("cancel_item_id", "adjustment.undoes", text),))


def refuse_unless_at_rest(state: ItemState) -> None:
    """An item may be decided about by people only while no attempt of it can still land (money rule 1)."""
    if state in FINAL:
        raise SettlementNotRetryable(state, "done")
    if state is ItemState.CLAIMED:
        raise SettlementNotRetryable(state, "attempt_in_preparation")
    if state not in (ItemState.PENDING, ItemState.BLOCKED):
        raise SettlementNotRetryable(state, "attempt_not_proven_dead")


def transaction_of(adjustment: Adjustment, *, id: TransactionId, caller: str, request_id: str) -> Transaction:
    """The header under which it is booked. It goes out of `from`'s owner, as a history shows it."""
    source, target = adjustment.source.owner, adjustment.target.owner
    return Transaction(
        id=id,
        kind=TransactionKind.ADJUSTMENT,
        consumer_id=source,
        counterparty_id=target if target != source else None,
        asset=adjustment.amount.asset,
        micros=adjustment.amount.micros,
        caller=caller,
        request_id=request_id,
        reference=str(adjustment.id),
    )


def item_of(adjustment: Adjustment, *, id: ItemId) -> NewItem | None:
    """What has to move on a rail because of it, if anything has."""
    sender, recipient = _holder(adjustment.source), _holder(adjustment.target)
    # A fee that a consumer owes stays in the consumer's position until it is swept with the others (money rule 16).
    is_fee = adjustment.target.kind is AccountKind.FEES
    if adjustment.cancel_item_id or is_fee or sender == recipient or OUTSIDE in (sender, recipient):
        return None
    amount = adjustment.amount
    return NewItem(id=id, sender=sender, recipient=recipient, asset=amount.asset, micros=amount.micros)


def _holder(account: Account) -> HolderId:
    """Who holds what the account stands for. Of the outside we keep no position, so nothing can be moved there."""
    return OUTSIDE if account.kind.startswith("external:") else account.owner
