"""The first round trip: lock and read what a batch of commands is decided on.

`load` is the one place that takes the ledger's locks, always in one global order: wallets, balances, custody positions,
settlement items, chain cursors, addresses, each sorted by its key (money rule 20). What is not locked is read by later
statements of the same round trip, whose snapshots are younger than the locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, func, literal_column, select, true

from domain.commands import Command, RecordKind
from domain.errors import stored_error
from domain.ledger_state import Balance, ItemRow, LedgerState, StoredRequest, Wallet
from domain.money import Asset
from domain.settlement import ItemState, Rail
from storage.arrays import array_parameter, given_rows
from storage.committer import Answer, CommitterConnection, RoundTrip, Rows
from storage.ledger.statements import RECORD_TABLES, Statement, locking
from storage.schema import (
    chain_cursors,
    custody_positions,
    refunded_transfers,
    requests,
    settlement_items,
    stablecoin_balances,
    tempo_addresses,
    wallets,
)


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

READ_WALLETS = Statement(_read_wallets(), _WALLET_KEY)
READ_BALANCES = Statement(_read_balances(), _BALANCE_KEY)
READ_REQUESTS = Statement(_read_requests(), (requests.c.owner_id, requests.c.key))
READ_REFUNDED = Statement(_read_refunded(), (refunded_transfers.c.transaction_id,))
LOCK_WALLETS = Statement(locking(_read_wallets(), wallets), _WALLET_KEY)
LOCK_BALANCES = Statement(locking(_read_balances(), stablecoin_balances), _BALANCE_KEY)
LOCK_CUSTODY = Statement(locking(_read_custody(), custody_positions), _CUSTODY_KEY)
LOCK_ITEMS = Statement(locking(_read_items(), settlement_items), (settlement_items.c.id,))
READ_RECORDS = {kind: Statement(_read_records(table), (table.c.id,)) for kind, table in RECORD_TABLES.items()}
LOCK_RECORDS = {
    kind: Statement(locking(_read_records(table), table), (table.c.id,)) for kind, table in RECORD_TABLES.items()
}
TRY_WALLETS = Statement(_read_wallets().with_for_update(key_share=True, of=wallets, skip_locked=True), _WALLET_KEY)
LOCK_CURSORS = Statement(locking(_read_cursors(), chain_cursors), (chain_cursors.c.chain,))
LOCK_ADDRESSES = Statement(locking(_read_addresses(), tempo_addresses), (tempo_addresses.c.address,))


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
