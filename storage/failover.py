"""Failover: items that wait on one rail and leave it for another, and positions that come back.

Everything a reroute needs is one commit: it is checked under the item's lock that nothing was ever started which could
still happen (money rules 1 and 3), the position that pays is reserved (rule 9), and the order is there before anybody
sends it (rule 4). Locks are taken in the ledger's order, and what somebody else holds is left for the next round.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, insert, literal, select, tuple_, update

from domain.failover import Abroad, ItemPurpose, Waiting
from domain.identity import FEE_PAYER, OPERATOR, HolderId, ItemId
from domain.money import Asset, Money
from domain.settlement import AttemptState, ItemState, QueueKey, Rail
from storage import custody
from storage.database import Tx
from storage.given import GivenRows, given_ids, is_given
from storage.schema import attempt_items, custody_positions, settlement_attempts, settlement_items
from storage.settlements import OPEN

_i = settlement_items.c
_a = settlement_attempts.c
_c = custody_positions.c

Place = tuple[UUID, str]
BEFORE_CONSUMERS: Place = (FEE_PAYER, "")

_QUEUE_ORDER = (_i.sender, _i.asset, _i.sender_seq, _i.position, _i.id)
_WAITING_COLUMNS = (_i.id, _i.sender, _i.recipient, _i.asset, _i.micros, _i.transaction_id, _i.reason)


def _may_leave() -> ColumnElement[bool]:
    """Payments between consumers that wait, and that no other rail was ever tried for."""
    between_consumers = (_i.sender > FEE_PAYER) & (_i.recipient > FEE_PAYER)
    waits = (_i.state == ItemState.PENDING) & (_i.rail == Rail.TEMPO) & _i.counts
    alone = _i.group_id.is_(None) & (_i.purpose == ItemPurpose.PAYMENT)
    return waits & between_consumers & alone & ~_tried(_a.rail != Rail.TEMPO)


def _tried(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there was an attempt of that kind for the item."""
    carried = (attempt_items.c.item_id == _i.id) & (attempt_items.c.attempt_id == _a.id)
    return select(_a.id).where(carried, which).exists()


def _unproven() -> ColumnElement[bool]:
    """Whether an attempt may still land: anything but proven dead, or finalized with a failure (rules 1 and 3)."""
    return _tried(_a.state.not_in([AttemptState.DEAD, AttemptState.FAILED]))


def _read_waiting() -> Select[Any]:
    after = tuple_(_i.sender, _i.asset) > tuple_(bindparam("sender"), bindparam("asset"))
    carried = _i.asset.in_(bindparam("assets", expanding=True))
    statement = select(*_WAITING_COLUMNS).where(OPEN, after, carried, _may_leave(), ~_unproven())
    statement = statement.where(_i.created_at <= bindparam("before"))
    return statement.order_by(*_QUEUE_ORDER).limit(bindparam("count"))


_WAITING = _read_waiting()


async def waiting(tx: Tx, assets: Collection[Asset], *, before: datetime, after: Place, limit: int) -> list[Waiting]:
    """Items that have waited since before that time and could go another way, queue after queue."""
    given = {"sender": after[0], "asset": after[1], "assets": sorted(assets), "before": before, "count": limit}
    return [_waiting(row) for row in await tx.execute(_WAITING, given)]


def _waiting(row: Any) -> Waiting:
    return Waiting(
        item_id=row.id,
        sender=row.sender,
        recipient=row.recipient,
        amount=Money(Asset(row.asset), row.micros),
        transaction_id=row.transaction_id,
        reason=row.reason,
    )


async def lock_float(tx: Tx, rail: Rail) -> dict[QueueKey, int]:
    """Lock the operator's positions there, and say what is free of each. Nothing: the operator has none.

    Whoever routes items to that rail waits here for whoever does it already, so that nobody spends the float, a wallet
    of the pool or a consumer's position there a second time.
    """
    found = await custody.positions(tx, rail, sorted((OPERATOR, asset) for asset in Asset), lock=True)
    return {key: position.spendable for key, position in found.items()}


