"""Transfers: what it does to the ledger, and asks of a rail, when one consumer pays another.

Whoever makes transfers (one at once, many in a batch, a payment request, a schedule) makes them of the same part, so
that all of them are booked, settled and shown alike.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from domain.clock import Entropy
from domain.commands import NewItem
from domain.identity import ConsumerId, ItemId, TransactionId
from domain.money import Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account


class OriginKind(StrEnum):
    """What a transfer goes back to, where nobody sent it by hand."""

    PAYMENT_REQUEST = "payment_request"
    SCHEDULED_TRANSFER = "scheduled_transfer"


class Origin(NamedTuple):
    """The payment request or the scheduled transfer behind a transfer."""

    kind: OriginKind
    id: str

    def __str__(self) -> str:
        """As the transfer's header refers to it."""
        return f"{self.kind}/{self.id}"


_FEES = operator_account(AccountKind.FEES)


class Booking(NamedTuple):
    """A payment as a command takes it: its header, its postings and what has to become true on a rail."""

    transaction: Transaction
    postings: tuple[Posting, ...]
    item: NewItem


def booking(
    entropy: Entropy,
    *,
    sender: ConsumerId,
    recipient: ConsumerId,
    amount: Money,
    fee_micros: int,
    memo: str,
    caller: str,
    request_id: str = "",
    kind: TransactionKind = TransactionKind.TRANSFER,
    batch_id: UUID | None = None,
    reference: str = "",
) -> Booking:
    """One consumer pays another. The recipient gets the amount; the fee comes on top, where there is one."""
    source = available(sender)
    postings = [Posting(source, available(recipient), amount.asset, amount.micros)]
    if fee_micros:
        postings.append(Posting(source, _FEES, amount.asset, fee_micros))
    transaction = Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=kind,
        consumer_id=sender,
        counterparty_id=recipient,
        asset=amount.asset,
        micros=amount.micros,
        fee_micros=fee_micros,
        memo=memo,
        caller=caller,
        request_id=request_id,
        batch_id=batch_id,
        reference=reference,
    )
    item = NewItem(
        id=ItemId(entropy.uuid7()),
        sender=sender,
        recipient=recipient,
        asset=amount.asset,
        micros=amount.micros,
        transaction_id=transaction.id,
    )
    return Booking(transaction, tuple(postings), item)


def origin_of(header: Transaction) -> Origin | None:
    """What a transfer goes back to, if nobody sent it by hand."""
    kind, found, id = header.reference.partition("/")
    if header.kind is not TransactionKind.TRANSFER or not found or kind not in tuple(OriginKind):
        return None
    return Origin(OriginKind(kind), id)
