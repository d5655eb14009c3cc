"""Withdrawals: written by the ledger's commits alone, read by whoever shows them or ends their holds."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from domain.commands import NewRecord, RecordKind
from domain.identity import ConsumerId, ItemId, TransactionId
from domain.money import Asset, Money
from domain.routing import decision_facts, stored_decision
from domain.withdrawals import Withdrawal, WithdrawalState
from storage.database import Tx
from storage.schema import withdrawals

_w = withdrawals.c


def new_record(withdrawal: Withdrawal, *, now: datetime) -> NewRecord:
    """A withdrawal for the command that holds its money. The day of its limit is the one the ledger finds."""
    values = {
        "transaction_id": withdrawal.transaction_id,
        "consumer_id": withdrawal.consumer_id,
        "asset": withdrawal.amount.asset,
        "micros": withdrawal.amount.micros,
        "fee_micros": withdrawal.fee.micros,
        "address": withdrawal.address,
        "bank_account_id": withdrawal.bank_account_id,
        "item_id": withdrawal.item_id,
        "route": decision_facts(withdrawal.route),
        "state": withdrawal.state,
        "limit_usd_micros": withdrawal.limit_usd_micros,
        "created_at": now,
    }
    return NewRecord(kind=RecordKind.WITHDRAWAL, id=withdrawal.id, values=values, limit_day_column="limit_day")


async def by_transaction(tx: Tx, ids: Collection[UUID]) -> dict[TransactionId, Withdrawal]:
    """The withdrawals that these transactions hold money for."""
    if not ids:
        return {}
    rows = await tx.execute(select(withdrawals).where(_w.transaction_id.in_(sorted(ids))))
    return {row.transaction_id: _withdrawal(row) for row in rows}


async def by_item(tx: Tx, ids: Collection[UUID]) -> dict[ItemId, Withdrawal]:
    """The withdrawals that these settlement items pay out."""
    if not ids:
        return {}
    rows = await tx.execute(select(withdrawals).where(_w.item_id.in_(sorted(ids))))
    return {row.item_id: _withdrawal(row) for row in rows}


async def get(tx: Tx, withdrawal_id: UUID) -> Withdrawal:
    """The withdrawal, which there is."""
    return _withdrawal((await tx.execute(select(withdrawals).where(_w.id == withdrawal_id))).one())


def _withdrawal(row: Any) -> Withdrawal:
    asset = Asset(row.asset)
    return Withdrawal(
        id=row.id,
        transaction_id=TransactionId(row.transaction_id),
        consumer_id=ConsumerId(row.consumer_id),
        amount=Money(asset, row.micros),
        fee=Money(asset, row.fee_micros),
        route=stored_decision(row.route),
        state=WithdrawalState(row.state),
        address=row.address,
        bank_account_id=row.bank_account_id,
        item_id=row.item_id,
        limit_day=row.limit_day,
        limit_usd_micros=row.limit_usd_micros,
        reason=row.reason,
    )
