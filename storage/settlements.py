"""Settlement items and attempts: claiming under a lease, persisting what was signed, and giving items back.

Every function that moves an item checks the state it expects with the row locked; those of a worker check its fencing
token too (money rule 2). Locks are taken in the ledger's order, custody positions before items, so that a claim and a
confirmation can never wait for each other. Nothing here talks to a provider.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, func, insert, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.identity import OPERATOR, AttemptId, HolderId, ItemId
from domain.money import Asset
from domain.settlement import (
    FINAL,
    IN_FLIGHT,
    AttemptKind,
    AttemptState,
    Candidate,
    ItemState,
    QueueKey,
    Rail,
    choose_groups,
)
from storage import custody
from storage.arrays import columns_of, given_rows
from storage.database import Tx
from storage.schema import attempt_items, settlement_attempts, settlement_items

_i = settlement_items.c
_a = settlement_attempts.c
_OPEN = _i.state.not_in(sorted(FINAL))
_FIRST = UUID(int=0)
_ID_ARRAY = ARRAY(Uuid)


# --- claiming ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """An item under a worker's lease. `token` is the fence: whoever claims it next has a higher one."""

    candidate: Candidate
    token: int

    @property
    def queue(self) -> QueueKey:
        return self.candidate.sender, self.candidate.asset


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim found: chain transactions' worth of covered items, and senders that need an allowance first."""

    groups: list[list[ClaimedItem]]
    unactivated: list[QueueKey]
    next_queue: QueueKey | None
    """Where the next look at the queues starts, so that every sender gets a turn. None: from the beginning."""


async def claim(
    tx: Tx,
    *,
    rail: Rail,
    now: datetime,
    lease: timedelta,
    start: QueueKey | None,
    max_groups: int,
    calls_per_group: int,
) -> Claim:
    """Lease covered heads of queues, and reserve their cover, in this database transaction (money rules 2, 7, 8)."""
    max_queues = max_groups * calls_per_group
    keys = await _open_queues(tx, start or (_FIRST, Asset.EURC), max_queues)
    positions = await custody.positions(tx, rail, sorted({*keys, *_operator_keys()}), lock=True, skip_locked=True)
    ready = [key for key in keys if key in positions and positions[key].activated and key[0] != OPERATOR]
    # Read again, now that the queues' positions are locked: what was seen before may be claimed by now (rule 20).
    queues = await _prefixes(tx, ready, calls_per_group, now)
    queues = await _operator_items(tx, positions.keys(), max_queues, now) + queues
    spendable = {key: position.spendable for key, position in positions.items()}
    groups = choose_groups(queues, spendable, calls_per_group=calls_per_group, max_groups=max_groups)
    chosen = [candidate for group in groups for candidate in group]
    tokens = await _lease(tx, chosen, now + lease)
    await custody.reserve(tx, rail, _debits((c.sender, c.asset, c.micros) for c in chosen))
    return Claim(
        groups=[[ClaimedItem(candidate, tokens[candidate.item_id]) for candidate in group] for group in groups],
        unactivated=[key for key in keys if key in positions and not positions[key].activated and key[0] != OPERATOR],
        next_queue=keys[-1] if len(keys) == max_queues else None,
    )


def _operator_keys() -> list[QueueKey]:
    return [(OPERATOR, asset) for asset in Asset]


async def _open_queues(tx: Tx, start: QueueKey, count: int) -> list[QueueKey]:
    """The next queues with open items: one index probe for each queue, however long the queues are."""
    first = (
        select(_i.sender, _i.asset)
        .where(_OPEN, tuple_(_i.sender, _i.asset) > tuple_(bindparam("sender"), bindparam("asset")))
        .order_by(_i.sender, _i.asset)
        .limit(1)
    )
    heads = select(*first.subquery().c).cte("heads", recursive=True)
    following = (
        select(_i.sender, _i.asset)
        .where(_OPEN, tuple_(_i.sender, _i.asset) > tuple_(heads.c.sender, heads.c.asset))
        .order_by(_i.sender, _i.asset)
        .limit(1)
        .lateral("following")
    )
    heads = heads.union_all(select(*following.c).select_from(heads.join(following, literal(True))))
    rows = await tx.execute(select(heads).limit(count), {"sender": start[0], "asset": start[1]})
    return [(row[0], Asset(row[1])) for row in rows]


def _candidate(row: Any) -> Candidate:
    return Candidate(
        row.id, row.sender, row.recipient, Asset(row.asset), row.micros, row.destination, row.group_id, row.failures
    )


_CANDIDATE = (
    _i.id,
    _i.sender,
    _i.recipient,
    _i.asset,
    _i.micros,
    _i.destination,
    _i.group_id,
    _i.state,
    _i.not_before,
    _i.failures,
    _i.sender_seq,
    _i.position,
)


