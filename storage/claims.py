"""Claiming: which items may go now, leased and covered in one commit (money rules 2, 7 and 8).

The queues are found without a queue table: a partial index on open items is walked from queue to queue, one probe for
each, however long the queues are. The custody row of a queue's sender is the queue's lock, because cover has to be
reserved there anyway; what another worker holds is skipped.

A group, the two sides of a swap, stands in the queue of the consumer who sells: the operator's side follows it, and is
no queue of its own unless the consumer's side is BLOCKED or gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, literal, select, tuple_, update

from domain.errors import StateConflict
from domain.identity import FEE_PAYER, OPERATOR, ItemId
from domain.money import Asset
from domain.settlement import FINAL, Candidate, ItemState, QueueKey, Rail, choose_groups
from storage import custody
from storage.custody import Position
from storage.database import Tx
from storage.given import GivenRows, given_ids, is_given
from storage.schema import settlement_items
from storage.settlements import CANDIDATE, OPEN, ClaimedItem, candidate, debits

_i = settlement_items.c

Place = tuple[UUID, str]
Followers = Mapping[UUID, tuple[Candidate, ...]]
"""What goes with the consumer's side of each group that may go now."""

_BEFORE_CONSUMERS: Place = (FEE_PAYER, "")
_QUEUE_ORDER = (_i.sender_seq, _i.position, _i.id)
_ON_RAIL = _i.rail == bindparam("on_rail")


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim found: chain transactions' worth of covered items, and senders that need an allowance first."""

    groups: list[list[ClaimedItem]]
    unactivated: list[QueueKey]
    next_queue: Place | None
    """Where the next look at the queues starts, so that every sender gets a turn. None: from the beginning."""


async def claim(
    tx: Tx,
    *,
    rail: Rail,
    now: datetime,
    lease: timedelta,
    start: Place | None,
    max_groups: int,
    calls_per_group: int,
) -> Claim:
    """Lease covered heads of queues, and reserve their cover, in this database transaction."""
    look = _Look(tx, rail, now, wanted=max_groups * calls_per_group, depth=calls_per_group)
    await look.gather(start or _BEFORE_CONSUMERS)
    spendable = {key: position.spendable for key, position in look.positions.items()}
    groups = choose_groups(look.queues, spendable, calls_per_group=calls_per_group, max_groups=max_groups)
    chosen = [item for group in groups for item in group]
    claimed = await _lease(tx, rail, chosen, now + lease)
    await custody.reserve(tx, rail, debits((c.sender, c.asset, c.micros) for c in chosen))
    return Claim([[claimed[item.item_id] for item in group] for group in groups], look.unactivated, look.next_queue)


_FIRST_PART = 64


class _Look:
    """One look at the queues: deeper or wider, until there is enough to choose from.

    Long queues are few and short ones many, so it takes a few queues first and each time twice as many. What it does
    not look at it does not lock, which the watcher is grateful for.
    """

    def __init__(self, tx: Tx, rail: Rail, now: datetime, *, wanted: int, depth: int) -> None:
        self._tx, self._rail, self._now = tx, rail, now
        self._wanted, self._depth = wanted, depth
        self.positions: dict[QueueKey, Position] = {}
        self.queues: list[list[Candidate]] = []
        self.unactivated: list[QueueKey] = []
        self.next_queue: Place | None = None

    async def gather(self, start: Place) -> None:
        """Lock and read the operator's items, then queue after queue in the order of the locks."""
        heads = await _waiting_queues(self._tx, self._rail, start, self._wanted, self._now)
        group_ids = {group_id for group_id in heads.values() if group_id is not None}
        followers = await self._lock_operator(group_ids)
        keys, part = list(heads), _FIRST_PART
        looked_at = 0
        while looked_at < len(keys) and sum(map(len, self.queues)) < self._wanted:
            await self._look_at(keys[looked_at : looked_at + part], followers)
            looked_at, part = looked_at + part, 2 * part
        if keys and (looked_at < len(keys) or len(keys) == self._wanted):
            self.next_queue = keys[min(looked_at, len(keys)) - 1]

    async def _lock_operator(self, group_ids: Collection[UUID]) -> Followers:
        """The operator's own items, and its sides of groups, as far as its positions are ours for this claim."""
        own = await _operator_items(self._tx, self._rail, self._wanted, self._now)
        sides = await _followers(self._tx, group_ids)
        await self._lock({(OPERATOR, item.asset) for item in (*own, *map(candidate, sides))})
        # Read again, now that the positions are locked: what was seen before may be claimed by now (rule 20).
        items = await _operator_items(self._tx, self._rail, self._wanted, self._now) if own else []
        self.queues += [[item] for item in items if (OPERATOR, item.asset) in self.positions]
        return _ready_groups(group_ids, await _followers(self._tx, group_ids), self.positions, self._now)

    async def _look_at(self, keys: Sequence[QueueKey], groups: Followers) -> None:
        await self._lock(keys)
        found = [(key, self.positions[key]) for key in keys if key in self.positions]
        self.unactivated += [key for key, position in found if not position.activated]
        # Nothing else of the queue may be in flight, wherever in it: a retried item goes in front of others.
        ready = [key for key, position in found if position.activated and not position.reserved_micros]
        self.queues += await _prefixes(self._tx, self._rail, ready, self._depth, self._now, groups)

    async def _lock(self, keys: Collection[QueueKey]) -> None:
        self.positions |= await custody.positions(self._tx, self._rail, sorted(keys), lock=True, skip_locked=True)


