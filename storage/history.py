"""Histories: a consumer's entries page by page, newest first, without ever counting or skipping rows.

A balance's versions have no gaps and its entries' times never run behind their versions. So a place in the history is
one version for each asset, a look-back of a given length is a range of versions, and the version at a given time is
found by halving. Whatever the filter, a page looks at `LOOK_BACK` entries of each asset at a time and goes on until it
is full, `MOST_LOOKS` times at most: only what is very rare in a history of millions gives short pages, never slow ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, ColumnElement, Select, and_, bindparam, case, func, literal, select, true

from domain.money import Asset
from domain.postings import TransactionKind
from domain.withdrawals import WithdrawalState
from storage.arrays import columns_of, given_rows
from storage.database import Tx
from storage.schema import entries, stablecoin_balances, transactions, withdrawals

LOOK_BACK = 10_000
MOST_LOOKS = 5

_e = entries.c
_b = stablecoin_balances.c
_BELOW = Column("below", BigInteger)
_LOWEST = Column("lowest", BigInteger)

Versions = Mapping[Asset, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which entries are wanted. None filters nothing."""

    kinds: frozenset[TransactionKind]
    withdrawal_states: frozenset[WithdrawalState] | None = None
    """Of withdrawals, only those in one of these states."""
    counterparty: UUID | None = None
    batch_id: UUID | None = None
    both_sides: bool = False
    """A swap has an entry in each of its two assets. Where both are listed, only the one of what was sold is wanted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a history to go on: below these versions, and down to those."""

    below: dict[Asset, int]
    start: dict[Asset, int]


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a history."""

    asset: Asset
    version: int
    transaction_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, newest first, and the place behind them unless the history ends here."""

    lines: list[Line]
    next: Place | None


async def newest(tx: Tx, consumer: UUID, assets: Collection[Asset]) -> dict[Asset, int]:
    """The versions of the consumer's balances that have a history."""
    statement = select(_b.asset, _b.version).where(_b.consumer_id == consumer, _b.asset.in_(sorted(assets)))
    return {Asset(asset): version for asset, version in await tx.execute(statement) if version > 0}


async def first_since(tx: Tx, consumer: UUID, versions: Versions, time: datetime) -> dict[Asset, int]:
    """The first version of each asset that is not older than `time`: one beyond the last if all are older."""
    if not versions:
        return {}
    rows = await tx.execute(
        _HALVING,
        {"consumer": consumer, "time": time, **columns_of(("asset", "below"), sorted(versions.items()))},
    )
    return {Asset(asset): version for asset, version in rows}


def _halving() -> Select[Any]:
    """A binary search for each asset, one probe of the primary key at each step."""
    given = given_rows((_e.asset, _BELOW))
    first = literal(1, BigInteger)
    search = select(given.c.asset, first.label("low"), (given.c.below + 1).label("high")).cte("search", recursive=True)
    middle = (search.c.low + search.c.high) // 2
    probe = (
        select(_e.created_at < bindparam("time"))
        .where(_e.consumer_id == bindparam("consumer"), _e.asset == search.c.asset, _e.version == middle)
        .correlate(search)
        .scalar_subquery()
    )
    # An entry that is not there any more was older than all that are.
    older = select(func.coalesce(probe, true()).label("than_time")).correlate(search).lateral("older")
    low = case((older.c.than_time, middle + 1), else_=search.c.low)
    high = case((older.c.than_time, search.c.high), else_=middle)
    step = select(search.c.asset, low, high).select_from(search.join(older, true()))
    search = search.union_all(step.where(search.c.low < search.c.high))
    return select(search.c.asset, search.c.low).where(search.c.low >= search.c.high)


_HALVING = _halving()


