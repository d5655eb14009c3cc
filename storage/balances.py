"""Balances as they are read: what a consumer holds of each asset, as of one version.

Read from the primary, always: a replica may lag behind the caller's own last write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Select, cast, func, literal_column, select

from domain.commands import BalanceKey
from domain.money import Asset
from domain.settlement import FINAL
from storage.arrays import columns_of, given_rows
from storage.committer import CommitterConnection
from storage.database import Tx
from storage.ledger.statements import Statement
from storage.schema import custody_positions, settlement_items, stablecoin_balances

_b = stablecoin_balances.c
_VERSIONS = Column("versions", BigInteger)
_NOTHING: Any = literal_column("0")


@dataclass(frozen=True, slots=True)
class BalanceReading:
    """One asset of a consumer. `settling_micros` is the part of what came in that no rail has confirmed yet."""

    consumer_id: UUID
    asset: Asset
    available_micros: int
    held_micros: int
    settling_micros: int
    version: int
    changed_at: datetime


async def of_consumers(tx: Tx, consumers: Collection[UUID]) -> dict[BalanceKey, BalanceReading]:
    """All balances of these consumers, in one statement and so in one snapshot. Whoever has no wallet is left out."""
    if not consumers:
        return {}
    return _readings(await tx.execute(_READ, {"consumer_id": sorted(consumers)}))


def _read() -> Select[Any]:
    given = given_rows([_b.consumer_id])
    columns = (
        _b.consumer_id,
        _b.asset,
        _b.available_micros,
        _b.held_micros,
        func.greatest(_owed() - _standing() + _going_out(), _NOTHING),
        _b.version,
        _b.changed_at,
    )
    return select(*columns).select_from(given.join(stablecoin_balances, _b.consumer_id == given.c.consumer_id))


# What comes in is not summed up item by item, which would take an index on every item's recipient on the hot path. It
# follows from the equation that holds for every consumer (money rule 16): owed = standing + coming in - going out.


def _owed() -> Any:
    return _b.available_micros + _b.held_micros + _b.unswept_fee_micros


def _standing() -> Any:
    c = custody_positions.c
    return _total(select(func.sum(c.micros)).where(c.holder_id == _b.consumer_id, c.asset == _b.asset))


def _going_out() -> Any:
    i = settlement_items.c
    of_balance = (i.sender == _b.consumer_id) & (i.asset == _b.asset)
    final: list[Any] = [literal_column(f"'{state}'") for state in sorted(FINAL)]
    return _total(select(func.sum(i.micros)).where(of_balance, i.state.not_in(final), i.counts))


def _total(summed: Select[Any]) -> Any:
    return func.coalesce(cast(summed.scalar_subquery(), BigInteger), _NOTHING)


_READ = _read()
_READ_TOGETHER = Statement(_READ, [_b.consumer_id])


async def read_together(
    connection: CommitterConnection, consumers: Collection[UUID]
) -> dict[BalanceKey, BalanceReading]:
    """`of_consumers` on a connection that is kept for nothing else, which costs a third of one from the pool."""
    trip = connection.round_trip()
    answer = _READ_TOGETHER.add_to(trip, [(consumer,) for consumer in sorted(consumers)])
    await trip.send()
    return _readings(answer.rows)


def _readings(rows: Iterable[Sequence[Any]]) -> dict[BalanceKey, BalanceReading]:
    found = (BalanceReading(row[0], Asset(row[1]), *row[2:]) for row in rows)
    return {(reading.consumer_id, reading.asset): reading for reading in found}


async def changed(tx: Tx, known: Mapping[UUID, int]) -> list[UUID]:
    """Whose balances moved on: those whose versions no longer add up to what is known.

    Versions only ever rise, so their sum changes with each of them. It costs a probe of the primary key for each
    consumer, and sends back only those who have news.
    """
    if not known:
        return []
    given = given_rows([_b.consumer_id, _VERSIONS])
    versions = select(func.sum(_b.version)).where(_b.consumer_id == given.c.consumer_id).scalar_subquery()
    statement = select(given.c.consumer_id).where(versions != given.c.versions)
    rows = await tx.execute(statement, columns_of(("consumer_id", "versions"), sorted(known.items())))
    return [row[0] for row in rows]