async def lock_positions(tx: Tx, rail: Rail, keys: Collection[QueueKey]) -> dict[QueueKey, int]:
    """Lock consumers' positions there, as far as nobody holds them, and say what is free of each."""
    found = await custody.positions(tx, rail, sorted(keys), lock=True, skip_locked=True)
    return {key: position.spendable for key, position in found.items()}


async def lock_queues(tx: Tx, rail: Rail, queues: Collection[QueueKey]) -> set[QueueKey]:
    """Lock these queues on the rail they wait for; those that are locked now, or that have no position to be locked."""
    keys = sorted(queues)
    there = await custody.positions(tx, rail, keys)
    locked = await custody.positions(tx, rail, keys, lock=True, skip_locked=True)
    return {key for key in keys if key in locked or key not in there}


_LOCKED = (
    select(*_WAITING_COLUMNS)
    .where(is_given(_i.id), _may_leave(), ~_unproven())
    .order_by(_i.id)
    .with_for_update(key_share=True, of=settlement_items, skip_locked=True)
)
_STILL = select(_i.id).where(is_given(_i.id), _may_leave(), ~_unproven())


async def lock_waiting(tx: Tx, items: Collection[Waiting]) -> set[ItemId]:
    """Lock the items; those of them that may still leave, judged by a snapshot that is younger than the locks."""
    locked = [row.id for row in await tx.execute(_LOCKED, given_ids(item.item_id for item in items))]
    rows = await tx.execute(_STILL, given_ids(locked))
    return {row.id for row in rows}


async def busy_wallets(tx: Tx, holders: Collection[HolderId]) -> set[HolderId]:
    """Whose wallet with the custodian has an order under way that is not final."""
    under_way = (_a.state.in_([AttemptState.SIGNED, AttemptState.BROADCAST])) & (_a.rail != Rail.TEMPO)
    statement = select(_a.holder_id).where(under_way, is_given(_a.holder_id))
    return {row[0] for row in await tx.execute(statement, given_ids(holders))}


# --- leaving ----------------------------------------------------------------------------------------------------------

_LEAVING = GivenRows(_i.id, _i.sender, _i.attempt_id, _i.route)
_LEAVE = (
    update(settlement_items)
    .where(_i.id == _LEAVING.c.id)
    .values(
        rail=bindparam("to_rail"),
        sender=_LEAVING.c.sender,
        attempt_id=_LEAVING.c.attempt_id,
        route=_LEAVING.c.route,
        state=ItemState.SIGNED,
        lease_token=_i.lease_token + 1,
        lease_until=None,
        not_before=None,
        reason="",
    )
)
Leaving = tuple[ItemId, HolderId, UUID, Mapping[str, Any] | None]
"""An item, who pays for it there, the attempt that carries it, and the route as facts, where one was chosen."""


async def leave(tx: Tx, rail: Rail, leaving: Sequence[Leaving]) -> None:
    """Put locked items onto another rail, each under an order that this database transaction persists, too."""
    if leaving:
        await tx.execute(_LEAVE, _LEAVING.bind(leaving, to_rail=rail))


_OWED = GivenRows(_i.id, _i.for_item_id, _i.sender)
_ORIGINAL = settlement_items.alias("original")
_SAME = ("asset", "micros", "sender_seq", "position")
_OWE = insert(settlement_items).from_select(
    ("id", "sender", "for_item_id", *_SAME, "recipient", "counts", "state", "purpose", "created_at"),
    select(
        _OWED.c.id,
        _OWED.c.sender,
        _OWED.c.for_item_id,
        *(_ORIGINAL.c[name] for name in _SAME),
        literal(OPERATOR),
        literal(True),
        literal(str(ItemState.PENDING)),
        literal(str(ItemPurpose.REIMBURSEMENT)),
        bindparam("now", type_=_i.created_at.type),
    ).select_from(_OWED.table.join(_ORIGINAL, _ORIGINAL.c.id == _OWED.c.for_item_id)),
)


async def owe(tx: Tx, owed: Sequence[tuple[ItemId, ItemId, HolderId]], *, now: datetime) -> None:
    """Have senders reimburse the operator for what its float pays: (new item, original item, sender).

    The new item stands in the very place that the original had in the sender's queue (money rule 7).
    """
    if owed:
        await tx.execute(_OWE, _OWED.bind(owed, now=now))


