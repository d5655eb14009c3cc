"""The ledger's two round trips: lock and read what decides, then write what was decided.

`load` is the one place that takes the ledger's locks, always in one global order: wallets, balances, custody positions,
settlement items, chain cursors, addresses, each sorted by its key (money rule 20). What is not locked is read by later
statements of the same round trip, whose snapshots are younger than the locks. `write` is a handful of set-based
statements, arrays through `unnest`. Both run on a committer's own connection (`storage/committer.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    Integer,
    Select,
    Table,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.clock import Entropy
from domain.commands import Command, CustodyKey, RecordKind, Request
from domain.errors import stored_error
from domain.ledger_state import Applied, Balance, ItemRow, LedgerState, Outcome, StoredRequest, Wallet, Writes
from domain.money import Asset
from domain.settlement import ItemState, Rail
from storage import audit
from storage.arrays import array_parameter, given_rows, packer
from storage.committer import Answer, CommitterConnection, RoundTrip, Rows, compiled
from storage.schema import (
    audit_log,
    breaks,
    chain_cursors,
    consumed_logs,
    custody_positions,
    entries,
    metadata,
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


class _Statement:
    """A compiled statement and the columns of the rows it takes, as one array parameter each."""

    def __init__(self, statement: ClauseElement, columns: Sequence[Column[Any]]) -> None:
        self._text = compiled(statement)
        self._packers = [packer(column) for column in columns]

    def add_to(self, trip: RoundTrip, rows: Collection[Sequence[Any]]) -> Answer:
        """Send it with these rows. A statement without rows has nothing to look for and nothing to write."""
        if not rows:
            return Answer()
        columns = zip(*rows, strict=True)
        return trip.add(self._text, [pack(values) for pack, values in zip(self._packers, columns, strict=True)])


def _insert(table: Table, names: Sequence[str] = (), *, ignore_known: bool = False) -> _Statement:
    columns = [table.c[name] for name in names] or list(table.columns)
    given = given_rows(columns)
    statement = upsert(table).from_select([column.name for column in columns], select(*given.c))
    return _Statement(statement.on_conflict_do_nothing() if ignore_known else statement, columns)


def _update(table: Table, keys: Sequence[str], names: Sequence[str]) -> _Statement:
    """Set the named columns of the rows with the given keys."""
    columns = [table.c[name] for name in (*keys, *names)]
    given = given_rows(columns)
    statement = update(table).values({name: given.c[name] for name in names})
    return _Statement(statement.where(*(table.c[key] == given.c[key] for key in keys)), columns)


def _locking(statement: Select[Any], table: Table) -> Select[Any]:
    """FOR NO KEY UPDATE: keeps other writers out, not the foreign readers of the key."""
    return statement.with_for_update(key_share=True, of=table)


# --- what decides ---------------------------------------------------------------------------------------------------


def _read_wallets() -> Select[Any]:
    w = wallets.c
    erased, now = w.erased_at.is_not(None), func.clock_timestamp()
    columns = (w.consumer_id, w.kyc_level, w.frozen, w.usage_day, w.usage_usd_micros, erased, now)
    return select(*columns).where(w.consumer_id == func.any(array_parameter(w.consumer_id))).order_by(w.consumer_id)


def _read_balances() -> Select[Any]:
    b = stablecoin_balances.c
    given = given_rows([b.consumer_id, b.asset])
    match = (b.consumer_id == given.c.consumer_id) & (b.asset == given.c.asset)
    columns = (
        b.consumer_id,
        b.asset,
        b.available_micros,
        b.held_micros,
        b.unswept_fee_micros,
        b.version,
        b.changed_at,
    )
    return select(*columns).select_from(given.join(stablecoin_balances, match)).order_by(b.consumer_id, b.asset)


def _read_custody() -> Select[Any]:
    c = custody_positions.c
    given = given_rows([c.holder_id, c.rail, c.asset])
    match = (c.holder_id == given.c.holder_id) & (c.rail == given.c.rail) & (c.asset == given.c.asset)
    columns = (c.holder_id, c.rail, c.asset, c.micros)
    return select(*columns).select_from(given.join(custody_positions, match)).order_by(c.holder_id, c.rail, c.asset)


def _read_items() -> Select[Any]:
    i = settlement_items.c
    return select(i.id, i.state, i.lease_token).where(i.id == func.any(array_parameter(i.id))).order_by(i.id)


def _read_cursors() -> Select[Any]:
    c = chain_cursors.c
    return select(c.chain, c.number, c.hash).where(c.chain == func.any(array_parameter(c.chain))).order_by(c.chain)


def _read_addresses() -> Select[Any]:
    a = tempo_addresses.c
    return select(a.address, a.state).where(a.address == func.any(array_parameter(a.address))).order_by(a.address)


def _read_records(table: Table) -> Select[Any]:
    wanted = table.c.id == func.any(array_parameter(table.c.id))
    return select(table.c.id, table.c.state).where(wanted).order_by(table.c.id)


def _read_requests() -> Select[Any]:
    r = requests.c
    given = given_rows([r.owner_id, r.key])
    columns = (
        r.owner_id,
        r.key,
        r.body_hash,
        r.transaction_id,
        r.rejection,
        r.available_after,
        r.held_after,
        r.version_after,
        r.created_at,
    )
    # LATERAL with OFFSET 0 keeps the look-up an index probe for each key, whatever the statistics say.
    probe = (
        select(*columns)
        .where(r.owner_id == given.c.owner_id, r.key == given.c.key)
        .offset(literal_column("0"))
        .lateral("found")
    )
    return select(*probe.c).select_from(given.join(probe, true()))


def _read_refunded() -> Select[Any]:
    r = refunded_transfers.c
    wanted = r.transaction_id == func.any(array_parameter(r.transaction_id))
    return select(r.transaction_id, r.refunded_micros).where(wanted)


_WALLET_KEY = (wallets.c.consumer_id,)
_BALANCE_KEY = (stablecoin_balances.c.consumer_id, stablecoin_balances.c.asset)
_CUSTODY_KEY = (custody_positions.c.holder_id, custody_positions.c.rail, custody_positions.c.asset)

READ_WALLETS = _Statement(_read_wallets(), _WALLET_KEY)
READ_BALANCES = _Statement(_read_balances(), _BALANCE_KEY)
READ_REQUESTS = _Statement(_read_requests(), (requests.c.owner_id, requests.c.key))
READ_REFUNDED = _Statement(_read_refunded(), (refunded_transfers.c.transaction_id,))
LOCK_WALLETS = _Statement(_locking(_read_wallets(), wallets), _WALLET_KEY)
LOCK_BALANCES = _Statement(_locking(_read_balances(), stablecoin_balances), _BALANCE_KEY)
LOCK_CUSTODY = _Statement(_locking(_read_custody(), custody_positions), _CUSTODY_KEY)
LOCK_ITEMS = _Statement(_locking(_read_items(), settlement_items), (settlement_items.c.id,))
RECORD_TABLES = {kind: metadata.tables[kind] for kind in RecordKind if kind in metadata.tables}
READ_RECORDS = {kind: _Statement(_read_records(table), (table.c.id,)) for kind, table in RECORD_TABLES.items()}
LOCK_RECORDS = {
    kind: _Statement(_locking(_read_records(table), table), (table.c.id,)) for kind, table in RECORD_TABLES.items()
}
TRY_WALLETS = _Statement(_read_wallets().with_for_update(key_share=True, of=wallets, skip_locked=True), _WALLET_KEY)
LOCK_CURSORS = _Statement(_locking(_read_cursors(), chain_cursors), (chain_cursors.c.chain,))
LOCK_ADDRESSES = _Statement(_locking(_read_addresses(), tempo_addresses), (tempo_addresses.c.address,))


async def load(
    connection: CommitterConnection, commands: Sequence[Command], *, now: datetime | None, lock: bool = True
) -> LedgerState:
    """Lock and read everything the commands are decided on, in one round trip.

    `now` is the injected time, or None for the database's own (whose UTC day the limits count in). With `lock=False`
    (a preview) nothing is locked, and the settlement side is not read at all.
    """
    wallet_keys = {(wallet_id,) for command in commands for wallet_id in command.wallet_ids}
    balance_keys = {key for command in commands for key in command.balance_keys}
    request_keys = {(c.request.owner, c.request.key) for c in commands if c.request is not None}
    trip = connection.round_trip()
    trip.add(b"BEGIN")
    found_wallets = (LOCK_WALLETS if lock else READ_WALLETS).add_to(trip, wallet_keys)
    found_balances = (LOCK_BALANCES if lock else READ_BALANCES).add_to(trip, balance_keys)
    settlement = _lock_settlement(trip, commands) if lock else _Settlement()
    found_records = [
        (kind, (LOCK_RECORDS if lock else READ_RECORDS)[kind].add_to(trip, ids)) for kind, ids in _record_ids(commands)
    ]
    found_requests = READ_REQUESTS.add_to(trip, request_keys)
    found_refunded = READ_REFUNDED.add_to(trip, {(c.refund.transaction_id,) for c in commands if c.refund is not None})
    await trip.send()
    wallet_rows = found_wallets.rows
    state = LedgerState(now=now or _database_time(wallet_rows) or datetime.now().astimezone())
    state.wallets = {row[0]: Wallet(*row[:6]) for row in wallet_rows}
    for row in found_balances.rows:
        state.balances[row[0], Asset(row[1])] = Balance(row[0], Asset(row[1]), *row[2:])
    for row in found_requests.rows:
        state.requests[row[0], row[1]] = _stored_request(row)
    for kind, answer in found_records:
        state.records.update({(kind, row[0]): row[1] for row in answer.rows})
    state.refunded = {row[0]: row[1] for row in found_refunded.rows}
    settlement.read_into(state)
    return state


async def held_wallets(connection: CommitterConnection, commands: Sequence[Command]) -> set[UUID]:
    """The commands' wallets that another session has locked at this moment. Waits for nobody."""
    keys = {(wallet_id,) for command in commands for wallet_id in command.wallet_ids}
    trip = connection.round_trip()
    trip.add(b"BEGIN")
    free = TRY_WALLETS.add_to(trip, keys)
    there = READ_WALLETS.add_to(trip, keys)
    trip.add(b"ROLLBACK")
    await trip.send()
    return {row[0] for row in there.rows} - {row[0] for row in free.rows}


