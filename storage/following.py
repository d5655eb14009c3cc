"""A history read forward: the entries behind a place, oldest first, as streams and statements tell them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, select, true, tuple_

from domain.identity import ItemId
from domain.money import MAX_MICROS, Asset
from domain.postings import TransactionKind
from domain.settlement import ItemState
from domain.streams import as_told
from storage.arrays import columns_of, given_rows
from storage.database import Tx
from storage.schema import entries, settlement_items

_e = entries.c
_i = settlement_items.c
_BEHIND = Column("behind", BigInteger)
_LAST = Column("last", BigInteger)


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One entry, with the balance it left."""

    asset: Asset
    version: int
    transaction_id: UUID
    kind: TransactionKind
    available_after: int
    held_after: int
    created_at: datetime


async def entries_behind(
    tx: Tx, consumer: UUID, behind: Mapping[Asset, int], *, last: Mapping[Asset, int] | None = None, limit: int
) -> list[EntryLine]:
    """The next entries of these assets, `limit` at most, in the order of recording; none beyond `last`.

    One statement is one snapshot: of a transaction that touches two assets, both entries are seen or none.
    """
    rows = [(asset, version, (last or {}).get(asset, MAX_MICROS)) for asset, version in sorted(behind.items())]
    given = given_rows((_e.asset, _BEHIND, _LAST))
    columns = (
        _e.asset,
        _e.version,
        _e.transaction_id,
        _e.kind,
        _e.available_after,
        _e.held_after,
        _e.created_at,
    )
    following = (
        select(*columns)
        .where(_e.consumer_id == consumer, _e.asset == given.c.asset)
        .where(_e.version > given.c.behind, _e.version <= given.c.last)
        .order_by(_e.version)
        .limit(limit)
        .lateral("following")
    )
    order = (following.c.created_at, following.c.asset, following.c.version)
    statement = select(*following.c).select_from(given.join(following, true())).order_by(*order).limit(limit)
    found = await tx.execute(statement, columns_of(("asset", "behind", "last"), rows))
    return [EntryLine(Asset(row[0]), row[1], row[2], TransactionKind(row[3]), *row[4:]) for row in found]


async def transactions_of(
    tx: Tx, consumer: UUID, named: Collection[tuple[Asset, int]]
) -> dict[tuple[Asset, int], UUID]:
    """The transactions behind these entries."""
    if not named:
        return {}
    wanted = tuple_(_e.asset, _e.version).in_(sorted(named))
    statement = select(_e.asset, _e.version, _e.transaction_id).where(_e.consumer_id == consumer, wanted)
    return {(Asset(row[0]), row[1]): row[2] for row in await tx.execute(statement)}


async def item_states(tx: Tx, transaction_ids: Collection[UUID]) -> dict[UUID, dict[ItemId, ItemState]]:
    """How the items of these transactions stand, as streams tell it. What has none is empty."""
    states: dict[UUID, dict[ItemId, ItemState]] = {transaction_id: {} for transaction_id in transaction_ids}
    if not transaction_ids:
        return states
    statement = select(_i.transaction_id, _i.id, _i.state).where(_i.transaction_id.in_(sorted(transaction_ids)))
    for transaction_id, item_id, state in await tx.execute(statement.order_by(_i.transaction_id, _i.position, _i.id)):
        states[transaction_id][item_id] = as_told(ItemState(state))
    return states
