"""Payouts: a withdrawal to a bank, as the custodian carries it out.

The withdrawal holds the consumer's money; the payout is made of the operator's position at the custodian, part of
which is reserved from the commit that starts it to the one that sees how it ended. Complete, it takes the hold to the
outside, and an item brings as much from the consumer's position to the operator's. Failed, it releases the hold. A
bank may send a complete payout back days later: then a reversal credits the consumer again.

A payout carries no reference of ours (money rule 4). So there is at most one of unknown outcome for each bank and
amount, a try is counted before it begins, and a refusal ends the payout only where no try before it may be on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.bank_deposits import CALLER
from domain.clock import Entropy
from domain.commands import Command, CustodyChange, NewItem, RecordKind, RecordTransition, Request
from domain.identity import OPERATOR, ItemId, TransactionId, body_hash, request_key
from domain.money import Money
from domain.postings import (
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    available,
    operator_account,
)
from domain.settlement import Rail
from domain.withdrawals import Withdrawal, WithdrawalState, posted, released

UNKNOWN_FOR = timedelta(hours=24)
"""How long a payout of unknown outcome is asked about with its key. The custodian promises nothing for longer, so from
then on it is only looked for, and a person decides (money rule 4)."""

RETURNED_WITHIN = timedelta(days=30)
"""How long a complete payout is watched for a return."""


class PayoutState(StrEnum):
    """What was last observed of a payout."""

    STARTED = "STARTED"
    """Persisted. It may be out, and its outcome is unknown until the custodian's id for it is known."""
    SUBMITTED = "SUBMITTED"
    """The custodian has it, under its own id."""
    REFUSED = "REFUSED"
    """Definitely not taken. The hold is about to be released."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"


OPEN = frozenset({PayoutState.STARTED, PayoutState.SUBMITTED, PayoutState.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPayout:
    """A payout as it is kept."""

    id: UUID
    withdrawal_id: UUID
    bank_reference: str
    amount: Money
    key: UUID
    state: PayoutState
    provider_reference: str | None
    fee: Money
    """What the custodian takes for it beside the amount."""
    unanswered: int
    """Tries that began and of which nothing is known."""
    lease_token: int
    reason: str
    ordered_at: datetime

    def unknown_too_long(self, now: datetime) -> bool:
        """Whether nobody asks about it any more."""
        return self.state is PayoutState.STARTED and self.unanswered > 0 and now - self.ordered_at >= UNKNOWN_FOR

    def needs_operator(self, now: datetime) -> bool:
        """Whether a person has to decide: nobody learns its outcome, or the custodian shows another under its id."""
        return self.unknown_too_long(now) or (self.state is PayoutState.SUBMITTED and bool(self.reason))


def completed(
    entropy: Entropy, payout: StoredPayout, withdrawal: Withdrawal, *, provider_fee: Money, now: datetime
) -> Command:
    """The bank has it: the hold is posted, and the consumer's position owes the operator as much."""
    end = posted(withdrawal, transaction_id=TransactionId(entropy.uuid7()), caller=CALLER, at=now)
    amount = payout.amount
    item = NewItem(
        id=ItemId(entropy.uuid7()),
        sender=withdrawal.consumer_id,
        recipient=OPERATOR,
        asset=amount.asset,
        micros=amount.micros,
    )
    fee = _fee(entropy, payout, provider_fee)
    spent = CustodyChange(OPERATOR, Rail.MINT, amount.asset, -amount.micros - provider_fee.micros, -amount.micros)
    return Command(
        transactions=(end.transaction, *(header for header, _ in fee)),
        postings=(end.postings, *(postings for _, postings in fee)),
        request=_request(withdrawal, payout, "completed"),
        items=(item,),
        custody=(spent,),
        record_transitions=(
            end.transition,
            _transition(payout, OPEN, PayoutState.COMPLETED, now, fee_micros=provider_fee.micros),
        ),
    )