def _record_ids(commands: Sequence[Command]) -> Iterable[tuple[RecordKind, set[tuple[UUID]]]]:
    """The records that commands want to move, by kind, in the order of the locks."""
    ids: dict[RecordKind, set[tuple[UUID]]] = {}
    for command in commands:
        for transition in command.record_transitions:
            ids.setdefault(transition.kind, set()).add((transition.id,))
    return sorted(ids.items())


@dataclass(frozen=True, slots=True)
class _Settlement:
    """The settlement rows of a batch. Most batches of requests have none."""

    custody: Answer = field(default_factory=Answer)
    items: Answer = field(default_factory=Answer)
    cursors: Answer = field(default_factory=Answer)
    addresses: Answer = field(default_factory=Answer)

    def read_into(self, state: LedgerState) -> None:
        for holder, rail, asset, micros in self.custody.rows:
            state.custody[holder, Rail(rail), Asset(asset)] = micros
        for item_id, item_state, lease_token in self.items.rows:
            state.items[item_id] = ItemRow(item_id, ItemState(item_state), lease_token)
        state.cursors = {chain: (number, block_hash) for chain, number, block_hash in self.cursors.rows}
        state.addresses = {row[0]: row[1] for row in self.addresses.rows}


def _lock_settlement(trip: RoundTrip, commands: Sequence[Command]) -> _Settlement:
    custody = {(c.holder, c.rail, c.asset) for command in commands for c in command.custody}
    items = {(transition.item_id,) for command in commands for transition in command.transitions}
    chains = {(command.cursor.chain,) for command in commands if command.cursor is not None}
    tainted = {(address,) for command in commands for address in command.tainted}
    return _Settlement(
        LOCK_CUSTODY.add_to(trip, custody),
        LOCK_ITEMS.add_to(trip, items),
        LOCK_CURSORS.add_to(trip, chains),
        LOCK_ADDRESSES.add_to(trip, tainted),
    )


