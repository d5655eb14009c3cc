"""Where the money stands. The rows are changed by the ledger's commits alone; workers reserve in them and read them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Select, bindparam, select, update

from domain.identity import HolderId
from domain.money import Asset
from domain.settlement import QueueKey, Rail
from storage.database import Tx
from storage.given import GivenRows, given_ids, is_given
from storage.schema import custody_positions, tempo_addresses, wallets

_c = custody_positions.c


@dataclass(frozen=True, slots=True)
class Position:
    """What stands on a rail for a holder, what is in flight out of it, and whether the operator may move it."""

    holder: HolderId
    asset: Asset
    micros: int
    reserved_micros: int
    activated: bool

    @property
    def spendable(self) -> int:
        """What no chain transaction in flight takes already (money rule 8)."""
        return self.micros - self.reserved_micros


_KEYS = GivenRows(_c.holder_id, _c.asset)
_DEBITS = GivenRows(_c.holder_id, _c.asset, Column("debit", BigInteger))


def _is_given(given: GivenRows) -> ColumnElement[bool]:
    return (_c.holder_id == given.c.holder_id) & (_c.asset == given.c.asset) & (_c.rail == bindparam("on_rail"))


def _positions() -> Select[Any]:
    columns = select(_c.holder_id, _c.asset, _c.micros, _c.reserved_micros, _c.activated)
    found = columns.select_from(_KEYS.table.join(custody_positions, _is_given(_KEYS)))
    return found.order_by(_c.holder_id, _c.rail, _c.asset)


_POSITIONS = _positions()
_LOCKED_POSITIONS = _POSITIONS.with_for_update(key_share=True, of=custody_positions)
_FREE_POSITIONS = _POSITIONS.with_for_update(key_share=True, of=custody_positions, skip_locked=True)


async def positions(
    tx: Tx, rail: Rail, keys: Collection[QueueKey], *, lock: bool = False, skip_locked: bool = False
) -> dict[QueueKey, Position]:
    """The named positions, as far as there are any. Locks are taken in the ledger's order."""
    if not keys:
        return {}
    locked = _FREE_POSITIONS if skip_locked else _LOCKED_POSITIONS
    rows = await tx.execute(locked if lock else _POSITIONS, _KEYS.bind(keys, on_rail=rail))
    found = (Position(row[0], Asset(row[1]), row[2], row[3], row[4]) for row in rows)
    return {(position.holder, position.asset): position for position in found}


_RESERVE = update(custody_positions).where(_is_given(_DEBITS))
_RESERVE = _RESERVE.values(reserved_micros=_c.reserved_micros + _DEBITS.c.debit)


async def reserve(tx: Tx, rail: Rail, debits: dict[QueueKey, int]) -> None:
    """Add debits in flight (negative: take them back). The caller holds the rows' locks."""
    if not debits:
        return
    rows = [(holder, asset, micros) for (holder, asset), micros in debits.items()]
    await tx.execute(_RESERVE, _DEBITS.bind(rows, on_rail=rail))


async def mark_activated(tx: Tx, rail: Rail, keys: Collection[QueueKey], *, activated: bool = True) -> None:
    """Whether the operator may move these positions, as the allowances at a finalized block say."""
    if not keys:
        return
    statement = update(custody_positions).where(_is_given(_KEYS)).values(activated=activated)
    await tx.execute(statement, _KEYS.bind(sorted(keys), on_rail=rail))


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands on one rail for a holder."""

    holder: HolderId
    rail: Rail
    asset: Asset
    micros: int
    reserved_micros: int = 0

    @property
    def spendable(self) -> int:
        """What nothing in flight takes already."""
        return self.micros - self.reserved_micros


async def standing(tx: Tx, holders: Collection[HolderId]) -> list[Standing]:
    """Everything that stands anywhere for these holders."""
    columns = (_c.holder_id, _c.rail, _c.asset, _c.micros, _c.reserved_micros)
    found = select(*columns).where(_c.holder_id.in_(sorted(holders)), _c.micros > 0)
    rows = await tx.execute(found.order_by(_c.holder_id, _c.asset, _c.rail))
    return [Standing(row[0], Rail(row[1]), Asset(row[2]), row[3], row[4]) for row in rows]


@dataclass(frozen=True, slots=True)
class TempoAddress:
    """A holder's address on Tempo; `index` is None for the operator's own."""

    holder: HolderId
    address: str
    index: int | None
    state: str = "assigned"


_w = wallets.c
_WALLETS = select(_w.consumer_id, _w.tempo_address, _w.derivation_index).where(is_given(_w.consumer_id))


async def addresses_of(tx: Tx, holders: Collection[HolderId]) -> dict[HolderId, TempoAddress]:
    """The Tempo addresses of consumers."""
    rows = await tx.execute(_WALLETS, given_ids(holders))
    return {row[0]: TempoAddress(row[0], row[1], row[2]) for row in rows}


async def operator_addresses(tx: Tx) -> dict[HolderId, TempoAddress]:
    """The operator's own addresses, by which of its two holders they belong to."""
    t = tempo_addresses.c
    rows = await tx.execute(select(t.holder_id, t.address).where(t.state == "operator").order_by(t.holder_id))
    return {row[0]: TempoAddress(row[0], row[1], None, "operator") for row in rows}


_t = tempo_addresses.c
_ADDRESSES = GivenRows(_t.address)
_HOLDERS = select(_t.holder_id, _t.address, _t.derivation_index, _t.state).select_from(
    _ADDRESSES.table.join(tempo_addresses, _t.address == _ADDRESSES.c.address)
)


async def holders_of(tx: Tx, addresses: Collection[str]) -> dict[str, TempoAddress]:
    """Whose the addresses are, for those that are ours, assigned or not."""
    rows = await tx.execute(_HOLDERS, _ADDRESSES.bind((address,) for address in addresses))
    return {row[1]: TempoAddress(row[0], row[1], row[2], row[3]) for row in rows}


async def holders_on(tx: Tx, rail: Rail, after: HolderId, limit: int) -> list[HolderId]:
    """Who has or had a position on that rail, in order, behind that holder."""
    found = select(_c.holder_id).where(_c.rail == rail, _c.holder_id > after).distinct()
    rows = await tx.execute(found.order_by(_c.holder_id).limit(limit))
    return [row[0] for row in rows]
