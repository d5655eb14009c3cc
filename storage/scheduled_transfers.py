"""Scheduled transfers: made by the ledger's commits, run by workers, read with what became of their runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Select, bindparam, case, insert, select, true, update

from domain.commands import NewRecord, RecordKind
from domain.identity import ConsumerId
from domain.money import Asset, Money
from domain.scheduled_transfers import Run, RunState, ScheduledTransfer, ScheduleState
from storage.database import Tx
from storage.schema import scheduled_runs, scheduled_transfers

_s = scheduled_transfers.c
_r = scheduled_runs.c


def new_record(scheduled: ScheduledTransfer, *, request_key: UUID) -> NewRecord:
    """A scheduled transfer for the command that makes it."""
    values = {
        "consumer_id": scheduled.consumer,
        "recipient_id": scheduled.recipient,
        "asset": scheduled.amount.asset,
        "micros": scheduled.amount.micros,
        "memo": scheduled.memo,
        "start_at": scheduled.start_at,
        "recurrence": scheduled.recurrence,
        "state": scheduled.state,
        "next_run_at": scheduled.next_run_at,
        "run_count": scheduled.run_count,
        "request_key": request_key,
        "created_at": scheduled.created_at,
    }
    return NewRecord(kind=RecordKind.SCHEDULED_TRANSFER, id=scheduled.id, values=values)


# --- as they are read -------------------------------------------------------------------------------------------------


def _with_runs() -> Select[Any]:
    """Schedules, each with its last finished run and with the last that paid."""
    runs = scheduled_runs.alias("run")
    run = runs.c
    own = select(runs).where(run.scheduled_transfer_id == _s.id).order_by(run.occurrence_at.desc()).limit(1)
    last = own.where(run.state != RunState.BEGUN).lateral("last")
    paid = own.where(run.state == RunState.COMPLETED).lateral("paid")
    joined = scheduled_transfers.outerjoin(last, true()).outerjoin(paid, true())
    columns = (last.c.finished_at.label("last_run_at"), last.c.reason, paid.c.transaction_id)
    return select(*_s, *columns).select_from(joined)


async def find(tx: Tx, scheduled_transfer_id: UUID) -> ScheduledTransfer | None:
    """The scheduled transfer as it stands."""
    row = (await tx.execute(_with_runs().where(_s.id == scheduled_transfer_id))).first()
    return _scheduled(row) if row else None


async def made_by(tx: Tx, consumer: UUID, request_key: UUID) -> ScheduledTransfer:
    """The scheduled transfer that the call with that key made."""
    wanted = _with_runs().where(_s.consumer_id == consumer, _s.request_key == request_key)
    return _scheduled((await tx.execute(wanted)).one())


async def page(
    tx: Tx, consumer: UUID, *, states: Collection[ScheduleState], before: UUID | None, limit: int
) -> list[ScheduledTransfer]:
    """A consumer's scheduled transfers, newest first. Without states: in any."""
    statement = _with_runs().where(_s.consumer_id == consumer)
    if states:
        statement = statement.where(_s.state.in_(sorted(states)))
    if before is not None:
        statement = statement.where(_s.id < before)
    return [_scheduled(row) for row in await tx.execute(statement.order_by(_s.id.desc()).limit(limit))]


async def cancel(tx: Tx, scheduled_transfer_id: UUID) -> bool:
    """Take what is left off an active schedule. False: there is nothing left, or it was cancelled before."""
    active = (_s.id == scheduled_transfer_id) & (_s.state == ScheduleState.ACTIVE)
    cancelled = update(scheduled_transfers).where(active).values(state=ScheduleState.CANCELLED, next_run_at=None)
    return (await tx.execute(cancelled.returning(_s.id))).first() is not None


async def forget(tx: Tx, consumer: UUID) -> None:
    """Call off what an erased consumer had planned, and leave out what they wrote about it."""
    off = case((_s.state == ScheduleState.ACTIVE, ScheduleState.CANCELLED), else_=_s.state)
    await tx.execute(
        update(scheduled_transfers).where(_s.consumer_id == consumer).values(state=off, next_run_at=None, memo="")
    )


# --- as they are run --------------------------------------------------------------------------------------------------