def _is_ready(row: Any, now: datetime) -> bool:
    return bool(row.state == ItemState.PENDING and (row.not_before is None or row.not_before <= now))


def _due(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.is_(None) | (column <= bindparam("now"))


def _heads_waiting() -> Select[Any]:
    """Walk from queue to queue, and keep those whose head waits. What is BLOCKED holds nobody up: it is passed over."""
    columns = (_i.sender, _i.asset, _i.state, _i.not_before, _i.group_id)
    in_order = select(*columns).where(OPEN, _i.state != ItemState.BLOCKED, _ON_RAIL)
    in_order = in_order.order_by(_i.sender, _i.asset, *_QUEUE_ORDER).limit(1)
    after_start = tuple_(_i.sender, _i.asset) > tuple_(bindparam("sender"), bindparam("asset"))
    heads = select(*in_order.where(after_start).subquery().c).cte("heads", recursive=True)
    after_last = tuple_(_i.sender, _i.asset) > tuple_(heads.c.sender, heads.c.asset)
    following = in_order.where(after_last).lateral("following")
    heads = heads.union_all(select(*following.c).select_from(heads.join(following, literal(True))))
    waiting = (heads.c.state == ItemState.PENDING) & _due(heads.c.not_before)
    return select(heads.c.sender, heads.c.asset, heads.c.group_id).where(waiting).limit(bindparam("count"))


_HEADS_WAITING = _heads_waiting()


async def _waiting_queues(tx: Tx, rail: Rail, start: Place, count: int, now: datetime) -> dict[QueueKey, UUID | None]:
    """The next queues whose head waits to be claimed, in order, with the group of that head."""
    given = {"sender": start[0], "asset": start[1], "count": count, "now": now, "on_rail": rail}
    rows = await tx.execute(_HEADS_WAITING, given)
    return {(row[0], Asset(row[1])): row[2] for row in rows}


_QUEUES = GivenRows(_i.sender, _i.asset)


def _read_prefixes() -> Select[Any]:
    of_queue = (_i.sender == _QUEUES.c.sender) & (_i.asset == _QUEUES.c.asset)
    prefix = select(*CANDIDATE).where(OPEN, _i.state != ItemState.BLOCKED, _ON_RAIL, of_queue)
    queue = prefix.order_by(*_QUEUE_ORDER).limit(bindparam("count")).lateral("queue")
    ordered = (queue.c.sender, queue.c.asset, queue.c.sender_seq, queue.c.position, queue.c.id)
    return select(queue).select_from(_QUEUES.table.join(queue, literal(True))).order_by(*ordered)


_PREFIXES = _read_prefixes()


async def _prefixes(
    tx: Tx, rail: Rail, keys: Sequence[QueueKey], count: int, now: datetime, groups: Followers
) -> list[list[Candidate]]:
    """The first items of each queue, up to the first that may not go now."""
    if not keys:
        return []
    rows = await tx.execute(_PREFIXES, _QUEUES.bind(keys, count=count, on_rail=rail))
    found = {
        (sender, Asset(asset)): list(_ready_prefix(items, now, groups))
        for (sender, asset), items in groupby(rows, key=lambda row: (row.sender, row.asset))
    }
    return [found[key] for key in keys if found.get(key)]


def _ready_prefix(rows: Iterable[Any], now: datetime, groups: Followers) -> Iterable[Candidate]:
    for row in rows:
        if not _is_ready(row, now) or (row.group_id is not None and row.group_id not in groups):
            return
        yield replace(candidate(row), followers=groups[row.group_id]) if row.group_id else candidate(row)


# --- groups -----------------------------------------------------------------------------------------------------------

_FOLLOWERS = (
    select(*CANDIDATE)
    .where(OPEN, _i.sender == OPERATOR, _i.state != ItemState.BLOCKED, is_given(_i.group_id))
    .order_by(_i.group_id, _i.position, _i.id)
)


async def _followers(tx: Tx, group_ids: Collection[UUID]) -> list[Any]:
    """The operator's sides of these groups. One that is BLOCKED holds the consumer's side up no longer."""
    if not group_ids:
        return []
    return list(await tx.execute(_FOLLOWERS, given_ids(group_ids)))


def _ready_groups(
    group_ids: Collection[UUID], rows: Sequence[Any], positions: Collection[QueueKey], now: datetime
) -> Followers:
    """The groups of which everything may go now, the operator's position being locked by this claim."""
    found: dict[UUID, list[Any]] = {group_id: [] for group_id in group_ids}
    for row in rows:
        found[row.group_id].append(row)
    return {
        group_id: tuple(candidate(row) for row in followers)
        for group_id, followers in found.items()
        if all(_is_ready(row, now) and (OPERATOR, Asset(row.asset)) in positions for row in followers)
    }


# --- the operator's own -----------------------------------------------------------------------------------------------


def _free_of_its_group() -> ColumnElement[bool]:
    """No other side of its group can still go, so there is nothing to go with. Both belong to one transaction."""
    other = settlement_items.alias("other")
    is_other_side = (other.c.transaction_id == _i.transaction_id) & (other.c.group_id == _i.group_id)
    can_go = other.c.state.not_in(sorted({*FINAL, ItemState.BLOCKED})) & (other.c.sender != OPERATOR)
    return _i.group_id.is_(None) | ~select(other.c.id).where(is_other_side, can_go).exists()


_OPERATORS = (
    select(*CANDIDATE)
    .where(OPEN, _ON_RAIL, _i.sender == OPERATOR, _i.state == ItemState.PENDING)
    .where(_due(_i.not_before), _free_of_its_group())
    .order_by(_i.id)
    .limit(bindparam("count"))
)


async def _operator_items(tx: Tx, rail: Rail, count: int, now: datetime) -> list[Candidate]:
    """The operator's own items, oldest first: exempt from the order of queues (money rule 9)."""
    return [candidate(row) for row in await tx.execute(_OPERATORS, {"now": now, "count": count, "on_rail": rail})]


_LEASE = (
    update(settlement_items)
    .where(is_given(_i.id), _i.state == ItemState.PENDING, _ON_RAIL)
    .values(state=ItemState.CLAIMED, lease_token=_i.lease_token + 1, lease_until=bindparam("until"), reason="")
    .returning(_i.id, _i.lease_token, _i.transaction_id)
)


async def _lease(tx: Tx, rail: Rail, chosen: Sequence[Candidate], until: datetime) -> dict[ItemId, ClaimedItem]:
    if not chosen:
        return {}
    by_id = {item.item_id: item for item in chosen}
    rows = await tx.execute(_LEASE, given_ids(by_id, until=until, on_rail=rail))
    claimed = {row[0]: ClaimedItem(by_id[row[0]], row[1], row[2]) for row in rows}
    if claimed.keys() != by_id.keys():
        # It went another way while this looked at its queue, whose position did not exist to be locked yet.
        raise StateConflict("items of a claim", ItemState.PENDING, f"{len(by_id) - len(claimed)} others")
    return claimed