async def _prefixes(tx: Tx, keys: Sequence[QueueKey], count: int, now: datetime) -> list[list[Candidate]]:
    """The first items of each queue, up to the first that may not go now. What is BLOCKED holds nobody up."""
    if not keys:
        return []
    given = given_rows((_i.sender, _i.asset))
    queue = (
        select(*_CANDIDATE)
        .where(_OPEN, _i.state != ItemState.BLOCKED, _i.sender == given.c.sender, _i.asset == given.c.asset)
        .order_by(_i.sender_seq, _i.position, _i.id)
        .limit(count)
        .lateral("queue")
    )
    ordered = (queue.c.sender, queue.c.asset, queue.c.sender_seq, queue.c.position, queue.c.id)
    statement = select(queue).select_from(given.join(queue, literal(True))).order_by(*ordered)
    rows = await tx.execute(statement, columns_of(("sender", "asset"), keys))
    found = {
        (sender, Asset(asset)): list(_ready_prefix(items, now))
        for (sender, asset), items in groupby(rows, key=lambda row: (row.sender, row.asset))
    }
    return [found[key] for key in keys if found.get(key)]


def _ready_prefix(rows: Iterable[Any], now: datetime) -> Iterable[Candidate]:
    for row in rows:
        if row.state != ItemState.PENDING or (row.not_before is not None and row.not_before > now):
            return
        yield _candidate(row)


async def _operator_items(tx: Tx, locked: Collection[QueueKey], count: int, now: datetime) -> list[list[Candidate]]:
    """The operator's own items, oldest first: exempt from the order of queues (money rule 9)."""
    assets = sorted(asset for holder, asset in locked if holder == OPERATOR)
    if not assets:
        return []
    due = _i.not_before.is_(None) | (_i.not_before <= now)
    statement = (
        select(*_CANDIDATE)
        .where(_OPEN, _i.sender == OPERATOR, _i.asset.in_(assets), _i.state == ItemState.PENDING, due)
        .order_by(_i.id)
        .limit(count)
    )
    return [[_candidate(row)] for row in await tx.execute(statement)]


async def _lease(tx: Tx, chosen: Sequence[Candidate], until: datetime) -> dict[ItemId, int]:
    if not chosen:
        return {}
    statement = (
        update(settlement_items)
        .where(_i.id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY)))))
        .values(state=ItemState.CLAIMED, lease_token=_i.lease_token + 1, lease_until=until, reason="")
        .returning(_i.id, _i.lease_token)
    )
    rows = await tx.execute(statement, {"ids": [candidate.item_id for candidate in chosen]})
    return {row[0]: row[1] for row in rows}


def _debits(rows: Iterable[tuple[HolderId, Asset, int]], *, sign: int = 1) -> dict[QueueKey, int]:
    debits: dict[QueueKey, int] = {}
    for sender, asset, micros in rows:
        debits[sender, asset] = debits.get((sender, asset), 0) + sign * micros
    return debits


# --- giving back ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Release:
    """A claimed item that goes back to its queue, and why; it is not looked at before `not_before`."""

    item: ClaimedItem
    reason: str
    not_before: datetime | None = None
    failed: bool = True


async def release(tx: Tx, rail: Rail, releases: Sequence[Release]) -> None:
    """Put claimed items back and free their cover; whoever lost the lease meanwhile changes nothing."""
    if not releases:
        return
    await custody.positions(tx, rail, sorted({r.item.queue for r in releases}), lock=True)
    held = await _lock_claimed(tx, [r.item for r in releases])
    for entry in releases:
        candidate = entry.item.candidate
        if candidate.item_id in held:
            await tx.execute(
                update(settlement_items)
                .where(_i.id == candidate.item_id)
                .values(
                    state=ItemState.PENDING,
                    reason=entry.reason,
                    not_before=entry.not_before,
                    failures=_i.failures + int(entry.failed),
                    lease_until=None,
                )
            )
    freed = [r.item.candidate for r in releases if r.item.candidate.item_id in held]
    await custody.reserve(tx, rail, _debits(((c.sender, c.asset, c.micros) for c in freed), sign=-1))


async def _lock_claimed(tx: Tx, items: Sequence[ClaimedItem]) -> set[ItemId]:
    """Lock the items and return those still claimed under the caller's token."""
    tokens = {item.candidate.item_id: item.token for item in items}
    rows = await tx.execute(
        select(_i.id, _i.state, _i.lease_token)
        .where(_i.id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY)))))
        .order_by(_i.id)
        .with_for_update(key_share=True),
        {"ids": sorted(tokens)},
    )
    return {row.id for row in rows if row.state == ItemState.CLAIMED and row.lease_token == tokens[row.id]}