async def page(tx: Tx, consumer: UUID, place: Place, filters: Filters, size: int) -> Page:
    """The next lines of the history, `size` at most; fewer at its end, or where too few were found in too many."""
    lines: list[Line] = []
    following: Place | None = place
    for _ in range(MOST_LOOKS):
        assert following is not None
        found = await _look(tx, consumer, following, filters, size - len(lines))
        lines += found.lines
        following = found.next
        if following is None or len(lines) == size:
            break
    return Page(lines, following)


async def _look(tx: Tx, consumer: UUID, place: Place, filters: Filters, size: int) -> Page:
    """One look back, over the next `LOOK_BACK` entries of each asset."""
    windows = {asset: max(place.start[asset], below - LOOK_BACK) for asset, below in place.below.items()}
    found = await _lines(tx, consumer, place, windows, filters, size + 1)
    unread = {
        asset: version
        for asset, version in windows.items()
        if version > place.start[asset] and sum(line.asset is asset for line in found) <= size
    }
    horizon = await _times(tx, consumer, unread)
    # What stands beyond a window may be newer than older lines of other assets, so those have to wait.
    limit = max(horizon.values(), default=None)
    lines = [line for line in found if limit is None or line.created_at >= limit][:size]
    below = dict(place.below)
    for line in lines:
        below[line.asset] = line.version
    if len(lines) == size < len(found):
        return Page(lines, Place(below, place.start))
    below |= {asset: windows[asset] for asset in unread if horizon.get(asset, limit) == limit}
    return Page(lines, Place(below, place.start) if unread else None)


async def _lines(tx: Tx, consumer: UUID, place: Place, windows: Versions, filters: Filters, count: int) -> list[Line]:
    rows = [(asset, below, windows[asset]) for asset, below in sorted(place.below.items())]
    if not rows or not filters.kinds:
        return []
    given = given_rows((_e.asset, _BELOW, _LOWEST))
    wanted = (
        select(_e.asset, _e.version, _e.transaction_id, _e.created_at)
        .where(_e.consumer_id == consumer, _e.asset == given.c.asset, _wanted(filters))
        .where(_e.version < given.c.below, _e.version >= given.c.lowest)
        .order_by(_e.version.desc())
        .limit(count)
        .lateral("wanted")
    )
    order = (wanted.c.created_at.desc(), wanted.c.asset, wanted.c.version.desc())
    statement = select(*wanted.c).select_from(given.join(wanted, true())).order_by(*order)
    found = await tx.execute(statement, columns_of(("asset", "below", "lowest"), rows))
    return [Line(Asset(row.asset), row.version, row.transaction_id, row.created_at) for row in found]


def _wanted(filters: Filters) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [_e.kind.in_(sorted(filters.kinds))]
    if filters.withdrawal_states is not None:
        w = withdrawals.c
        in_state = (w.transaction_id == _e.transaction_id) & w.state.in_(sorted(filters.withdrawal_states))
        found = select(literal(1)).select_from(withdrawals).where(in_state).exists()
        conditions.append((_e.kind != TransactionKind.WITHDRAWAL) | found)
    if not filters.both_sides:
        conditions.append((_e.kind != TransactionKind.SWAP) | (_e.available_delta < 0))
    if filters.counterparty is not None:
        conditions.append(_e.counterparty_id == filters.counterparty)
    if filters.batch_id is not None:
        header = transactions.c
        in_batch = (header.id == _e.transaction_id) & (header.batch_id == filters.batch_id)
        conditions.append(select(literal(1)).select_from(transactions).where(in_batch).exists())
    return and_(*conditions)


async def _times(tx: Tx, consumer: UUID, versions: Versions) -> dict[Asset, datetime]:
    """When these versions came to be."""
    if not versions:
        return {}
    given = given_rows((_e.asset, _BELOW))
    match = (_e.consumer_id == consumer) & (_e.asset == given.c.asset) & (_e.version == given.c.below)
    statement = select(_e.asset, _e.created_at).select_from(given.join(entries, match))
    rows = await tx.execute(statement, columns_of(("asset", "below"), sorted(versions.items())))
    return {Asset(asset): time for asset, time in rows}
