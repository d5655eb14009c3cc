"""Settlement items: reading them, locking them, and giving claimed ones back to their queues.

Every function that moves an item checks the state it expects with the row locked; those of a worker check its fencing
token too (money rule 2). Locks are taken in one order everywhere, the ledger's: custody positions, then items by id,
then attempts, so that claims, marks and confirmations never wait for each other in a circle. Nothing here talks to a
provider.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Integer, Select, bindparam, func, select, update

from domain.identity import AttemptId, HolderId, ItemId, TransactionId
from domain.money import Asset
from domain.settlement import FINAL, Candidate, ItemState, QueueKey, Rail
from storage import custody
from storage.database import Tx
from storage.given import GivenRows, given_ids, is_given
from storage.schema import attempt_items, settlement_items

_i = settlement_items.c
OPEN = _i.state.not_in(bindparam("final", sorted(FINAL), expanding=True, literal_execute=True))
"""What the partial index of the queues holds; written out, or a prepared plan could not use it."""

CANDIDATE = (
    _i.id,
    _i.sender,
    _i.recipient,
    _i.asset,
    _i.micros,
    _i.destination,
    _i.group_id,
    _i.failures,
    _i.attempt_id,
    _i.state,
    _i.not_before,
    _i.sender_seq,
    _i.position,
)
"""The columns `candidate` reads, and those that order and hold back a queue."""


_ASSETS = {asset.value: asset for asset in Asset}


def candidate(row: Sequence[Any]) -> Candidate:
    """The item as the choice of groups sees it, from a row that begins with the columns of CANDIDATE."""
    item_id, sender, recipient, asset, micros, destination, group_id, failures, attempt_id, state = row[:10]
    # A dead attempt is taken off its item and a reverted one is left there.
    suspect = attempt_id is not None and state == ItemState.PENDING
    return Candidate(item_id, sender, recipient, _ASSETS[asset], micros, destination, group_id, failures, suspect)


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


_STORED = (*CANDIDATE, _i.counts, _i.transaction_id)


def _stored(row: Any) -> StoredItem:
    return StoredItem(candidate(row), ItemState(row.state), row.counts, row.attempt_id, row.transaction_id)


_BY_ID = select(*_STORED).where(is_given(_i.id))


async def items_by_id(tx: Tx, ids: Collection[UUID]) -> dict[ItemId, StoredItem]:
    """The items with these ids."""
    if not ids:
        return {}
    return {row.id: _stored(row) for row in await tx.execute(_BY_ID, given_ids(ids))}


_CARRIED = (
    select(*_STORED)
    .join(attempt_items, (attempt_items.c.item_id == _i.id) & (attempt_items.c.attempt_id == _i.attempt_id))
    .where(is_given(attempt_items.c.attempt_id))
    .order_by(attempt_items.c.attempt_id, attempt_items.c.call_index)
)


async def items_of_attempts(tx: Tx, ids: Collection[AttemptId]) -> dict[AttemptId, list[StoredItem]]:
    """The items each attempt carries, in call order, as long as it is their current attempt."""
    found: dict[AttemptId, list[StoredItem]] = {attempt_id: [] for attempt_id in ids}
    for row in await tx.execute(_CARRIED, given_ids(ids)) if ids else ():
        found[row.attempt_id].append(_stored(row))
    return found


async def oldest_unsettled(tx: Tx) -> datetime | None:
    """When the oldest item that still waits was created."""
    row = (await tx.execute(select(func.min(_i.created_at)).where(OPEN))).first()
    return row[0] if row else None


# --- locking ----------------------------------------------------------------------------------------------------------


def in_locking_order(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition, on rows that are locked by id before any of them is changed.

    It is asked of the locked row once more, because what the statement first saw may have been changed while it waited.
    """
    locked: Select[Any] = select(_i.id).where(condition).order_by(_i.id).with_for_update(key_share=True)
    return _i.id.in_(locked) & condition


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """An item under a worker's lease. `token` is the fence: whoever claims it next has a higher one."""

    candidate: Candidate
    token: int
    transaction_id: TransactionId | None = None

    @property
    def queue(self) -> QueueKey:
        return self.candidate.sender, self.candidate.asset


