"""Payment requests: made and paid by the ledger's commits, ended without payment here."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, union_all, update

from domain.commands import NewRecord, RecordKind
from domain.identity import ConsumerId, TransactionId
from domain.money import Asset, Money
from domain.payment_requests import PaymentRequest, PaymentRequestState, Side
from storage.database import Tx
from storage.schema import payment_requests

_p = payment_requests.c


def new_record(request: PaymentRequest, *, request_key: UUID) -> NewRecord:
    """A payment request for the command that makes it."""
    values = {
        "payee_id": request.payee,
        "payer_id": request.payer,
        "asset": request.amount.asset,
        "micros": request.amount.micros,
        "memo": request.memo,
        "state": request.state,
        "request_key": request_key,
        "created_at": request.created_at,
        "expires_at": request.expires_at,
    }
    return NewRecord(kind=RecordKind.PAYMENT_REQUEST, id=request.id, values=values)


async def find(tx: Tx, request_id: UUID) -> PaymentRequest | None:
    """The payment request as it stands."""
    row = (await tx.execute(select(payment_requests).where(_p.id == request_id))).first()
    return _request(row) if row else None


async def asked_by(tx: Tx, payee: UUID, request_key: UUID) -> PaymentRequest:
    """The payment request that the call with that key made."""
    wanted = select(payment_requests).where(_p.payee_id == payee, _p.request_key == request_key)
    return _request((await tx.execute(wanted)).one())


async def close(tx: Tx, request_id: UUID, state: PaymentRequestState, *, now: datetime) -> bool:
    """End an open request without payment. False: it has ended before, and stays as it was."""
    still_open = and_(_p.id == request_id, _p.state == PaymentRequestState.OPEN, _p.expires_at > now)
    closed = update(payment_requests).where(still_open).values(state=state, closed_at=now).returning(_p.id)
    return (await tx.execute(closed)).first() is not None


async def forget(tx: Tx, consumer: UUID, *, now: datetime) -> None:
    """End what is open on either side of an erased consumer, and leave out what they wrote about it."""
    for side, state in ((Side.PAYEE, PaymentRequestState.CANCELLED), (Side.PAYER, PaymentRequestState.DECLINED)):
        own = and_(_PARTIES[side] == consumer, _is_in(PaymentRequestState.OPEN, now))
        await tx.execute(update(payment_requests).where(own).values(state=state, closed_at=now))
    asked = and_(_p.payee_id == consumer, _p.state != PaymentRequestState.PAID)
    await tx.execute(update(payment_requests).where(asked).values(memo=""))


async def page(
    tx: Tx,
    consumer: UUID,
    *,
    sides: Collection[Side],
    states: Collection[PaymentRequestState],
    before: UUID | None,
    limit: int,
    now: datetime,
) -> list[PaymentRequest]:
    """A consumer's requests on these sides, newest first. Without states: in any."""
    wanted = [_side(_PARTIES[side] == consumer, states, before, limit, now) for side in sides]
    both = union_all(*(select(one.subquery()) for one in wanted)).subquery()
    rows = await tx.execute(select(both).order_by(both.c.id.desc()).limit(limit))
    return [_request(row) for row in rows]


_PARTIES = {Side.PAYEE: _p.payee_id, Side.PAYER: _p.payer_id}


def _side(
    own: ColumnElement[bool], states: Collection[PaymentRequestState], before: UUID | None, limit: int, now: datetime
) -> Select[Any]:
    """One side's page out of its own index: nobody asks themselves, so the two sides share nothing."""
    statement = select(payment_requests).where(own)
    if states:
        statement = statement.where(or_(*(_is_in(state, now) for state in states)))
    if before is not None:
        statement = statement.where(_p.id < before)
    return statement.order_by(_p.id.desc()).limit(limit)


def _is_in(state: PaymentRequestState, now: datetime) -> ColumnElement[bool]:
    """What `state_at` says, for the database."""
    if state is PaymentRequestState.OPEN:
        return and_(_p.state == state, _p.expires_at > now)
    if state is PaymentRequestState.EXPIRED:
        return and_(_p.state == PaymentRequestState.OPEN, _p.expires_at <= now)
    return _p.state == state


def _request(row: Any) -> PaymentRequest:
    return PaymentRequest(
        id=row.id,
        payee=ConsumerId(row.payee_id),
        payer=ConsumerId(row.payer_id),
        amount=Money(Asset(row.asset), row.micros),
        memo=row.memo,
        created_at=row.created_at,
        expires_at=row.expires_at,
        state=PaymentRequestState(row.state),
        transaction_id=TransactionId(row.transaction_id) if row.transaction_id else None,
        closed_at=row.closed_at,
    )