async def due(tx: Tx, *, now: datetime, limit: int) -> list[ScheduledTransfer]:
    """Schedules with a run that is due, longest overdue first, locked; what another worker holds is skipped."""
    waiting = select(scheduled_transfers).where(_s.state == ScheduleState.ACTIVE, _s.next_run_at <= now)
    locked = waiting.order_by(_s.next_run_at, _s.id).limit(limit).with_for_update(skip_locked=True)
    return [_scheduled(row) for row in await tx.execute(locked)]


async def begin(tx: Tx, runs: Sequence[tuple[UUID, ScheduledTransfer, datetime | None]], *, now: datetime) -> None:
    """Take the due occurrence off each schedule: a run with that id begins, and the schedule moves on to the next.

    Nobody works on the run yet. It is unique, so that no occurrence begins twice whatever goes wrong.
    """
    begun = [
        {
            "id": run_id,
            "scheduled_transfer_id": scheduled.id,
            "occurrence_at": scheduled.next_run_at,
            "state": RunState.BEGUN,
            "begun_at": now,
            "lease_until": now,
        }
        for run_id, scheduled, _ in runs
    ]
    moved = [
        {"of": scheduled.id, "next": next_run_at, "now_in": _state_before(next_run_at)}
        for _, scheduled, next_run_at in runs
    ]
    await tx.execute(insert(scheduled_runs), begun)
    await tx.execute(_MOVE_ON, moved)


def _state_before(next_run_at: datetime | None) -> ScheduleState:
    return ScheduleState.ACTIVE if next_run_at is not None else ScheduleState.COMPLETED


def _given(name: str, column: Any) -> BindParameter[Any]:
    return bindparam(name, type_=column.type)


_MOVE_ON = (
    update(scheduled_transfers)
    .where(_s.id == _given("of", _s.id))
    .values(next_run_at=_given("next", _s.next_run_at), state=_given("now_in", _s.state), run_count=_s.run_count + 1)
)


async def take(tx: Tx, *, now: datetime, lease: timedelta, limit: int) -> list[Run]:
    """Lease runs that have begun and that nobody works on, also those whose worker died; oldest first."""
    free = select(_r.id).where(_r.state == RunState.BEGUN, _r.lease_until <= now).order_by(_r.lease_until, _r.id)
    taken = free.limit(limit).with_for_update(skip_locked=True).cte("taken")
    leased = (
        update(scheduled_runs)
        .where(_r.id == taken.c.id, _s.id == _r.scheduled_transfer_id)
        .values(lease_until=now + lease)
        .returning(_r.id, _r.scheduled_transfer_id, _r.occurrence_at, *_PAYMENT)
    )
    rows = sorted(await tx.execute(leased), key=lambda row: (row.occurrence_at, row.id))
    return [_run(row) for row in rows]


_PAYMENT = (_s.consumer_id, _s.recipient_id, _s.asset, _s.micros, _s.memo)


async def refuse(tx: Tx, refused: Sequence[tuple[Run, str]], *, now: datetime) -> None:
    """Write down why runs paid nothing. One that has been finished meanwhile stays as it is."""
    reasons = [{"run": run.id, "why": reason} for run, reason in refused]
    statement = (
        update(scheduled_runs)
        .where(_r.id == _given("run", _r.id), _r.state == RunState.BEGUN)
        .values(state=RunState.REFUSED, reason=_given("why", _r.reason), finished_at=now)
    )
    await tx.execute(statement, reasons)


def _scheduled(row: Any) -> ScheduledTransfer:
    return ScheduledTransfer(
        id=row.id,
        consumer=ConsumerId(row.consumer_id),
        recipient=ConsumerId(row.recipient_id),
        amount=Money(Asset(row.asset), row.micros),
        memo=row.memo,
        start_at=row.start_at,
        recurrence=row.recurrence,
        created_at=row.created_at,
        next_run_at=row.next_run_at,
        state=ScheduleState(row.state),
        run_count=row.run_count,
        last_run_at=getattr(row, "last_run_at", None),
        last_reason=getattr(row, "reason", None) or "",
        last_transaction_id=getattr(row, "transaction_id", None),
    )


def _run(row: Any) -> Run:
    return Run(
        id=row.id,
        scheduled_transfer_id=row.scheduled_transfer_id,
        occurrence_at=row.occurrence_at,
        consumer=ConsumerId(row.consumer_id),
        recipient=ConsumerId(row.recipient_id),
        amount=Money(Asset(row.asset), row.micros),
        memo=row.memo,
    )