_LOCKED = select(_i.id, _i.state, _i.lease_token).where(is_given(_i.id)).order_by(_i.id).with_for_update(key_share=True)


async def lock_claimed(tx: Tx, items: Iterable[ClaimedItem]) -> set[ItemId]:
    """Lock the items and return those still claimed under the caller's token."""
    tokens = {item.candidate.item_id: item.token for item in items}
    rows = await tx.execute(_LOCKED, given_ids(tokens))
    return {row.id for row in rows if row.state == ItemState.CLAIMED and row.lease_token == tokens[row.id]}


def debits(rows: Iterable[tuple[HolderId, Asset, int]], *, sign: int = 1) -> dict[QueueKey, int]:
    """What the items take out of each position, summed."""
    total: dict[QueueKey, int] = {}
    for sender, asset, micros in rows:
        total[sender, asset] = total.get((sender, asset), 0) + sign * micros
    return total


# --- giving back ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Release:
    """A claimed item that goes back to its queue, and why; it is not looked at before `not_before`."""

    item: ClaimedItem
    reason: str
    not_before: datetime | None = None
    failed: bool = True


_RELEASED = GivenRows(_i.id, _i.reason, _i.not_before, Column("failed", Integer))
_RELEASE = (
    update(settlement_items)
    .where(_i.id == _RELEASED.c.id)
    .values(
        state=ItemState.PENDING,
        reason=_RELEASED.c.reason,
        not_before=_RELEASED.c.not_before,
        failures=_i.failures + _RELEASED.c.failed,
        lease_until=None,
    )
)


async def release(tx: Tx, rail: Rail, releases: Sequence[Release]) -> None:
    """Put claimed items back and free their cover; whoever lost the lease meanwhile changes nothing."""
    if not releases:
        return
    await custody.positions(tx, rail, sorted({r.item.queue for r in releases}), lock=True)
    held = await lock_claimed(tx, [r.item for r in releases])
    kept = [r for r in releases if r.item.candidate.item_id in held]
    rows = [(r.item.candidate.item_id, r.reason, r.not_before, int(r.failed)) for r in kept]
    await tx.execute(_RELEASE, _RELEASED.bind(rows))
    freed = [r.item.candidate for r in kept]
    await custody.reserve(tx, rail, debits(((c.sender, c.asset, c.micros) for c in freed), sign=-1))


_IS_STALE = (_i.state == ItemState.CLAIMED) & (_i.lease_until < bindparam("now"))
_STALE = select(_i.id, _i.sender, _i.asset).where(OPEN, _IS_STALE).order_by(_i.id).limit(bindparam("count"))
_EXPIRE = (
    update(settlement_items)
    .where(in_locking_order(is_given(_i.id) & _IS_STALE))
    .values(state=ItemState.PENDING, lease_until=None, reason="lease expired")
    .returning(_i.sender, _i.asset, _i.micros)
)


async def expire_leases(tx: Tx, rail: Rail, *, now: datetime, limit: int = 1_000) -> int:
    """Items whose worker is gone before anything was persisted go back to their queues (money rule 1)."""
    rows = list(await tx.execute(_STALE, {"now": now, "count": limit}))
    if not rows:
        return 0
    await custody.positions(tx, rail, sorted({(row.sender, Asset(row.asset)) for row in rows}), lock=True)
    freed = await tx.execute(_EXPIRE, given_ids((row.id for row in rows), now=now))
    expired = [(row.sender, Asset(row.asset), row.micros) for row in freed]
    await custody.reserve(tx, rail, debits(expired, sign=-1))
    return len(expired)
