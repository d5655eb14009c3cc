"""Money between banks and us, as operators see it: wires in and payouts out in one list, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Select, Text, and_, case, cast, literal, null, or_, select, tuple_, union_all

from domain.bank_deposits import BankDepositState
from domain.bank_payouts import UNKNOWN_FOR, PayoutState
from domain.errors import PayoutNotFound
from domain.money import Asset, Money
from storage.database import Tx
from storage.schema import bank_deposits, bank_payouts, withdrawals

_d = bank_deposits.c
_p = bank_payouts.c


class BankTransferState(StrEnum):
    """Where it stands, in words that fit both directions."""

    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class BankTransfer:
    """A wire or a payout."""

    id: UUID
    outgoing: bool
    state: BankTransferState
    amount: Money
    fee: Money
    provider_reference: str
    tracking_reference: str
    consumer_id: UUID | None
    bank_account_id: UUID | None
    transaction_id: UUID | None
    reason: str
    needs_operator: bool
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the list to go on: behind this one."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which are wanted. Empty filters nothing."""

    states: frozenset[BankTransferState] = frozenset()
    needs_operator: bool = False


def _wires() -> Select[Any]:
    state = case(
        (_d.state.in_([BankDepositState.CREDITED, BankDepositState.OPENING]), BankTransferState.COMPLETED),
        else_=_d.state,
    )
    return select(
        _d.id,
        literal(False, Boolean).label("outgoing"),
        state.label("state"),
        _d.asset,
        _d.micros,
        _d.fee_micros,
        _d.provider_reference,
        _d.tracking_reference,
        _d.consumer_id,
        _d.bank_account_id,
        _d.transaction_id,
        _d.reason,
        (_d.state == BankDepositState.SUSPENDED).label("needs_operator"),
        _d.created_at,
        _d.closed_at,
    )


def _payouts(now: datetime) -> Select[Any]:
    """`needs_operator` says what `StoredPayout.needs_operator` says."""
    unknown = and_(_p.state == PayoutState.STARTED, _p.unanswered > 0)
    state = case(
        (unknown, BankTransferState.UNKNOWN),
        (_p.closed_at.is_(None), BankTransferState.PENDING),
        else_=_p.state,
    )
    too_long = and_(unknown, _p.ordered_at <= now - UNKNOWN_FOR)
    not_what_was_ordered = and_(_p.state == PayoutState.SUBMITTED, _p.reason != "")
    return select(
        _p.id,
        literal(True, Boolean),
        state,
        _p.asset,
        _p.micros,
        _p.fee_micros + _p.return_fee_micros,
        _p.provider_reference,
        cast(null(), Text),
        _p.consumer_id,
        _p.bank_account_id,
        withdrawals.c.transaction_id,
        _p.reason,
        or_(too_long, not_what_was_ordered),
        _p.ordered_at,
        _p.closed_at,
    ).join_from(bank_payouts, withdrawals, withdrawals.c.id == _p.withdrawal_id)


async def page(tx: Tx, filters: Filters, *, now: datetime, before: Place | None, limit: int) -> list[BankTransfer]:
    """The newest first."""
    every = union_all(_wires(), _payouts(now)).subquery()
    wanted = select(every)
    if filters.states:
        wanted = wanted.where(every.c.state.in_(sorted(filters.states)))
    if filters.needs_operator:
        wanted = wanted.where(every.c.needs_operator)
    if before is not None:
        wanted = wanted.where(tuple_(every.c.created_at, every.c.id) < (before.created_at, before.id))
    rows = await tx.execute(wanted.order_by(every.c.created_at.desc(), every.c.id.desc()).limit(limit))
    return [_transfer(row) for row in rows]


async def payout(tx: Tx, payout_id: UUID, *, now: datetime) -> BankTransfer:
    """One payout; raises `PayoutNotFound`."""
    every = union_all(_wires(), _payouts(now)).subquery()
    row = (await tx.execute(select(every).where(every.c.id == payout_id, every.c.outgoing))).first()
    if row is None:
        raise PayoutNotFound()
    return _transfer(row)


def _transfer(row: Any) -> BankTransfer:
    asset = Asset(row.asset)
    return BankTransfer(
        id=row.id,
        outgoing=row.outgoing,
        state=BankTransferState(row.state),
        amount=Money(asset, row.micros),
        fee=Money(asset, row.fee_micros),
        provider_reference=row.provider_reference or "",
        tracking_reference=row.tracking_reference or "",
        consumer_id=row.consumer_id,
        bank_account_id=row.bank_account_id,
        transaction_id=row.transaction_id,
        reason=row.reason,
        needs_operator=row.needs_operator,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )
