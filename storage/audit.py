"""The audit log: operators' acts as they are written, and read back together with the journal.

An act is written in the database transaction that does it. What consumers and services do with money is in the journal
already, and reads as part of the same log. Both have time-ordered ids, so the log is a merge of two tables by id,
newest first. A page looks at `LOOK_BACK` transactions at a time and `MOST_LOOKS` times that at most: whatever the
filter, it answers quickly, and a rare act in a journal of millions gives short pages instead of a slow one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Select, and_, false, func, insert, or_, select, union_all

from domain.audit import AuditFact, Role
from domain.clock import uuid7_from
from domain.identity import is_consumer
from domain.postings import TransactionKind
from storage.database import Tx
from storage.schema import audit_chain, audit_chain_heads, audit_log, transactions

LOOK_BACK = 10_000
MOST_LOOKS = 10

# An id is made before its record is written: by a queue and a few retries earlier, or by what two clocks differ.
LATENESS = timedelta(hours=1)
OVERLAP = timedelta(seconds=15)
"""What covers nearly all of them."""

_a = audit_log.c
_t = transactions.c
_n = audit_chain.c

COLUMNS = ("id", "actor", "role", "action", "subject", "consumer_id", "peer", "request_id", "facts", "created_at")


def row_of(fact: AuditFact, now: datetime) -> tuple[Any, ...]:
    """An act as a row of `COLUMNS`."""
    actor = fact.actor
    who_and_what = (fact.id, actor.name, actor.role, fact.action, fact.subject, fact.consumer_id)
    return (*who_and_what, actor.peer, actor.request_id, dict(fact.facts), now)


async def append(tx: Tx, fact: AuditFact, *, now: datetime) -> None:
    """Write an act down, in the database transaction that does it."""
    await tx.execute(insert(audit_log).values(dict(zip(COLUMNS, row_of(fact, now), strict=True))))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One line of the log. A record that is not chained yet has neither number nor hash."""

    id: UUID
    created_at: datetime
    action: str
    actor: str
    role: Role
    subject: str
    consumer_id: UUID | None
    peer: str = ""
    request_id: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    sequence: int | None = None
    hash: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which records are wanted. Empty and None filter nothing."""

    consumer_id: UUID | None = None
    actor: str = ""
    action: str = ""
    subject: str = ""
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first, and the id below which the next page goes on, unless the log ends here."""

    records: list[AuditRecord]
    next: UUID | None


class _Part(NamedTuple):
    """What one table gave: all that is wanted down to an id. None: down to its end."""

    records: list[AuditRecord]
    floor: UUID | None


async def page(tx: Tx, filters: Filters, *, before: UUID | None, size: int) -> Page:
    """The next records below an id, `size` at most."""
    before = min(before or _NO_ID, _highest(filters.end))
    acts = await _acts(tx, filters, before, size)
    moved = await _transactions(tx, filters, before, size)
    floor = max((part.floor for part in (acts, moved) if part.floor is not None), default=None)
    merged = sorted([*acts.records, *moved.records], key=lambda record: record.id, reverse=True)
    complete = [record for record in merged if floor is None or record.id >= floor]
    if len(complete) > size:
        return Page(complete[:size], complete[size - 1].id)
    return Page(complete, floor)


_NO_ID = UUID(int=2**128 - 1)


def _highest(time: datetime | None) -> UUID:
    """No record from before that time has this id or a higher one."""
    return _NO_ID if time is None else lowest_id(time + LATENESS)


def made_at(record_id: UUID) -> datetime:
    """When an id was made, to the millisecond."""
    return datetime.fromtimestamp((record_id.int >> 80) / 1000, UTC)


def lowest_id(time: datetime) -> UUID:
    """The lowest id that is made at that time."""
    return uuid7_from(max(0, int(time.timestamp() * 1000)), bytes(10))


def _within(column: Any, filters: Filters) -> list[ColumnElement[bool]]:
    conditions = []
    if filters.start is not None:
        conditions.append(column >= filters.start)
    if filters.end is not None:
        conditions.append(column < filters.end)
    return conditions


# --- acts -------------------------------------------------------------------------------------------------------------


async def _acts(tx: Tx, filters: Filters, before: UUID, size: int) -> _Part:
    wanted: list[ColumnElement[bool]] = [_a.id < before, *_within(_a.created_at, filters)]
    for column, value in (
        (_a.consumer_id, filters.consumer_id),
        (_a.actor, filters.actor),
        (_a.action, filters.action),
        (_a.subject, filters.subject),
    ):
        if value:
            wanted.append(column == value)
    statement = (
        select(*audit_log.c, _n.sequence, _n.hash)
        .select_from(audit_log.outerjoin(audit_chain, _n.record_id == _a.id))
        .where(and_(*wanted))
        .order_by(_a.id.desc())
        .limit(size + 1)
    )
    records = [_act(row) for row in await tx.execute(statement)]
    return _Part(records, records[-1].id if len(records) > size else None)


def _act(row: Any) -> AuditRecord:
    return AuditRecord(
        id=row.id,
        created_at=row.created_at,
        action=row.action,
        actor=row.actor,
        role=Role(row.role or Role.WORKER),
        subject=row.subject,
        consumer_id=row.consumer_id,
        peer=row.peer,
        request_id=row.request_id,
        facts=row.facts,
        sequence=row.sequence,
        hash=row.hash,
    )


