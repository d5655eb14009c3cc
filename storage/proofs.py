"""The books checked against themselves, in SQL: what must be true of every holder, and who breaks it.

All of it is read in one REPEATABLE READ snapshot, so that the sums belong together while commits go on. The names of
the equations are those of the money rules: 16 for consumers, 17 for the operator.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, Subquery, cast, func, insert, literal, select, union_all
from sqlalchemy.dialects.postgresql import JSONB

from domain.identity import FEE_PAYER, OPERATOR, HolderId
from domain.money import Asset
from domain.postings import AccountKind
from domain.settlement import FINAL
from storage.database import Tx
from storage.schema import (
    breaks,
    custody_positions,
    entries,
    proofs,
    settlement_items,
    stablecoin_balances,
    system_balances,
    system_entries,
    tempo_addresses,
)

_b = stablecoin_balances.c
_c = custody_positions.c
_i = settlement_items.c

_EXTERNAL = [kind for kind in AccountKind if kind.startswith("external:")]


@dataclass(frozen=True, slots=True)
class Difference:
    """One holder for whom an equation does not hold. Amounts in micros."""

    holder: HolderId
    asset: Asset
    expected: int
    found: int
    rail: str = ""
    """Where it was found, if the equation is of one rail."""


def _system() -> Subquery:
    """The operator's accounts: rolled up plus what was appended since."""
    rolled = select(system_balances.c.kind, system_balances.c.asset, system_balances.c.micros)
    fresh = select(system_entries.c.kind, system_entries.c.asset, system_entries.c.delta_micros)
    rows = union_all(rolled, fresh).subquery()
    return select(rows.c.kind, rows.c.asset, _sum(rows.c.micros).label("micros")).group_by(*rows.c[:2]).subquery()


def _sum(column: Any) -> Any:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


async def ledger_sums(tx: Tx) -> dict[Asset, int]:
    """Σ of all accounts for each asset, consumers' and the operator's: always zero."""
    consumers = select(_b.asset, (_b.available_micros + _b.held_micros).label("micros"))
    system = _system()
    rows = union_all(consumers, select(system.c.asset, system.c.micros)).subquery()
    found = await tx.execute(select(rows.c.asset, _sum(rows.c.micros)).group_by(rows.c.asset))
    return {Asset(asset): micros for asset, micros in found}


async def owed_to_consumers(tx: Tx) -> dict[Asset, int]:
    """Σ of consumers' balances."""
    statement = select(_b.asset, _sum(_b.available_micros + _b.held_micros)).group_by(_b.asset)
    return {Asset(asset): micros for asset, micros in await tx.execute(statement)}


async def in_settlement(tx: Tx) -> dict[Asset, int]:
    """Σ of items on their way between holders."""
    statement = select(_i.asset, _sum(_i.micros)).where(_i.state.not_in(sorted(FINAL))).group_by(_i.asset)
    return {Asset(asset): micros for asset, micros in await tx.execute(statement)}


async def system_accounts(tx: Tx) -> dict[tuple[AccountKind, Asset], int]:
    """The operator's accounts now."""
    system = _system()
    rows = await tx.execute(select(system.c.kind, system.c.asset, system.c.micros))
    return {(AccountKind(kind), Asset(asset)): micros for kind, asset, micros in rows}


async def entry_differences(tx: Tx) -> list[Difference]:
    """Balances that are not the sum of their entries."""
    total = (
        select(
            entries.c.consumer_id,
            entries.c.asset,
            _sum(entries.c.available_delta + entries.c.held_delta).label("micros"),
            func.count().label("versions"),
        )
        .group_by(entries.c.consumer_id, entries.c.asset)
        .subquery()
    )
    found = func.coalesce(total.c.micros, 0)
    joined = stablecoin_balances.outerjoin(total, (total.c.consumer_id == _b.consumer_id) & (total.c.asset == _b.asset))
    balance = _b.available_micros + _b.held_micros
    wrong = (balance != found) | (_b.version != func.coalesce(total.c.versions, 0))
    statement = select(_b.consumer_id, _b.asset, balance, found).select_from(joined).where(wrong)
    return _differences(await tx.execute(statement.order_by(_b.consumer_id, _b.asset)))


def _effects() -> Select[Any]:
    """Everything on the rails' side of rules 16 and 17, as signed rows for each holder and asset."""
    open_items = (_i.state.not_in(sorted(FINAL))) & _i.counts
    standing = select(_c.holder_id.label("holder"), _c.asset.label("asset"), _c.micros.label("micros"))
    incoming = select(_i.recipient, _i.asset, _i.micros).where(open_items)
    outgoing = select(_i.sender, _i.asset, -_i.micros).where(open_items)
    return union_all(standing, incoming, outgoing)  # type: ignore[return-value]


