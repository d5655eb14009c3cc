"""What has not settled: the operators' list of open items with every attempt, and the way back into the queue.

The open items are few beside the settled ones and stand together in a partial index, so the list is made by reading
them all, oldest first. It costs the hot path no index of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, tuple_, update

from domain.adjustments import refuse_unless_at_rest
from domain.errors import SettlementNotFound, SettlementNotRetryable
from domain.identity import AttemptId, HolderId
from domain.money import Asset, Money
from domain.settlement import AttemptState, ItemState
from storage import transactions
from storage.database import Tx
from storage.schema import attempt_items, settlement_attempts, settlement_items
from storage.settlements import OPEN
from storage.transactions import Receipt

_i = settlement_items.c
_a = settlement_attempts.c
_carried = attempt_items.c

_PROVEN_DEAD = frozenset({AttemptState.DEAD, AttemptState.FAILED})


@dataclass(frozen=True, slots=True)
class AttemptRead:
    """One attempt, as operators see it."""

    id: AttemptId
    provider: str
    rail: str
    state: AttemptState
    reference: str
    valid_before: datetime
    reason: str
    signed_at: datetime
    broadcast_at: datetime | None


@dataclass(frozen=True, slots=True)
class UnsettledItem:
    """A movement that is not final on its rail."""

    receipt: Receipt
    transaction_id: UUID | None
    sender: HolderId
    recipient: HolderId
    sender_seq: int
    attempts: tuple[AttemptRead, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the list to go on: behind this item."""

    created_at: datetime
    item_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which items are wanted. Empty filters nothing."""

    states: frozenset[ItemState] = frozenset()
    provider: str = ""


async def page(tx: Tx, filters: Filters, *, after: Place | None, limit: int) -> list[UnsettledItem]:
    """Open items, oldest first."""
    statement = select(_i.id).where(_wanted(filters))
    if after is not None:
        statement = statement.where(tuple_(_i.created_at, _i.id) > (after.created_at, after.item_id))
    ids = list((await tx.execute(statement.order_by(_i.created_at, _i.id).limit(limit))).scalars())
    return await _items(tx, ids)


async def count(tx: Tx, filters: Filters) -> int:
    """How many there are altogether."""
    statement = select(func.count()).select_from(settlement_items).where(_wanted(filters))
    return (await tx.execute(statement)).scalar_one()


async def find(tx: Tx, item_id: UUID) -> UnsettledItem:
    """One item, whether open or not; raises `SettlementNotFound`."""
    found = await _items(tx, [item_id])
    if not found:
        raise SettlementNotFound()
    return found[0]


async def retry(tx: Tx, item_id: UUID) -> bool:
    """Let an item be looked at again at once. False: it waited for nothing but its turn.

    Raises `SettlementNotRetryable` when something of it may still happen (money rule 1).
    """
    locked = select(_i.state, _i.not_before, _i.failures).where(_i.id == item_id).with_for_update(key_share=True)
    row = (await tx.execute(locked)).first()
    if row is None:
        raise SettlementNotFound()
    state = ItemState(row.state)
    refuse_unless_at_rest(state)
    # Read only now, behind the lock under which attempts come into being (money rule 20).
    if any(attempt.state not in _PROVEN_DEAD for attempt in (await _attempts(tx, [item_id])).get(item_id, ())):
        raise SettlementNotRetryable(state, "attempt_not_proven_dead")
    if state is ItemState.PENDING and row.not_before is None and row.failures == 0:
        return False
    back = update(settlement_items).where(_i.id == item_id)
    await tx.execute(back.values(state=ItemState.PENDING, not_before=None, failures=0, reason=""))
    return True


def _wanted(filters: Filters) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [OPEN]
    if filters.states:
        conditions.append(_i.state.in_(sorted(filters.states)))
    if filters.provider:
        there = (_carried.item_id == _i.id) & (_carried.attempt_id == _a.id) & (_a.provider == filters.provider)
        conditions.append(select(_a.id).where(there).exists())
    return and_(*conditions)


async def _items(tx: Tx, ids: Collection[UUID]) -> list[UnsettledItem]:
    receipts = {receipt.item_id: receipt for receipt in await transactions.receipts(tx, ids)}
    attempts = await _attempts(tx, ids)
    columns = (_i.id, _i.transaction_id, _i.sender, _i.recipient, _i.sender_seq)
    rows = await tx.execute(select(*columns).where(_i.id.in_(sorted(ids))).order_by(_i.created_at, _i.id))
    return [
        UnsettledItem(
            receipt=receipts[row.id],
            transaction_id=row.transaction_id,
            sender=row.sender,
            recipient=row.recipient,
            sender_seq=row.sender_seq,
            attempts=tuple(attempts.get(row.id, ())),
        )
        for row in rows
    ]


async def _attempts(tx: Tx, ids: Collection[UUID]) -> dict[UUID, list[AttemptRead]]:
    """Every attempt of each item, oldest first."""
    statement = (
        select(_carried.item_id, *settlement_attempts.c)
        .join(settlement_attempts, _a.id == _carried.attempt_id)
        .where(_carried.item_id.in_(sorted(ids)))
        .order_by(_a.signed_at, _a.id)
    )
    found: dict[UUID, list[AttemptRead]] = {}
    for row in await tx.execute(statement):
        found.setdefault(row.item_id, []).append(_attempt(row))
    return found


def _attempt(row: Any) -> AttemptRead:
    return AttemptRead(
        id=row.id,
        provider=row.provider,
        rail=row.rail,
        state=AttemptState(row.state),
        reference=row.reference,
        valid_before=row.valid_before,
        reason=row.last_error,
        signed_at=row.signed_at,
        broadcast_at=row.broadcast_at,
    )


async def going_out(tx: Tx, sender: HolderId) -> Money | None:
    """Something that the holder has still on its way out, if there is anything."""
    statement = select(_i.asset, _i.micros).where(OPEN, _i.sender == sender).order_by(_i.asset).limit(1)
    row = (await tx.execute(statement)).first()
    return Money(Asset(row.asset), row.micros) if row else None
