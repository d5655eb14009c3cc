"""Withdrawals: money on its way out. It is held first, and the hold ends once: posted, or released.

Amount and fee are held together, so that a withdrawal which fails gives both back by one posting, and the operator has
earned nothing until it is paid out. How a hold ends is decided where it is seen: in the commit that reads the payment
in a finalized block, or in the one that learns that there never will be one (money rule 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from domain.commands import LimitReturn, RecordKind, RecordTransition
from domain.errors import FieldViolation, ValidationFailed
from domain.identity import ConsumerId, ItemId, TransactionId
from domain.money import Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, held, operator_account
from domain.routing import RouteDecision
from domain.settlement import Rail


class WithdrawalState(StrEnum):
    """Where a withdrawal stands."""

    HELD = "HELD"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    """Completed, and sent back by the bank later."""


EXTERNAL = {
    Rail.TEMPO: AccountKind.EXTERNAL_TEMPO,
    Rail.CIRCLE: AccountKind.EXTERNAL_CIRCLE,
    Rail.MINT: AccountKind.EXTERNAL_MINT,
}
"""The account that stands for everybody outside, on each rail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A withdrawal as it is kept. It goes to an address or to a bank account."""

    id: UUID
    transaction_id: TransactionId
    consumer_id: ConsumerId
    amount: Money
    fee: Money
    route: RouteDecision
    state: WithdrawalState
    address: str | None = None
    bank_account_id: UUID | None = None
    item_id: ItemId | None = None
    limit_day: date
    limit_usd_micros: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HoldEnd:
    """What ends a hold, for the command of whoever saw how."""

    transaction: Transaction
    postings: tuple[Posting, ...]
    transition: RecordTransition
    limit_return: LimitReturn | None = None


MICROS_PER_CENT = 10_000


def check_bank_amount(amount: Money) -> None:
    """Banks know no amounts below a cent."""
    if amount.micros % MICROS_PER_CENT:
        text = f"must be a multiple of {MICROS_PER_CENT}: banks pay whole cents"
        raise ValidationFailed((FieldViolation("amount.micros", "amount.whole_cents", text),))


def hold_posting(consumer: ConsumerId, amount: Money, fee: Money) -> Posting:
    """What a withdrawal reserves."""
    return Posting(available(consumer), held(consumer), amount.asset, amount.micros + fee.micros)


def posted(withdrawal: Withdrawal, *, transaction_id: TransactionId, caller: str, at: datetime) -> HoldEnd:
    """The rail has it for good: the amount is outside, the fee is earned."""
    amount, fee, source = withdrawal.amount, withdrawal.fee, held(withdrawal.consumer_id)
    outside = operator_account(EXTERNAL[withdrawal.route.rail])
    postings = [Posting(source, outside, amount.asset, amount.micros)]
    if fee.micros:
        postings.append(Posting(source, operator_account(AccountKind.FEES), fee.asset, fee.micros))
    header = _header(withdrawal, TransactionKind.WITHDRAWAL_POSTED, transaction_id, caller)
    return HoldEnd(header, tuple(postings), _transition(withdrawal, WithdrawalState.COMPLETED, at))


def released(
    withdrawal: Withdrawal, *, transaction_id: TransactionId, caller: str, reason: str, at: datetime
) -> HoldEnd:
    """It definitely did not happen: everything held is available again, and so is the day's limit it had used."""
    amount, fee = withdrawal.amount, withdrawal.fee
    source, target = held(withdrawal.consumer_id), available(withdrawal.consumer_id)
    return HoldEnd(
        _header(withdrawal, TransactionKind.WITHDRAWAL_RELEASED, transaction_id, caller),
        (Posting(source, target, amount.asset, amount.micros + fee.micros),),
        _transition(withdrawal, WithdrawalState.FAILED, at, reason=reason),
        LimitReturn(withdrawal.consumer_id, withdrawal.limit_day, withdrawal.limit_usd_micros),
    )


def _header(withdrawal: Withdrawal, kind: TransactionKind, transaction_id: TransactionId, caller: str) -> Transaction:
    """A step of the withdrawal. Its reference names the transaction that a history shows for the whole."""
    return Transaction(
        id=transaction_id,
        kind=kind,
        consumer_id=withdrawal.consumer_id,
        counterparty_id=None,
        asset=withdrawal.amount.asset,
        micros=withdrawal.amount.micros,
        fee_micros=withdrawal.fee.micros,
        caller=caller,
        reference=str(withdrawal.transaction_id),
    )


def _transition(withdrawal: Withdrawal, state: WithdrawalState, at: datetime, *, reason: str = "") -> RecordTransition:
    return RecordTransition(
        kind=RecordKind.WITHDRAWAL,
        id=withdrawal.id,
        expected=frozenset({WithdrawalState.HELD}),
        state=state,
        values={"reason": reason, "closed_at": at},
    )
