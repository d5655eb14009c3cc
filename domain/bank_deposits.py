"""Money from banks: a wire that arrived at the custodian, and what it does to the books.

Whose it is, its tracking reference says, which names the bank account it comes from. The consumer is credited at once,
with what the custodian did not keep, and the same commit lets the operator's position there grow by as much; an item
then brings it from the operator's float to where the consumer's money stands. What nobody can be found for stands in
suspense until operators move it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.clock import Entropy
from domain.commands import Break, Command, CustodyChange, NewItem, RecordKind, RecordTransition, Request
from domain.identity import OPERATOR, ConsumerId, ItemId, TransactionId, body_hash, request_key
from domain.money import Asset, Money
from domain.postings import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    available,
    operator_account,
)
from domain.settlement import Rail

CALLER = "worker:bank"


class BankDepositState(StrEnum):
    """Where a deposit stands."""

    PENDING = "PENDING"
    """The custodian knows of it; it does not count yet."""
    CREDITED = "CREDITED"
    SUSPENDED = "SUSPENDED"
    """It is here, and nobody can tell whose it is."""
    FAILED = "FAILED"
    OPENING = "OPENING"
    """It was complete before the books were opened: part of the float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedDeposit:
    """A deposit as it is kept. `reference` is the custodian's name for it, which counts once."""

    id: UUID
    reference: str
    amount: Money
    """What was sent."""
    fee: Money
    """What the custodian kept of it."""
    tracking_reference: str
    bank_reference: str
    state: BankDepositState
    arrived_at: datetime

    @property
    def net(self) -> Money:
        return Money(self.amount.asset, self.amount.micros - self.fee.micros)


@dataclass(frozen=True, slots=True)
class Payer:
    """The linked bank account that a deposit came from."""

    bank_account_id: UUID
    consumer_id: ConsumerId


def payer_of(by_tracking: Payer | None, by_bank: Payer | None) -> Payer | None:
    """Whose deposit it is: both names lead to one account, or there is only one of them. Else it is nobody's."""
    if by_tracking is not None and by_bank is not None and by_tracking != by_bank:
        return None
    return by_tracking or by_bank


def credited(entropy: Entropy, deposit: ArrivedDeposit, payer: Payer, *, now: datetime) -> Command:
    """The consumer has it now, and the operator's float is to bring it to the consumer's address."""
    net = deposit.net
    header = _header(entropy, deposit, TransactionKind.DEPOSIT, payer.consumer_id, origin=payer.bank_account_id)
    item = NewItem(
        id=ItemId(entropy.uuid7()),
        sender=OPERATOR,
        recipient=payer.consumer_id,
        asset=net.asset,
        micros=net.micros,
    )
    posting = Posting(_outside(), available(payer.consumer_id), net.asset, net.micros)
    found = {"consumer_id": payer.consumer_id, "bank_account_id": payer.bank_account_id}
    return Command(
        transactions=(header,),
        postings=((posting,),),
        request=_request(payer.consumer_id, deposit),
        items=(item,),
        custody=(CustodyChange(OPERATOR, Rail.MINT, net.asset, net.micros),),
        record_transitions=(_booked(deposit, BankDepositState.CREDITED, now, {"transaction_id": header.id, **found}),),
    )


def suspended(entropy: Entropy, deposit: ArrivedDeposit, *, reason: str, now: datetime) -> Command:
    """It stands with the operator, who has to find out whose it is."""
    net = deposit.net
    header = _header(entropy, deposit, TransactionKind.SUSPENSE, OPERATOR)
    posting = Posting(_outside(), operator_account(AccountKind.SUSPENSE), net.asset, net.micros)
    values = {"transaction_id": header.id, "reason": reason}
    facts = {"asset": str(net.asset), "micros": str(net.micros), "reason": reason}
    return Command(
        transactions=(header,),
        postings=((posting,),),
        request=_request(OPERATOR, deposit),
        custody=(CustodyChange(OPERATOR, Rail.MINT, net.asset, net.micros),),
        record_transitions=(_booked(deposit, BankDepositState.SUSPENDED, now, values),),
        breaks=(Break(entropy.uuid7(), "bank_deposit_of_nobody", deposit.reference, facts),),
    )


def failed(deposit: ArrivedDeposit, *, reason: str, now: datetime) -> Command:
    """Nothing came, or nothing was left of it."""
    transition = _booked(deposit, BankDepositState.FAILED, now, {"reason": reason})
    return Command(request=_request(OPERATOR, deposit), record_transitions=(transition,))


def _outside() -> Account:
    return operator_account(AccountKind.EXTERNAL_MINT)


def bank_origin_of(header: Transaction) -> UUID | None:
    """The bank account that a deposit came from. Other deposits come from elsewhere."""
    rail, _, rest = header.reference.partition(":")
    _, _, bank_account_id = rest.partition(":")
    if header.kind is not TransactionKind.DEPOSIT or rail != Rail.MINT or not bank_account_id:
        return None
    return UUID(bank_account_id)


def _header(
    entropy: Entropy, deposit: ArrivedDeposit, kind: TransactionKind, holder: UUID, *, origin: UUID | None = None
) -> Transaction:
    return Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=kind,
        consumer_id=holder,
        counterparty_id=None,
        asset=deposit.net.asset,
        micros=deposit.net.micros,
        fee_micros=deposit.fee.micros,
        caller=CALLER,
        reference=f"{Rail.MINT}:{deposit.reference}" + (f":{origin}" if origin else ""),
    )


def _request(owner: UUID, deposit: ArrivedDeposit) -> Request:
    """One deposit is booked once, under whatever meaning (money rule 21)."""
    key = request_key(caller=CALLER, request_id=f"deposit:{deposit.reference}")
    return Request(owner, key, body_hash("BankDeposit", deposit.reference))


def _booked(
    deposit: ArrivedDeposit, state: BankDepositState, now: datetime, values: Mapping[str, object]
) -> RecordTransition:
    return RecordTransition(
        kind=RecordKind.BANK_DEPOSIT,
        id=deposit.id,
        expected=frozenset({BankDepositState.PENDING}),
        state=state,
        values={
            "asset": deposit.amount.asset,
            "micros": deposit.amount.micros,
            "fee_micros": deposit.fee.micros,
            "closed_at": now,
            **values,
        },
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """What stood at the custodian when the books of the bank rail began."""

    floats: Mapping[Asset, int]
    deposits: tuple[ArrivedDeposit, ...]
    """Complete by then, and so part of it."""