async def consumer_differences(tx: Tx) -> tuple[int, list[Difference]]:
    """Rule 16: available + held + unswept fees = Σ custody + items in − items out. Also how many were checked."""
    owed = select(
        _b.consumer_id.label("holder"),
        _b.asset.label("asset"),
        (_b.available_micros + _b.held_micros + _b.unswept_fee_micros).label("owed"),
        literal(0, BigInteger).label("standing"),
    )
    effects = _effects().subquery()
    rails = select(effects.c.holder, effects.c.asset, literal(0, BigInteger), effects.c.micros)
    rows = union_all(owed, rails).subquery()
    tainted = select(tempo_addresses.c.holder_id).where(tempo_addresses.c.state == "tainted")
    sums = (
        select(rows.c.holder, rows.c.asset, _sum(rows.c.owed).label("owed"), _sum(rows.c.standing).label("standing"))
        .where(rows.c.holder > FEE_PAYER, rows.c.holder.not_in(tainted))
        .group_by(rows.c.holder, rows.c.asset)
        .subquery()
    )
    checked = (await tx.execute(select(func.count()).select_from(sums))).scalar_one()
    wrong = select(sums).where(sums.c.owed != sums.c.standing).order_by(sums.c.holder, sums.c.asset)
    return checked, _differences(await tx.execute(wrong))


async def operator_differences(tx: Tx) -> list[Difference]:
    """Rule 17: what the operator's accounts say it has = its positions, with those of unassigned addresses.

    Network fees and losses are negative accounts here, being postings out of them, so they are simply added.
    """
    system = await system_accounts(tx)
    unswept = {
        Asset(asset): micros
        for asset, micros in await tx.execute(select(_b.asset, _sum(_b.unswept_fee_micros)).group_by(_b.asset))
    }
    effects = _effects().subquery()
    tainted = select(tempo_addresses.c.holder_id).where(tempo_addresses.c.state == "tainted")
    own = (effects.c.holder.in_([OPERATOR, FEE_PAYER])) | effects.c.holder.in_(tainted)
    statement = select(effects.c.asset, _sum(effects.c.micros)).where(own).group_by(effects.c.asset)
    standing = {Asset(asset): micros for asset, micros in await tx.execute(statement)}
    differences = []
    for asset in Asset:
        owned = sum(micros for (kind, of), micros in system.items() if of is asset and kind not in _EXTERNAL)
        expected, found = owned - unswept.get(asset, 0), standing.get(asset, 0)
        if expected != found:
            differences.append(Difference(OPERATOR, asset, expected, found))
    return differences


def _differences(rows: Any) -> list[Difference]:
    return [Difference(row[0], Asset(row[1]), row[2], row[3]) for row in rows]


@dataclass(frozen=True, slots=True)
class StandingAt:
    """A position that can be compared with `balanceOf`, and the address it stands at."""

    holder: HolderId
    address: str
    asset: Asset
    micros: int


async def standing_on_tempo(tx: Tx, *, after: tuple[UUID, str], limit: int) -> list[StandingAt]:
    """Positions on Tempo in the order of (holder, asset), a page at a time."""
    t = tempo_addresses.c
    statement = (
        select(_c.holder_id, t.address, _c.asset, _c.micros)
        .join(tempo_addresses, t.holder_id == _c.holder_id)
        .where(_c.rail == "tempo")
        .where((_c.holder_id > after[0]) | ((_c.holder_id == after[0]) & (_c.asset > after[1])))
        .order_by(_c.holder_id, _c.asset)
        .limit(limit)
    )
    return [StandingAt(row[0], row[1], Asset(row[2]), row[3]) for row in await tx.execute(statement)]


async def store(tx: Tx, *, proof_id: UUID, clean: bool, report: dict[str, Any], now: datetime) -> None:
    """Keep a proof, so that requests can show it."""
    await tx.execute(insert(proofs).values(id=proof_id, clean=clean, report=cast(report, JSONB), created_at=now))


@dataclass(frozen=True, slots=True)
class StoredProof:
    """A proof as it was kept."""

    clean: bool
    report: dict[str, Any]
    created_at: datetime


async def latest(tx: Tx) -> StoredProof | None:
    """The newest proof."""
    newest = select(proofs).order_by(proofs.c.created_at.desc(), proofs.c.id.desc()).limit(1)
    row = (await tx.execute(newest)).first()
    return StoredProof(row.clean, row.report, row.created_at) if row else None


async def first_seen(tx: Tx, subjects: Collection[str]) -> dict[tuple[str, str], datetime]:
    """When the breaks about these subjects were first found, by kind and subject."""
    statement = select(breaks.c.kind, breaks.c.subject, breaks.c.found_at).where(breaks.c.subject.in_(sorted(subjects)))
    return {(row.kind, row.subject): row.found_at for row in await tx.execute(statement)}
