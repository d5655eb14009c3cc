"""Adjustments as they were proposed and approved. The ledger's commits write them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select

from domain.adjustments import Adjustment, AdjustmentState
from domain.money import Asset, Money
from domain.postings import Account, AccountKind
from storage.database import Tx
from storage.schema import adjustments

_a = adjustments.c


def columns_of(adjustment: Adjustment, *, request_key: UUID) -> dict[str, Any]:
    """The columns of a new proposal besides its id, for the command that adds it."""
    return {
        "source_owner": adjustment.source.owner,
        "source_kind": adjustment.source.kind,
        "target_owner": adjustment.target.owner,
        "target_kind": adjustment.target.kind,
        "asset": adjustment.amount.asset,
        "micros": adjustment.amount.micros,
        "reason": adjustment.reason,
        "cancel_item_id": adjustment.cancel_item_id,
        "state": adjustment.state,
        "proposed_by": adjustment.proposed_by,
        "request_key": request_key,
        "created_at": adjustment.created_at,
        "expires_at": adjustment.expires_at,
    }


async def find(tx: Tx, adjustment_id: UUID) -> Adjustment | None:
    """The adjustment as it stands."""
    return await _find(tx, _a.id == adjustment_id)


async def proposed_by(tx: Tx, request_key: UUID) -> Adjustment | None:
    """The adjustment that the request with that key proposed."""
    return await _find(tx, _a.request_key == request_key)


async def _find(tx: Tx, condition: ColumnElement[bool]) -> Adjustment | None:
    row = (await tx.execute(select(adjustments).where(condition))).first()
    return _adjustment(row) if row else None


def _adjustment(row: Any) -> Adjustment:
    return Adjustment(
        id=row.id,
        source=Account(row.source_owner, AccountKind(row.source_kind)),
        target=Account(row.target_owner, AccountKind(row.target_kind)),
        amount=Money(Asset(row.asset), row.micros),
        reason=row.reason,
        cancel_item_id=row.cancel_item_id,
        proposed_by=row.proposed_by,
        created_at=row.created_at,
        state=AdjustmentState(row.state),
        approved_by=row.approved_by or "",
        approved_at=row.approved_at,
        transaction_id=row.transaction_id,
    )