async def expire_leases(tx: Tx, rail: Rail, *, now: datetime, limit: int = 1_000) -> int:
    """Items whose worker is gone before anything was persisted go back to their queues (money rule 1)."""
    stale = (_i.state == ItemState.CLAIMED) & (_i.lease_until < now)
    found = await tx.execute(select(_i.id, _i.sender, _i.asset).where(_OPEN, stale).order_by(_i.id).limit(limit))
    rows = list(found)
    if not rows:
        return 0
    await custody.positions(tx, rail, sorted({(row.sender, Asset(row.asset)) for row in rows}), lock=True)
    freed = await tx.execute(
        update(settlement_items)
        .where(_i.id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY)))), stale)
        .values(state=ItemState.PENDING, lease_until=None, reason="lease expired")
        .returning(_i.sender, _i.asset, _i.micros),
        {"ids": [row.id for row in rows]},
    )
    debits = [(row.sender, Asset(row.asset), row.micros) for row in freed]
    await custody.reserve(tx, rail, _debits(debits, sign=-1))
    return len(debits)


# --- attempts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A signed attempt as it is persisted before anything is sent (money rule 1)."""

    id: AttemptId
    kind: AttemptKind
    rail: Rail
    provider: str
    reference: str
    payload: bytes
    valid_before: datetime
    signed_at: datetime
    state: AttemptState = AttemptState.SIGNED
    holder: HolderId | None = None
    assets: tuple[Asset, ...] = ()
    tries: int = 0


async def persist_attempt(tx: Tx, attempt: Attempt, items: Sequence[ClaimedItem]) -> bool:
    """Store a signed transfer under its items' fencing tokens. False: a lease was lost, throw the signature away."""
    held = await _lock_claimed(tx, items)
    if len(held) != len(items):
        return False
    if not await _insert_attempt(tx, attempt):
        raise AssertionError(f"attempt {attempt.reference} is persisted already")
    calls = [(item.candidate.item_id, attempt.id, index) for index, item in enumerate(items)]
    given = given_rows(tuple(attempt_items.c))
    statement = insert(attempt_items).from_select(list(attempt_items.c.keys()), select(*given.c))
    await tx.execute(statement, columns_of(tuple(attempt_items.c.keys()), calls))
    await tx.execute(
        update(settlement_items)
        .where(_i.id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY)))))
        .values(state=ItemState.SIGNED, attempt_id=attempt.id, lease_until=None),
        {"ids": [item.candidate.item_id for item in items]},
    )
    return True


async def persist_activation(tx: Tx, attempt: Attempt) -> bool:
    """Store a signed activation, unless one of the same consumer is already under way."""
    return await _insert_attempt(tx, attempt)


_OPEN_ATTEMPTS = (AttemptState.SIGNED, AttemptState.BROADCAST)


async def _insert_attempt(tx: Tx, attempt: Attempt) -> bool:
    inserted = await tx.execute(
        upsert(settlement_attempts)
        .values(
            id=attempt.id,
            kind=attempt.kind,
            rail=attempt.rail,
            provider=attempt.provider,
            reference=attempt.reference,
            payload=attempt.payload,
            state=attempt.state,
            holder_id=attempt.holder,
            asset=",".join(attempt.assets) or None,
            valid_before=attempt.valid_before,
            signed_at=attempt.signed_at,
        )
        .on_conflict_do_nothing()
        .returning(_a.id)
    )
    return inserted.first() is not None


async def mark_broadcast(tx: Tx, attempts: Sequence[tuple[AttemptId, str]], *, now: datetime) -> None:
    """Note that attempts were handed over, with the error each ended in, if any. Proves nothing (money rule 1)."""
    if not attempts:
        return
    ids = [attempt_id for attempt_id, _ in attempts]
    for attempt_id, error in sorted(attempts):
        await tx.execute(
            update(settlement_attempts)
            .where(_a.id == attempt_id, _a.state.in_(_OPEN_ATTEMPTS))
            .values(
                state=AttemptState.BROADCAST,
                broadcast_at=func.coalesce(_a.broadcast_at, now),
                tries=_a.tries + 1,
                last_error=error,
            )
        )
    await tx.execute(
        update(settlement_items)
        .where(_i.attempt_id.in_(ids), _i.state == ItemState.SIGNED)
        .values(state=ItemState.BROADCAST)
    )


def _attempt(row: Any) -> Attempt:
    return Attempt(
        id=row.id,
        kind=AttemptKind(row.kind),
        rail=Rail(row.rail),
        provider=row.provider,
        reference=row.reference,
        payload=bytes(row.payload),
        valid_before=row.valid_before,
        signed_at=row.signed_at,
        state=AttemptState(row.state),
        holder=row.holder_id,
        assets=tuple(Asset(asset) for asset in (row.asset or "").split(",") if asset),
        tries=row.tries,
    )