_NOTED = GivenRows(_i.id, _i.reason)
_NOTE = update(settlement_items).where(_i.id == _NOTED.c.id, _i.state == ItemState.PENDING)
_NOTE = _NOTE.values(reason=_NOTED.c.reason)


async def note_reasons(tx: Tx, reasons: Sequence[tuple[ItemId, str]]) -> None:
    """Say why items wait. The caller holds their locks."""
    if reasons:
        await tx.execute(_NOTE, _NOTED.bind(sorted(reasons)))


# --- coming back ------------------------------------------------------------------------------------------------------


def _read_abroad() -> Select[Any]:
    """What stands for consumers on that rail, free to move, beside what the head of their queue on Tempo needs."""
    home = custody_positions.alias("home").c
    at_home = select(home.micros - home.reserved_micros)
    at_home = at_home.where(home.holder_id == _c.holder_id, home.asset == _c.asset, home.rail == Rail.TEMPO)
    head = (
        select(_i.micros)
        .where(OPEN, _i.sender == _c.holder_id, _i.asset == _c.asset, _i.rail == Rail.TEMPO)
        .where(_i.state != ItemState.BLOCKED)
        .order_by(_i.sender_seq, _i.position, _i.id)
        .limit(1)
    )
    columns = (_c.holder_id, _c.asset, (_c.micros - _c.reserved_micros).label("free"))
    statement = select(*columns, at_home.scalar_subquery().label("home"), head.scalar_subquery().label("head"))
    free = (_c.rail == bindparam("on_rail")) & (_c.holder_id > FEE_PAYER) & (_c.micros > _c.reserved_micros)
    return statement.where(free).order_by(_c.holder_id, _c.asset).limit(bindparam("count"))


_ABROAD = _read_abroad()


async def abroad(tx: Tx, rail: Rail, *, limit: int = 10_000) -> list[Abroad]:
    """What could be brought home."""
    rows = await tx.execute(_ABROAD, {"on_rail": rail, "count": limit})
    return [
        Abroad(row.holder_id, Money(Asset(row.asset), row.free), row.head is not None and (row.home or 0) < row.head)
        for row in rows
    ]


Pair = tuple[ItemId, ItemId, HolderId, Money, UUID]
"""The item out, the item back, whose they are, how much, and the attempt that carries the first."""


async def bring_home(tx: Tx, rail: Rail, pairs: Sequence[Pair], *, now: datetime) -> None:
    """Consumer to operator there, operator to consumer here. The first half goes under a persisted order at once."""
    rows = []
    for out, back, holder, amount, attempt_id in pairs:
        shared = {
            "asset": amount.asset,
            "micros": amount.micros,
            "sender_seq": 0,
            "counts": True,
            "purpose": ItemPurpose.REPATRIATION,
            "created_at": now,
        }
        there = {"id": out, "sender": holder, "recipient": OPERATOR, "rail": rail, "position": 0}
        here = {"id": back, "sender": OPERATOR, "recipient": holder, "rail": Rail.TEMPO, "position": 1}
        rows.append({**shared, **there, "state": ItemState.SIGNED, "attempt_id": attempt_id, "for_item_id": None})
        rows.append({**shared, **here, "state": ItemState.PENDING, "attempt_id": None, "for_item_id": out})
    if rows:
        await tx.execute(insert(settlement_items), rows)


_RESTARTABLE = (
    select(*_WAITING_COLUMNS)
    .where(OPEN, _i.rail == bindparam("on_rail"), _i.state == ItemState.PENDING)
    .where(_i.not_before.is_(None) | (_i.not_before <= bindparam("now")))
    .where(~_unproven())
    .order_by(_i.id)
    .limit(bindparam("count"))
    .with_for_update(key_share=True, of=settlement_items, skip_locked=True)
)


async def restartable(tx: Tx, rail: Rail, *, now: datetime, limit: int) -> list[Waiting]:
    """Items of that rail whose last order ended without effect: they may be ordered anew, and are locked."""
    rows = await tx.execute(_RESTARTABLE, {"on_rail": rail, "now": now, "count": limit})
    return [_waiting(row) for row in rows]
