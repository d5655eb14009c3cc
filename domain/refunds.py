"""Refunds: a consumer gives back what another one sent, in whole or in part."""

from __future__ import annotations

from domain.commands import Refund
from domain.errors import FieldViolation, NotRefundable, RefundTooLarge, TransactionNotFound, ValidationFailed
from domain.identity import ConsumerId
from domain.money import Money
from domain.postings import Transaction, TransactionKind

REFUNDABLE = frozenset({TransactionKind.TRANSFER, TransactionKind.BATCH_TRANSFER})


def check_refundable(original: Transaction, *, refunder: ConsumerId) -> None:
    """Only a transfer that the wallet received; a refund is none, or money could go to and fro without a fee."""
    if refunder not in (original.consumer_id, original.counterparty_id):
        raise TransactionNotFound()
    if original.kind not in REFUNDABLE or original.counterparty_id != refunder:
        raise NotRefundable(original.kind.upper())


def refund_of(original: Transaction, *, refunded_micros: int, asked: Money | None) -> Refund:
    """What is given back: what was asked for, or all that is left as far as is known now.

    Whether it is still there is decided under the lock; that nothing is left can be told at once.
    """
    if asked is not None and asked.asset is not original.asset:
        violation = FieldViolation("amount.asset", "amount.asset_of_transfer", f"must be {original.asset}")
        raise ValidationFailed((violation,))
    left = original.micros - refunded_micros
    if asked is None and left == 0:
        raise RefundTooLarge(0)
    return Refund(
        transaction_id=original.id,
        received_micros=original.micros,
        micros=left if asked is None else asked.micros,
        all_that_is_left=asked is None,
    )