def _database_time(wallet_rows: Rows) -> datetime | None:
    return wallet_rows[0][6] if wallet_rows else None


def _stored_request(row: tuple[Any, ...]) -> StoredRequest:
    rejection = stored_error(row[4]["reason"], row[4]["facts"]) if row[4] else None
    return StoredRequest(bytes(row[2]), row[3], rejection, *row[5:])


# --- what was decided -----------------------------------------------------------------------------------------------

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
    "created_at",
)

UPDATE_WALLETS = _update(wallets, ("consumer_id",), ("usage_day", "usage_usd_micros"))
UPDATE_BALANCES = _update(stablecoin_balances, ("consumer_id", "asset"), _BALANCE_COLUMNS)
INSERT_TRANSACTIONS = _insert(transactions)
INSERT_POSTINGS = _insert(postings)
INSERT_ENTRIES = _insert(entries)
INSERT_REQUESTS = _insert(requests)
INSERT_SYSTEM_ENTRIES = _insert(system_entries)
INSERT_ITEMS = _insert(settlement_items, _ITEM_COLUMNS)
INSERT_LOGS = _insert(consumed_logs)
INSERT_CUSTODY = _insert(custody_positions, ("holder_id", "rail", "asset"), ignore_known=True)
INSERT_BREAKS = _insert(breaks, ("id", "kind", "subject", "facts", "found_at"), ignore_known=True)
INSERT_AUDIT = _insert(audit_log, audit.COLUMNS)
UPDATE_ATTEMPTS = _update(settlement_attempts, ("id",), ("state", "finished_at", "fee_asset", "fee_micros"))
UPDATE_CURSORS = _update(chain_cursors, ("chain",), ("number", "hash", "block_time"))
UPDATE_TAINTED = _update(tempo_addresses, ("address",), ("state",))


