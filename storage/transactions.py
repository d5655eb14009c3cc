"""Transactions as they are read back: the header with the receipts of its settlement.

What the ledger wrote never changes; what settlement has observed since is joined to it. Everything is found by primary
keys and by the items' index on their transaction, so a read costs the same in a journal of any length.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, true

from domain.commands import Command, NewItem
from domain.errors import TransactionNotFound
from domain.identity import ItemId, TransactionId
from domain.money import Asset, Money
from domain.postings import Transaction, TransactionKind
from domain.pricing import share
from domain.settlement import ItemState
from domain.swaps import SwapQuote
from domain.withdrawals import Withdrawal
from storage import swaps, withdrawals
from storage.arrays import array_parameter
from storage.database import Tx
from storage.schema import (
    attempt_items,
    refunded_transfers,
    settlement_attempts,
    settlement_items,
    transactions,
)

_t = transactions.c
_i = settlement_items.c
_a = settlement_attempts.c


class Receipt(NamedTuple):
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


class Recorded(NamedTuple):
    """A transaction in the ledger, and what is known of its settlement."""

    transaction: Transaction
    created_at: datetime
    states: tuple[ItemState, ...] = ()
    """Of every item, also where the receipts were not asked for."""
    receipts: tuple[Receipt, ...] = ()
    withdrawal: Withdrawal | None = None
    """What its hold is for, and what became of it."""
    refunded_micros: int = 0
    """How much of it its recipient has given back so far."""
    swap: SwapQuote | None = None
    """What was bought, at which price."""


def recorded(
    command: Command, at: datetime, *, withdrawal: Withdrawal | None = None, swap: SwapQuote | None = None
) -> Recorded:
    """The first transaction of a command that was applied just now, as it would be read back."""
    receipts = tuple(_new_receipt(item, at) for item in command.items)
    states = tuple(receipt.state for receipt in receipts)
    return Recorded(command.transactions[0], at, states, receipts, withdrawal, swap=swap)


def all_recorded(command: Command, at: datetime) -> list[Recorded]:
    """The transactions of a command that was applied just now, each with the items that are its own."""
    receipts: dict[UUID | None, list[Receipt]] = {}
    for item in command.items:
        receipts.setdefault(item.transaction_id, []).append(_new_receipt(item, at))
    recorded = []
    for transaction in command.transactions:
        own = tuple(receipts.get(transaction.id, ()))
        recorded.append(Recorded(transaction, at, tuple(receipt.state for receipt in own), own))
    return recorded


def _new_receipt(item: NewItem, at: datetime) -> Receipt:
    amount = Money(item.asset, item.micros)
    return Receipt(item_id=item.id, state=item.state, amount=amount, created_at=at, reason=item.reason)


async def get(tx: Tx, transaction_id: UUID, *, party: UUID | None = None) -> Recorded:
    """One transaction with its receipts; raises `TransactionNotFound`, also when `party` has no part in it."""
    found = (await get_all(tx, [transaction_id])).get(transaction_id)
    if found is None or party not in (None, found.transaction.consumer_id, found.transaction.counterparty_id):
        raise TransactionNotFound()
    return found


async def get_all(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Recorded]:
    """The transactions with these ids, with their receipts."""
    rows = list(await tx.execute(_HEADERS, {"id": list(ids)}))
    found: dict[UUID, list[Receipt]] = {}
    ours = _i.transaction_id == func.any(array_parameter(_i.transaction_id))
    for item in await tx.execute(_receipts(ours), {"transaction_id": list(ids)}):
        found.setdefault(item.transaction_id, []).append(_receipt(item))
    records = await _records(tx, rows)
    return {row.id: _read_back(row, found.get(row.id, ()), records) for row in rows}


def _headers() -> Select[Any]:
    r = refunded_transfers.c
    joined = transactions.outerjoin(refunded_transfers, r.transaction_id == _t.id)
    return select(*_t, r.refunded_micros).select_from(joined).where(_t.id == func.any(array_parameter(_t.id)))


_HEADERS = _headers()


@dataclass(frozen=True, slots=True)
class _Records:
    """The records that move together with some of the transactions, by their transaction."""

    withdrawals: Mapping[TransactionId, Withdrawal]
    swaps: Mapping[UUID, SwapQuote]


def _read_back(
    row: Any, receipts: Sequence[Receipt], records: _Records, states: Sequence[ItemState] | None = None
) -> Recorded:
    if states is None:
        states = [receipt.state for receipt in receipts]
    return Recorded(
        _transaction(row),
        row.created_at,
        tuple(states),
        tuple(receipts),
        records.withdrawals.get(row.id),
        row.refunded_micros or 0,
        records.swaps.get(row.id),
    )


async def receipts(tx: Tx, item_ids: Collection[UUID]) -> list[Receipt]:
    """The receipts of these items."""
    return [_receipt(row) for row in await tx.execute(_receipts(_i.id.in_(sorted(item_ids))))]


async def find(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Recorded]:
    """The transactions with these ids, without receipts."""
    rows = list(await tx.execute(_HEADERS, {"id": list(ids)}))
    states: dict[UUID, list[ItemState]] = {}
    for transaction_id, state in await tx.execute(
        select(_i.transaction_id, _i.state).where(_i.transaction_id.in_(sorted(ids)))
    ):
        states.setdefault(transaction_id, []).append(ItemState(state))
    records = await _records(tx, rows)
    return {row.id: _read_back(row, (), records, states.get(row.id, ())) for row in rows}


async def _records(tx: Tx, rows: Sequence[Any]) -> _Records:
    """What those that are withdrawals hold money for, and what those that are swaps bought."""

    def of_kind(kind: TransactionKind) -> list[UUID]:
        return [row.id for row in rows if row.kind == kind]

    return _Records(
        await withdrawals.by_transaction(tx, of_kind(TransactionKind.WITHDRAWAL)),
        await swaps.by_transaction(tx, of_kind(TransactionKind.SWAP)),
    )


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
    named = func.coalesce(_a.provider_reference, _a.reference).label("reference")
    attempt = (_a.provider, _a.rail.label("tried_on"), named, _a.fee_asset, _a.fee_micros, carried.call_index)
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
        rail=row.tried_on or "",
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