async def open_attempts(
    tx: Tx, *, kind: AttemptKind | None = None, signed_before: datetime | None = None, limit: int = 500
) -> list[Attempt]:
    """Attempts that may still land, the soonest to expire first."""
    statement: Select[Any] = select(settlement_attempts).where(_a.state.in_(_OPEN_ATTEMPTS))
    if kind is not None:
        statement = statement.where(_a.kind == kind)
    if signed_before is not None:
        statement = statement.where(_a.signed_at < signed_before)
    rows = await tx.execute(statement.order_by(_a.valid_before, _a.id).limit(limit))
    return [_attempt(row) for row in rows]


async def attempts_by_reference(tx: Tx, references: Collection[str]) -> dict[str, Attempt]:
    """Our attempts among these chain transactions."""
    if not references:
        return {}
    rows = await tx.execute(select(settlement_attempts).where(_a.reference.in_(sorted(references))))
    return {row.reference: _attempt(row) for row in rows}


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A settlement item as far as the watcher and the judge of attempts need it."""

    candidate: Candidate
    state: ItemState
    counts: bool
    attempt_id: AttemptId | None
    transaction_id: UUID | None

    @property
    def queue(self) -> QueueKey:
        return self.candidate.sender, self.candidate.asset


def _stored(row: Any) -> StoredItem:
    return StoredItem(_candidate(row), ItemState(row.state), row.counts, row.attempt_id, row.transaction_id)


async def items_by_id(tx: Tx, ids: Collection[UUID]) -> dict[UUID, StoredItem]:
    """The items with these ids."""
    if not ids:
        return {}
    wanted = _i.id.in_(select(func.unnest(bindparam("ids", type_=_ID_ARRAY))))
    rows = await tx.execute(select(settlement_items).where(wanted), {"ids": sorted(ids)})
    return {row.id: _stored(row) for row in rows}


async def items_of_attempts(tx: Tx, ids: Collection[AttemptId]) -> dict[AttemptId, list[StoredItem]]:
    """The items each attempt carries, in call order, as long as it is their current attempt."""
    found: dict[AttemptId, list[StoredItem]] = {attempt_id: [] for attempt_id in ids}
    if not ids:
        return found
    carried = attempt_items.c
    statement = (
        select(settlement_items)
        .join(attempt_items, (carried.item_id == _i.id) & (carried.attempt_id == _i.attempt_id))
        .where(carried.attempt_id.in_(sorted(ids)))
        .order_by(carried.attempt_id, carried.call_index)
    )
    for row in await tx.execute(statement):
        found[row.attempt_id].append(_stored(row))
    return found


async def bury(tx: Tx, rail: Rail, attempt: Attempt, *, state: AttemptState, now: datetime, reason: str) -> int:
    """Close an attempt that is proven never to land, and give its items another chance (money rules 1 and 3)."""
    items = (await items_of_attempts(tx, [attempt.id]))[attempt.id]
    await custody.positions(tx, rail, sorted({item.queue for item in items}), lock=True)
    freed = list(
        await tx.execute(
            update(settlement_items)
            .where(_i.attempt_id == attempt.id, _i.state.in_(sorted(IN_FLIGHT)))
            .values(state=ItemState.PENDING, attempt_id=None, reason=reason)
            .returning(_i.sender, _i.asset, _i.micros)
        )
    )
    await tx.execute(
        update(settlement_attempts)
        .where(_a.id == attempt.id, _a.state.in_(_OPEN_ATTEMPTS))
        .values(state=state, finished_at=now, last_error=reason)
    )
    await custody.reserve(tx, rail, _debits(((row[0], Asset(row[1]), row[2]) for row in freed), sign=-1))
    return len(freed)


async def mark_indeterminate(tx: Tx, attempt_id: AttemptId, reason: str) -> None:
    """Nothing can be proven of the attempt right now; its items wait, visibly, with the reason."""
    await tx.execute(
        update(settlement_items)
        .where(_i.attempt_id == attempt_id, _i.state.in_([ItemState.SIGNED, ItemState.BROADCAST]))
        .values(state=ItemState.INDETERMINATE, reason=reason)
    )


async def finish_activation(tx: Tx, attempt_id: AttemptId, *, state: AttemptState, now: datetime) -> None:
    """Close an activation by its effect (money rule 6)."""
    await tx.execute(
        update(settlement_attempts)
        .where(_a.id == attempt_id, _a.state.in_(_OPEN_ATTEMPTS))
        .values(state=state, finished_at=now)
    )


async def oldest_unsettled(tx: Tx) -> datetime | None:
    """When the oldest item that still waits was created."""
    row = (await tx.execute(select(func.min(_i.created_at)).where(_OPEN))).first()
    return row[0] if row else None
