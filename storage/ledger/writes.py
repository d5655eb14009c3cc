"""The second round trip: write what was decided, and commit it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.clock import Entropy
from domain.commands import CustodyKey, RecordKind, Request
from domain.ledger_state import Applied, LedgerState, Outcome, Writes
from storage import audit
from storage.arrays import given_rows
from storage.committer import CommitterConnection, Rows
from storage.ledger.statements import RECORD_TABLES, Statement, insert_rows, update_rows
from storage.schema import (
    audit_log,
    breaks,
    chain_cursors,
    consumed_logs,
    custody_positions,
    entries,
    postings,
    refunded_transfers,
    requests,
    settlement_attempts,
    settlement_items,
    stablecoin_balances,
    system_entries,
    tempo_addresses,
    transactions,
    wallets,
)

_BALANCE_COLUMNS = ("available_micros", "held_micros", "unswept_fee_micros", "version", "changed_at")
_ITEM_COLUMNS = (
    "id",
    "transaction_id",
    "sender",
    "recipient",
    "asset",
    "micros",
    "destination",
    "group_id",
    "sender_seq",
    "position",
    "counts",
    "state",
    "reason",
    "created_at",
)

UPDATE_WALLETS = update_rows(wallets, ("consumer_id",), ("usage_day", "usage_usd_micros"))
UPDATE_BALANCES = update_rows(stablecoin_balances, ("consumer_id", "asset"), _BALANCE_COLUMNS)
INSERT_TRANSACTIONS = insert_rows(transactions)
INSERT_POSTINGS = insert_rows(postings)
INSERT_ENTRIES = insert_rows(entries)
INSERT_REQUESTS = insert_rows(requests)
INSERT_SYSTEM_ENTRIES = insert_rows(system_entries)
INSERT_ITEMS = insert_rows(settlement_items, _ITEM_COLUMNS)
INSERT_LOGS = insert_rows(consumed_logs)
INSERT_CUSTODY = insert_rows(custody_positions, ("holder_id", "rail", "asset"), ignore_known=True)
INSERT_BREAKS = insert_rows(breaks, ("id", "kind", "subject", "facts", "found_at"), ignore_known=True)
INSERT_AUDIT = insert_rows(audit_log, audit.COLUMNS)
UPDATE_ATTEMPTS = update_rows(settlement_attempts, ("id",), ("state", "finished_at", "fee_asset", "fee_micros"))
UPDATE_CURSORS = update_rows(chain_cursors, ("chain",), ("number", "hash", "block_time"))
UPDATE_TAINTED = update_rows(tempo_addresses, ("address",), ("state",))


_FAILED = Column("failed", Integer)
# Null leaves it as it is, which the column of the table itself could not say.
_COUNTS = Column("counts_now", Boolean)


def _move_items() -> Statement:
    """Bring items to other states; those that failed are counted, and wait in their queue until `not_before`."""
    i = settlement_items.c
    set_as_given = (i.state, i.reason, i.transaction_hash, i.block_number, i.log_index, i.confirmed_at, i.not_before)
    columns = (i.id, *set_as_given, _COUNTS, _FAILED)
    given = given_rows(columns)
    values = {column.name: given.c[column.name] for column in set_as_given}
    moved = update(settlement_items).values(
        **values, counts=func.coalesce(given.c.counts_now, i.counts), failures=i.failures + given.c.failed
    )
    return Statement(moved.where(i.id == given.c.id), columns)


MOVE_ITEMS = _move_items()

_DELTA = Column("delta", BigInteger)
_RESERVED_DELTA = Column("reserved_delta", BigInteger)


def _move_custody() -> Statement:
    """Add the given differences. A CHECK keeps a position from going negative, whatever was confirmed."""
    c = custody_positions.c
    columns = (c.holder_id, c.rail, c.asset, _DELTA, _RESERVED_DELTA)
    given = given_rows(columns)
    statement = update(custody_positions).values(
        micros=c.micros + given.c.delta, reserved_micros=c.reserved_micros + given.c.reserved_delta
    )
    same = (c.holder_id == given.c.holder_id, c.rail == given.c.rail, c.asset == given.c.asset)
    return Statement(statement.where(*same), columns)


MOVE_CUSTODY = _move_custody()


def _upsert_refunded() -> Statement:
    """How much is given back now. A CHECK keeps it from passing what was received, whatever was decided."""
    columns = list(refunded_transfers.columns)
    given = given_rows(columns)
    statement = upsert(refunded_transfers).from_select([column.name for column in columns], select(*given.c))
    total = {"refunded_micros": statement.excluded.refunded_micros}
    return Statement(statement.on_conflict_do_update(index_elements=["transaction_id"], set_=total), columns)


UPSERT_REFUNDED = _upsert_refunded()


async def write(connection: CommitterConnection, state: LedgerState, writes: Writes, *, entropy: Entropy) -> None:
    """Write the batch and commit it, in one round trip."""
    trip = connection.round_trip()
    for statement, rows in _statements(state, writes, entropy):
        statement.add_to(trip, rows)
    for statement, rows in _record_statements(writes):
        statement.add_to(trip, rows)
    trip.add(b"COMMIT")
    await trip.send()


def _record_statements(writes: Writes) -> Iterable[tuple[Statement, Rows]]:
    """Records differ in their columns and are few: a statement for each, compiled once for each set of columns."""
    for record in writes.new_records:
        names = ("id", *record.values)
        yield _insert_record(record.kind, names), [(record.id, *record.values.values())]
    for change in writes.record_transitions:
        names = ("state", *change.values)
        yield _update_record(change.kind, names), [(change.id, change.state, *change.values.values())]


@cache
def _insert_record(kind: RecordKind, names: tuple[str, ...]) -> Statement:
    return insert_rows(RECORD_TABLES[kind], names)


@cache
def _update_record(kind: RecordKind, names: tuple[str, ...]) -> Statement:
    return update_rows(RECORD_TABLES[kind], ("id",), names)


def _statements(state: LedgerState, writes: Writes, entropy: Entropy) -> Iterable[tuple[Statement, Rows]]:
    """Every statement with its rows, in the order of the locks."""
    return (
        (UPDATE_WALLETS, _wallet_rows(state)),
        (UPDATE_BALANCES, _balance_rows(state)),
        (INSERT_CUSTODY, _missing_custody(state, writes)),
        (MOVE_CUSTODY, _custody_rows(writes)),
        (MOVE_ITEMS, _transition_rows(writes)),
        (UPDATE_CURSORS, [(c.chain, c.number, c.hash, c.at) for c in writes.cursors]),
        (INSERT_TRANSACTIONS, _transaction_rows(writes)),
        (INSERT_POSTINGS, _posting_rows(writes)),
        (INSERT_ENTRIES, _entry_rows(writes)),
        (INSERT_REQUESTS, [_request_row(request, outcome, state.now) for request, outcome in writes.requests]),
        (UPSERT_REFUNDED, [(id, r.received_micros, state.refunded[id]) for id, r in writes.refunds.items()]),
        (INSERT_SYSTEM_ENTRIES, _system_rows(writes, entropy)),
        (INSERT_ITEMS, _item_rows(writes)),
        (UPDATE_ATTEMPTS, [(a.attempt_id, a.state, a.at, a.fee_asset, a.fee_micros) for a in writes.attempts]),
        (INSERT_LOGS, [(w.chain, w.transaction_hash, w.log_index, w.meaning, w.item_id) for w in writes.logs]),
        (UPDATE_TAINTED, [(address, "tainted") for address in writes.tainted]),
        (INSERT_AUDIT, [audit.row_of(fact, state.now) for fact in writes.audits]),
        (INSERT_BREAKS, [(b.id, b.kind, b.subject, b.facts, state.now) for b in writes.breaks]),
    )


def _wallet_rows(state: LedgerState) -> Rows:
    return [(w.consumer_id, w.usage_day, w.usage_usd_micros) for w in state.wallets.values() if w.dirty]


def _balance_rows(state: LedgerState) -> Rows:
    return [
        (b.consumer_id, b.asset, b.available, b.held, b.unswept_fees, b.version, b.changed_at)
        for b in state.balances.values()
        if b.dirty
    ]


def _transaction_rows(writes: Writes) -> Rows:
    return [
        (
            t.id,
            t.kind,
            t.consumer_id,
            t.counterparty_id,
            t.asset,
            t.micros,
            t.fee_micros,
            t.memo,
            t.caller,
            t.request_id,
            t.batch_id,
            t.reference,
            created_at,
        )
        for t, created_at in writes.transactions
    ]


def _posting_rows(writes: Writes) -> Rows:
    return [
        (transaction_id, position, p.source.owner, p.source.kind, p.target.owner, p.target.kind, p.asset, p.micros)
        for transaction_id, position, p in writes.postings
    ]


def _entry_rows(writes: Writes) -> Rows:
    return [
        (
            e.consumer_id,
            e.asset,
            e.version,
            e.transaction_id,
            e.kind,
            e.counterparty_id,
            e.available_delta,
            e.held_delta,
            e.available_after,
            e.held_after,
            e.created_at,
        )
        for e in writes.entries
    ]


def _request_row(request: Request, outcome: Outcome, now: datetime) -> tuple[Any, ...]:
    if isinstance(outcome, Applied):
        after = (outcome.available_after, outcome.held_after, outcome.version_after)
        return (request.owner, request.key, request.body_hash, outcome.transaction_id, None, *after, outcome.at)
    rejection = {"reason": outcome.error.reason, "facts": outcome.error.facts()}
    return (request.owner, request.key, request.body_hash, None, rejection, 0, 0, 0, now)


def _system_rows(writes: Writes, entropy: Entropy) -> Rows:
    return [(entropy.uuid7(), kind, asset, delta) for (kind, asset), delta in writes.system.items() if delta]


def _item_rows(writes: Writes) -> Rows:
    return [
        (
            item.id,
            transaction_id,
            item.sender,
            item.recipient,
            item.asset,
            item.micros,
            item.destination,
            item.group_id,
            sequence,
            position,
            item.counts,
            item.state,
            item.reason,
            now,
        )
        for item, transaction_id, sequence, position, now in writes.items
    ]


def _custody_rows(writes: Writes) -> Rows:
    """One row for each position: an UPDATE from an array applies only one of several rows with the same key."""
    total: dict[CustodyKey, list[int]] = {}
    for change in writes.custody:
        delta = total.setdefault((change.holder, change.rail, change.asset), [0, 0])
        delta[0] += change.micros
        delta[1] += change.reserved_micros
    return [(*key, *delta) for key, delta in total.items()]


def _missing_custody(state: LedgerState, writes: Writes) -> Rows:
    missing = {(c.holder, c.rail, c.asset) for c in writes.custody} - state.custody.keys()
    return sorted(missing)


def _transition_rows(writes: Writes) -> Rows:
    return [
        (
            t.item_id,
            t.state,
            t.reason,
            t.transaction_hash,
            t.block_number,
            t.log_index,
            t.at,
            t.not_before,
            t.counts,
            int(t.failed),
        )
        for t in writes.transitions
    ]
