"""Wires that the custodian told of. Each is noted once when it is first seen, and booked by the ledger's commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.bank_deposits import ArrivedDeposit, BankDepositState
from domain.commands import NewRecord, RecordKind
from domain.identity import OPERATOR, request_key
from domain.money import Asset, Money
from storage.database import Tx
from storage.schema import bank_deposits, requests

_d = bank_deposits.c

OPENING_KEY = request_key(caller="worker:bank", request_id="opening")
"""Under which the books of the bank rail were opened."""


async def opened_at(tx: Tx) -> datetime | None:
    """When the books of the bank rail began. None: they have not."""
    r = requests.c
    opened = select(r.created_at).where(r.owner_id == OPERATOR, r.key == OPENING_KEY)
    return (await tx.execute(opened)).scalar_one_or_none()


async def newest_arrival(tx: Tx) -> datetime | None:
    """When the youngest deposit that was ever seen arrived."""
    newest: datetime | None = (await tx.execute(select(func.max(_d.arrived_at)))).scalar_one_or_none()
    return newest


async def note(tx: Tx, seen: Sequence[ArrivedDeposit], *, now: datetime) -> None:
    """Keep those that were not seen before, as pending."""
    for deposit in seen:
        values = {**_columns(deposit), "state": BankDepositState.PENDING, "created_at": now}
        noted = upsert(bank_deposits).values(id=deposit.id, **values)
        await tx.execute(noted.on_conflict_do_nothing(index_elements=["provider_reference"]))


async def pending(tx: Tx, references: Collection[str] | None = None, *, limit: int = 500) -> list[ArrivedDeposit]:
    """Deposits that do not count yet, the oldest first: all of them, or those with these names."""
    wanted = _d.state == BankDepositState.PENDING
    if references is not None:
        wanted &= _d.provider_reference.in_(sorted(references))
    rows = await tx.execute(select(bank_deposits).where(wanted).order_by(_d.arrived_at, _d.id).limit(limit))
    return [_deposit(row) for row in rows]


def opening_record(deposit: ArrivedDeposit, *, now: datetime) -> NewRecord:
    """A deposit that the float begins with."""
    values = {**_columns(deposit), "state": BankDepositState.OPENING, "created_at": now, "closed_at": now}
    return NewRecord(kind=RecordKind.BANK_DEPOSIT, id=deposit.id, values=values)


def _columns(deposit: ArrivedDeposit) -> dict[str, Any]:
    return {
        "provider_reference": deposit.reference,
        "asset": deposit.amount.asset,
        "micros": deposit.amount.micros,
        "fee_micros": deposit.fee.micros,
        "tracking_reference": deposit.tracking_reference,
        "bank_reference": deposit.bank_reference,
        "arrived_at": deposit.arrived_at,
    }


def _deposit(row: Any) -> ArrivedDeposit:
    asset = Asset(row.asset)
    return ArrivedDeposit(
        id=row.id,
        reference=row.provider_reference,
        amount=Money(asset, row.micros),
        fee=Money(asset, row.fee_micros),
        tracking_reference=row.tracking_reference,
        bank_reference=row.bank_reference,
        state=BankDepositState(row.state),
        arrived_at=row.arrived_at,
    )