_FAILED = Column("failed", Integer)
# Null leaves it as it is, which the column of the table itself could not say.
_COUNTS = Column("counts_now", Boolean)


def _move_items() -> _Statement:
    """Bring items to other states; those that failed are counted, and wait in their queue until `not_before`."""
    i = settlement_items.c
    set_as_given = (i.state, i.reason, i.transaction_hash, i.block_number, i.log_index, i.confirmed_at, i.not_before)
    columns = (i.id, *set_as_given, _COUNTS, _FAILED)
    given = given_rows(columns)
    values = {column.name: given.c[column.name] for column in set_as_given}
    moved = update(settlement_items).values(
        **values, counts=func.coalesce(given.c.counts_now, i.counts), failures=i.failures + given.c.failed
    )
    return _Statement(moved.where(i.id == given.c.id), columns)


MOVE_ITEMS = _move_items()

_DELTA = Column("delta", BigInteger)
_RESERVED_DELTA = Column("reserved_delta", BigInteger)


def _move_custody() -> _Statement:
    """Add the given differences. A CHECK keeps a position from going negative, whatever was confirmed."""
    c = custody_positions.c
    columns = (c.holder_id, c.rail, c.asset, _DELTA, _RESERVED_DELTA)
    given = given_rows(columns)
    statement = update(custody_positions).values(
        micros=c.micros + given.c.delta, reserved_micros=c.reserved_micros + given.c.reserved_delta
    )
    same = (c.holder_id == given.c.holder_id, c.rail == given.c.rail, c.asset == given.c.asset)
    return _Statement(statement.where(*same), columns)


MOVE_CUSTODY = _move_custody()


def _upsert_refunded() -> _Statement:
    """How much is given back now. A CHECK keeps it from passing what was received, whatever was decided."""
    columns = list(refunded_transfers.columns)
    given = given_rows(columns)
    statement = upsert(refunded_transfers).from_select([column.name for column in columns], select(*given.c))
    total = {"refunded_micros": statement.excluded.refunded_micros}
    return _Statement(statement.on_conflict_do_update(index_elements=["transaction_id"], set_=total), columns)


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


def _record_statements(writes: Writes) -> Iterable[tuple[_Statement, Rows]]:
    """Records differ in their columns and are few: a statement for each, compiled once for each set of columns."""
    for record in writes.new_records:
        names = ("id", *record.values)
        yield _insert_record(record.kind, names), [(record.id, *record.values.values())]
    for change in writes.record_transitions:
        names = ("state", *change.values)
        yield _update_record(change.kind, names), [(change.id, change.state, *change.values.values())]


@cache
def _insert_record(kind: RecordKind, names: tuple[str, ...]) -> _Statement:
    return _insert(RECORD_TABLES[kind], names)


@cache
def _update_record(kind: RecordKind, names: tuple[str, ...]) -> _Statement:
    return _update(RECORD_TABLES[kind], ("id",), names)


def _statements(state: LedgerState, writes: Writes, entropy: Entropy) -> Iterable[tuple[_Statement, Rows]]:
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