def failed(entropy: Entropy, payout: StoredPayout, withdrawal: Withdrawal, *, reason: str, now: datetime) -> Command:
    """It definitely did not happen: the hold is released, in its day and at its value (money rule 11)."""
    end = released(withdrawal, transaction_id=TransactionId(entropy.uuid7()), caller=CALLER, reason=reason, at=now)
    amount = payout.amount
    return Command(
        transactions=(end.transaction,),
        postings=(end.postings,),
        request=_request(withdrawal, payout, "failed"),
        limit_return=end.limit_return,
        custody=(CustodyChange(OPERATOR, Rail.MINT, amount.asset, 0, -amount.micros),),
        record_transitions=(end.transition, _transition(payout, OPEN, PayoutState.FAILED, now, reason=reason)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What came back, before what the custodian kept of it."""

    reference: str
    amount: Money
    fee: Money
    reason: str


def returned(
    entropy: Entropy,
    payout: StoredPayout,
    withdrawal: Withdrawal,
    back: Return,
    *,
    erased: bool,
    now: datetime,
) -> Command:
    """The bank sent it back: the consumer gets all of it, and what sending back costs is the operator's.

    The fee of the withdrawal stays earned and the day's limit used, because the payout was made. Of a consumer who is
    gone by now the money stands in suspense.
    """
    owner = OPERATOR if erased else withdrawal.consumer_id
    target = operator_account(AccountKind.SUSPENSE) if erased else available(owner)
    header = Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=TransactionKind.SUSPENSE if erased else TransactionKind.REVERSAL,
        consumer_id=owner,
        counterparty_id=None,
        asset=back.amount.asset,
        micros=back.amount.micros,
        caller=CALLER,
        reference=str(withdrawal.transaction_id),
    )
    item = NewItem(
        id=ItemId(entropy.uuid7()),
        sender=OPERATOR,
        recipient=owner,
        asset=back.amount.asset,
        micros=back.amount.micros,
    )
    came = Posting(operator_account(AccountKind.EXTERNAL_MINT), target, back.amount.asset, back.amount.micros)
    fee = _fee(entropy, payout, back.fee)
    came_in = CustodyChange(OPERATOR, Rail.MINT, back.amount.asset, back.amount.micros - back.fee.micros)
    return Command(
        transactions=(header, *(one for one, _ in fee)),
        postings=((came,), *(postings for _, postings in fee)),
        request=_request(withdrawal, payout, "returned"),
        items=() if erased else (item,),
        custody=(came_in,),
        record_transitions=(
            _withdrawal_returned(withdrawal, back.reason),
            _transition(
                payout,
                frozenset({PayoutState.COMPLETED}),
                PayoutState.RETURNED,
                now,
                return_reference=back.reference,
                return_fee_micros=back.fee.micros,
                reason=back.reason,
            ),
        ),
    )


def _fee(entropy: Entropy, payout: StoredPayout, fee: Money) -> list[tuple[Transaction, tuple[Posting, ...]]]:
    """What the custodian took for it is the operator's expense, like a network's fee."""
    if not fee.micros:
        return []
    expense, outside = operator_account(AccountKind.NETWORK_FEES), operator_account(AccountKind.EXTERNAL_MINT)
    header = Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=TransactionKind.NETWORK_FEE,
        consumer_id=OPERATOR,
        counterparty_id=None,
        asset=fee.asset,
        micros=fee.micros,
        caller=CALLER,
        reference=f"{Rail.MINT}:{payout.provider_reference}",
    )
    return [(header, (Posting(expense, outside, fee.asset, fee.micros),))]


def _request(withdrawal: Withdrawal, payout: StoredPayout, step: str) -> Request:
    """Each step of a payout is booked once (money rule 21)."""
    key = request_key(caller=CALLER, request_id=f"payout:{payout.id}:{step}")
    return Request(withdrawal.consumer_id, key, body_hash("Payout", str(payout.id), step))


def _transition(
    payout: StoredPayout, expected: frozenset[PayoutState], state: PayoutState, now: datetime, **values: object
) -> RecordTransition:
    return RecordTransition(
        kind=RecordKind.BANK_PAYOUT, id=payout.id, expected=expected, state=state, values={**values, "closed_at": now}
    )


def _withdrawal_returned(withdrawal: Withdrawal, reason: str) -> RecordTransition:
    return RecordTransition(
        kind=RecordKind.WITHDRAWAL,
        id=withdrawal.id,
        expected=frozenset({WithdrawalState.COMPLETED}),
        state=WithdrawalState.RETURNED,
        values={"reason": reason},
    )


def try_again_after(unanswered: int) -> timedelta:
    """How long a payout whose outcome is unknown waits before it is asked about again."""
    return timedelta(seconds=min(15 * 2 ** min(unanswered, 6), 600))
