"""Transactions as they are read back: the header with the receipts of its settlement.

What the ledger wrote never changes; what settlement has observed since is joined to it. Everything is found by primary
keys and by the items' index on their transaction, so a read costs the same in a journal of any length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, true

from domain.errors import TransactionNotFound
from domain.identity import ItemId, TransactionId
from domain.ledger import Command, Transaction, TransactionKind
from domain.money import Asset, Money
from domain.pricing import share
from domain.settlement import ItemState
from domain.withdrawals import Withdrawal
from storage import withdrawals
from storage.database import Tx
from storage.schema import attempt_items, settlement_attempts, settlement_items, transactions

_t = transactions.c
_i = settlement_items.c
_a = settlement_attempts.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How one settlement item stands, with the attempt that carries it now, if one does."""

    item_id: ItemId
    state: ItemState
    amount: Money
    created_at: datetime
    provider: str = ""
    rail: str = ""
    reference: str = ""
    block_number: int | None = None
    log_index: int | None = None
    network_fee: Money | None = None
    attempts: int = 0
    reason: str = ""
    submitted_at: datetime | None = None
    confirmed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A transaction in the ledger, and what is known of its settlement."""

    transaction: Transaction
    created_at: datetime
    states: tuple[ItemState, ...] = ()
    """Of every item, also where the receipts were not asked for."""
    receipts: tuple[Receipt, ...] = ()
    withdrawal: Withdrawal | None = None
    """What its hold is for, and what became of it."""


def recorded(command: Command, at: datetime, *, withdrawal: Withdrawal | None = None) -> Recorded:
    """The first transaction of a command that was applied just now, as it would be read back."""
    receipts = tuple(
        Receipt(item_id=item.id, state=item.state, amount=Money(item.asset, item.micros), created_at=at)
        for item in command.items
    )
    states = tuple(receipt.state for receipt in receipts)
    return Recorded(command.transactions[0], at, states, receipts, withdrawal)


async def get(tx: Tx, transaction_id: UUID, *, party: UUID | None = None) -> Recorded:
    """One transaction with its receipts; raises `TransactionNotFound`, also when `party` has no part in it."""
    row = (await tx.execute(select(transactions).where(_t.id == transaction_id))).first()
    if row is None or (party is not None and party not in (row.consumer_id, row.counterparty_id)):
        raise TransactionNotFound()
    found = tuple(_receipt(item) for item in await tx.execute(_receipts(_i.transaction_id == transaction_id)))
    holds = await _holds(tx, [row])
    states = tuple(receipt.state for receipt in found)
    return Recorded(_transaction(row), row.created_at, states, found, holds.get(row.id))


async def receipts(tx: Tx, item_ids: Collection[UUID]) -> list[Receipt]:
    """The receipts of these items."""
    return [_receipt(row) for row in await tx.execute(_receipts(_i.id.in_(sorted(item_ids))))]


async def find(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Recorded]:
    """The transactions with these ids, without receipts."""
    rows = list(await tx.execute(select(transactions).where(_t.id.in_(sorted(ids)))))
    states: dict[UUID, list[ItemState]] = {}
    for transaction_id, state in await tx.execute(
        select(_i.transaction_id, _i.state).where(_i.transaction_id.in_(sorted(ids)))
    ):
        states.setdefault(transaction_id, []).append(ItemState(state))
    holds = await _holds(tx, rows)
    return {
        row.id: Recorded(_transaction(row), row.created_at, tuple(states.get(row.id, ())), withdrawal=holds.get(row.id))
        for row in rows
    }


async def _holds(tx: Tx, rows: Sequence[Any]) -> dict[TransactionId, Withdrawal]:
    """What those that are withdrawals hold money for."""
    return await withdrawals.by_transaction(tx, [row.id for row in rows if row.kind == TransactionKind.WITHDRAWAL])


def _transaction(row: Any) -> Transaction:
    return Transaction(
        id=TransactionId(row.id),
        kind=TransactionKind(row.kind),
        consumer_id=row.consumer_id,
        counterparty_id=row.counterparty_id,
        asset=Asset(row.asset),
        micros=row.micros,
        fee_micros=row.fee_micros,
        memo=row.memo,
        caller=row.caller,
        request_id=row.request_id,
        batch_id=row.batch_id,
        reference=row.reference,
    )


def _receipts(wanted: ColumnElement[bool]) -> Select[Any]:
    """Items in the order of their transaction, each with its attempt and with how often it was tried."""
    carried, other, tried = attempt_items.c, attempt_items.alias("other"), attempt_items.alias("tried")
    attempted = settlement_attempts.alias("attempted")
    shared_by = select(func.count()).select_from(other).where(other.c.attempt_id == _a.id).scalar_subquery()
    tries = (
        select(func.count().label("count"), func.min(attempted.c.broadcast_at).label("first_at"))
        .select_from(tried.join(attempted, attempted.c.id == tried.c.attempt_id))
        .where(tried.c.item_id == _i.id)
        .lateral("tries")
    )
    joined = (
        settlement_items.outerjoin(settlement_attempts, _a.id == _i.attempt_id)
        .outerjoin(attempt_items, (carried.item_id == _i.id) & (carried.attempt_id == _i.attempt_id))
        .join(tries, true())
    )
    attempt = (_a.provider, _a.rail, _a.reference, _a.fee_asset, _a.fee_micros, carried.call_index)
    columns = (*settlement_items.c, *attempt, shared_by.label("shared_by"), tries.c.count.label("tries"))
    statement = select(*columns, tries.c.first_at).select_from(joined)
    return statement.where(wanted).order_by(_i.position, _i.id)


def _receipt(row: Any) -> Receipt:
    return Receipt(
        item_id=ItemId(row.id),
        state=ItemState(row.state),
        amount=Money(Asset(row.asset), row.micros),
        created_at=row.created_at,
        provider=row.provider or "",
        rail=row.rail or "",
        reference=row.transaction_hash or row.reference or "",
        block_number=row.block_number,
        log_index=row.log_index,
        network_fee=_network_fee(row),
        attempts=row.tries,
        reason=row.reason,
        submitted_at=row.first_at,
        confirmed_at=row.confirmed_at,
    )


def _network_fee(row: Any) -> Money | None:
    """The item's part of what the network took for the whole attempt."""
    if row.fee_micros is None or row.call_index is None:
        return None
    return Money(Asset(row.fee_asset), share(row.fee_micros, parts=row.shared_by, position=row.call_index))