# --- movements of money -----------------------------------------------------------------------------------------------


async def _transactions(tx: Tx, filters: Filters, before: UUID, size: int) -> _Part:
    """Look back over the journal, window by window, until there is enough or it has been long enough."""
    if filters.action and filters.action not in set(TransactionKind):
        return _Part([], None)
    wanted = _wanted_transactions(filters)
    lowest = lowest_id(filters.start - LATENESS) if filters.start is not None else UUID(int=0)
    fresh_after = await _chained_until(tx)
    records: list[AuditRecord] = []
    for _ in range(MOST_LOOKS):
        ids = _window(filters, before, lowest, fresh_after).cte("window")
        looked_at, lowest_seen = (await tx.execute(_extent(ids))).one()
        statement = (
            select(*transactions.c, _n.sequence, _n.hash)
            .select_from(transactions.join(ids, ids.c.id == _t.id).outerjoin(audit_chain, _n.record_id == _t.id))
            .where(wanted)
            .order_by(_t.id.desc())
            .limit(size + 1 - len(records))
        )
        records += [_transaction(row) for row in await tx.execute(statement)]
        if len(records) > size:
            return _Part(records, records[-1].id)
        if looked_at < LOOK_BACK:
            return _Part(records, None)
        before = lowest_seen
    return _Part(records, before)


def _extent(ids: CTE) -> Select[Any]:
    """How many ids a window has, and the lowest of them."""
    lowest = select(ids.c.id).order_by(ids.c.id).limit(1).scalar_subquery()
    return select(select(func.count()).select_from(ids).scalar_subquery(), lowest)


async def _chained_until(tx: Tx) -> UUID:
    """Below this id everything has been chained, but for what comes very late."""
    cursor = (await tx.execute(select(audit_chain_heads.c.cursor_id))).scalar()
    return lowest_id(made_at(cursor) - OVERLAP) if cursor is not None else UUID(int=0)


def _window(filters: Filters, before: UUID, lowest: UUID, fresh_after: UUID) -> Select[Any]:
    """The ids to look at next, newest first. Only those after `fresh_after` may not be chained yet."""
    subject = _as_id(filters.subject)
    within = (_t.id < before, _t.id >= lowest)
    if filters.subject:
        # What a transaction touched is itself.
        return select(_t.id).where(*within, _t.id == subject if subject is not None else false())
    consumer = filters.consumer_id or _as_id(filters.actor)
    if consumer is None:
        return select(_t.id).where(*within).order_by(_t.id.desc()).limit(LOOK_BACK)
    # The journal has no index on consumers, which its writers would pay for; the chain has one.
    chained = (
        select(_n.record_id.label("id"))
        .where(_n.consumer_id == consumer, _n.record_id < before, _n.record_id >= lowest)
        .order_by(_n.record_id.desc())
        .limit(LOOK_BACK)
    )
    fresh = select(_t.id).where(
        *within,
        _t.consumer_id == consumer,
        _t.id > fresh_after,
        ~select(_n.sequence).where(_n.record_id == _t.id).exists(),
    )
    both = union_all(chained.subquery().select(), fresh).subquery()
    return select(both.c.id).order_by(both.c.id.desc()).limit(LOOK_BACK)


def _wanted_transactions(filters: Filters) -> ColumnElement[bool]:
    conditions = _within(_t.created_at, filters)
    if filters.consumer_id is not None:
        conditions.append(_t.consumer_id == filters.consumer_id)
    if filters.action:
        conditions.append(_t.kind == filters.action)
    if filters.actor:
        conditions.append(_acted(filters.actor))
    return and_(*conditions, _t.id.is_not(None))


def _acted(actor: str) -> ColumnElement[bool]:
    """Whether a transaction was made by somebody of that name."""
    named = _t.caller.in_([f"{role}:{actor}" for role in (Role.SERVICE, Role.OPERATOR, Role.WORKER)])
    consumer = _as_id(actor)
    if consumer is not None:
        return or_(named, (_t.caller == Role.CONSUMER) & (_t.consumer_id == consumer))
    return or_(named, _t.caller == "") if actor == Role.WORKER else named


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _transaction(row: Any) -> AuditRecord:
    role, _, name = row.caller.partition(":")
    if role == Role.CONSUMER:
        name = str(row.consumer_id)
    facts = {
        "asset": row.asset,
        "micros": str(row.micros),
        "fee_micros": str(row.fee_micros),
        "counterparty_id": str(row.counterparty_id or ""),
        "batch_id": str(row.batch_id or ""),
        "reference": row.reference,
    }
    return AuditRecord(
        id=row.id,
        created_at=row.created_at,
        action=TransactionKind(row.kind),
        actor=name or Role.WORKER,
        role=Role(role or Role.WORKER),
        subject=str(row.id),
        consumer_id=row.consumer_id if is_consumer(row.consumer_id) else None,
        request_id=row.request_id,
        facts={key: value for key, value in facts.items() if value not in ("", "0")},
        sequence=row.sequence,
        hash=row.hash,
    )
