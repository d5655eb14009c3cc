"""The hash chain over the audit log and the journal: extended by one worker at a time, verified by anybody.

Records are found by their time-ordered ids, beginning a little before the youngest that was chained, and told from the
chained ones by the chain's own index. One that comes later than that is found by the sweep, which looks back further.
The order of the chain is the order in which records were found; what matters is that it never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, Table, Uuid, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.audit import GENESIS, Link, Verification, chain_hash, content_hash
from domain.identity import is_consumer
from storage.audit import lowest_id, made_at
from storage.database import Tx
from storage.given import GivenRows
from storage.schema import audit_chain, audit_chain_heads, audit_log, postings, transactions

CHAIN = "wallet"
CHUNK = 1_000

_n = audit_chain.c
_h = audit_chain_heads.c
_a = audit_log.c
_t = transactions.c
_p = postings.c
_SOURCES = (audit_log, transactions)
_ID_ARRAY = ARRAY(Uuid)
_LINKS = GivenRows(*_n)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends."""

    sequence: int
    hash: bytes
    cursor_id: UUID
    """The highest id in it."""


_BEGINNING = Head(0, GENESIS, UUID(int=0))


async def head(tx: Tx) -> Head:
    """The end of the chain; its beginning, if nothing was chained yet."""
    row = (await tx.execute(_read_head())).first()
    return Head(*row) if row else _BEGINNING


async def extend(tx: Tx, *, now: datetime, reach: timedelta, limit: int = CHUNK) -> int:
    """Chain the oldest records that are not, beginning `reach` before the youngest that is. Returns how many."""
    end = await _lock_head(tx, now)
    after = lowest_id(min(now, made_at(end.cursor_id)) - reach)
    found = await _unchained(tx, after, limit)
    if not found:
        return 0
    links = []
    for record in found:
        sequence = end.sequence + 1
        end = Head(sequence, chain_hash(end.hash, sequence, record.content_hash), max(end.cursor_id, record.id))
        links.append((sequence, record.origin, record.id, record.consumer_id, record.content_hash, end.hash))
    added = insert(audit_chain).from_select(_n.keys(), select(*_LINKS.c))
    await tx.execute(added, _LINKS.bind(links))
    moved = update(audit_chain_heads).where(_h.chain == CHAIN)
    await tx.execute(moved.values(sequence=end.sequence, hash=end.hash, cursor_id=end.cursor_id, changed_at=now))
    return len(links)


async def verify(tx: Tx, end: Head, *, first: int, last: int) -> Verification:
    """Recompute the chain over records `first` to `last`. `end` is where it is said to end."""
    before = (await tx.execute(select(_n.hash).where(_n.sequence == first - 1))).scalar()
    walk = Verification(first, GENESIS if first == 1 else before)
    while walk.next_sequence <= last:
        links = await _links(tx, walk.next_sequence, last)
        if not links:
            break
        walk.walk(links)
    walk.end(last, head_hash=end.hash if last == end.sequence else None)
    return walk


def _read_head() -> Select[Any]:
    return select(_h.sequence, _h.hash, _h.cursor_id).where(_h.chain == CHAIN)


async def _lock_head(tx: Tx, now: datetime) -> Head:
    """The head's row is the lock: two workers never give the same number away."""
    values = {"sequence": 0, "hash": GENESIS, "cursor_id": UUID(int=0), "changed_at": now}
    await tx.execute(upsert(audit_chain_heads).values(chain=CHAIN, **values).on_conflict_do_nothing())
    return Head(*(await tx.execute(_read_head().with_for_update())).one())


# --- contents ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Content:
    """A record as it stands in its table now."""

    id: UUID
    origin: str
    consumer_id: UUID | None
    content_hash: bytes


async def _unchained(tx: Tx, after: UUID, limit: int) -> list[_Content]:
    found: list[_Content] = []
    for table in _SOURCES:
        chained = select(_n.sequence).where(_n.record_id == table.c.id).exists()
        ids = select(table.c.id).where(table.c.id > after, ~chained).order_by(table.c.id).limit(limit)
        found += await contents(tx, table, list((await tx.execute(ids)).scalars()))
    return sorted(found, key=lambda record: record.id)[:limit]


async def contents(tx: Tx, table: Table, ids: Sequence[UUID]) -> list[_Content]:
    """Records of one table, hashed as they stand there now."""
    if not ids:
        return []
    wanted = table.c.id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY))))
    rows = list(await tx.execute(select(table).where(wanted), {"ids": ids}))
    legs = await _postings(tx, ids) if table is transactions else {}
    return [_content(table, row, legs.get(row.id, [])) for row in rows]


async def _postings(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[list[object]]]:
    """What each transaction moved, in order."""
    wanted = _p.transaction_id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY))))
    statement = select(postings).where(wanted).order_by(_p.transaction_id, _p.position)
    legs: dict[UUID, list[list[object]]] = {}
    for row in await tx.execute(statement, {"ids": ids}):
        legs.setdefault(row.transaction_id, []).append(_said(postings, row))
    return legs


# The columns that are hashed, one by one: a column that is added later is not part of what was said before.
_HASHED: dict[Table, tuple[Column[Any], ...]] = {
    audit_log: (
        *(_a.id, _a.actor, _a.role, _a.action, _a.subject, _a.consumer_id, _a.peer, _a.request_id, _a.facts),
        _a.created_at,
    ),
    transactions: (
        *(_t.id, _t.kind, _t.consumer_id, _t.counterparty_id, _t.asset, _t.micros, _t.fee_micros, _t.memo),
        *(_t.caller, _t.request_id, _t.batch_id, _t.reference, _t.created_at),
    ),
    postings: (_p.position, _p.source_owner, _p.source_kind, _p.target_owner, _p.target_kind, _p.asset, _p.micros),
}


def _content(table: Table, row: Any, legs: list[list[object]]) -> _Content:
    consumer = row.consumer_id if row.consumer_id is not None and is_consumer(row.consumer_id) else None
    return _Content(row.id, table.name, consumer, content_hash(table.name, _said(table, row), legs))


def _said(table: Table, row: Any) -> list[object]:
    return [_plain(value) for value in _HASHED_VALUES[table](row)]


# Rows are read column by column, in the order of the table.
_HASHED_VALUES = {table: itemgetter(*map(list(table.c).index, columns)) for table, columns in _HASHED.items()}


def _plain(value: Any) -> object:
    """A column's value as JSON says it."""
    kind = type(value)
    if kind is UUID:
        return str(value)
    return value.astimezone(UTC).isoformat() if kind is datetime else value


async def _links(tx: Tx, first: int, last: int) -> list[Link]:
    statement = select(audit_chain).where(_n.sequence.between(first, last)).order_by(_n.sequence).limit(CHUNK)
    rows = list(await tx.execute(statement))
    found: dict[UUID, bytes] = {}
    for table in _SOURCES:
        there = await contents(tx, table, [row.record_id for row in rows if row.origin == table.name])
        found.update((content.id, content.content_hash) for content in there)
    return list(_joined(rows, found))


def _joined(rows: Iterable[Any], found: dict[UUID, bytes]) -> Iterable[Link]:
    for row in rows:
        yield Link(row.sequence, row.content_hash, row.hash, found.get(row.record_id))
