"""Settlement: making ledger effects true on a rail. States, and the pure choice of what one chain transaction carries.

The choice keeps two money rules. *Order* (rule 7): a consumer's items on a rail settle strictly in the order in which
the ledger committed them, so only the head of a queue, or a prefix of it inside the same chain transaction, may go.
*Cover* (rule 8): an item may go when what stands on the rail for its sender, less what is already in flight, pays
for it; money that an earlier call of the same chain transaction brings counts too, that of another one does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from domain.identity import HolderId, ItemId
from domain.money import Asset


class Rail(StrEnum):
    """Where a position can stand."""

    TEMPO = "tempo"
    CIRCLE = "circle"
    MINT = "mint"


class ItemState(StrEnum):
    """What was last observed of a settlement item."""

    PENDING = "PENDING"
    CLAIMED = "CLAIMED"
    """A worker holds a lease and prepares an attempt; none is persisted yet."""
    SIGNED = "SIGNED"
    BROADCAST = "BROADCAST"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    BLOCKED = "BLOCKED"
    INDETERMINATE = "INDETERMINATE"
    CANCELLED = "CANCELLED"
    """Will not settle: an adjustment took its place in the same commit."""


class AttemptState(StrEnum):
    """What was last observed of one signed attempt."""

    SIGNED = "SIGNED"
    BROADCAST = "BROADCAST"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    """In a finalized block with status 0: the fee was paid and nothing moved."""
    DEAD = "DEAD"
    """Proven never to land (money rule 3)."""


class AttemptKind(StrEnum):
    """A transfer moves items; an activation lets the operator move a consumer's tokens."""

    TRANSFER = "transfer"
    ACTIVATION = "activation"


IN_FLIGHT = frozenset({ItemState.SIGNED, ItemState.BROADCAST, ItemState.INDETERMINATE})
"""A signed attempt of the item is persisted and may still land."""

FINAL = frozenset({ItemState.CONFIRMED, ItemState.FAILED, ItemState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that could settle now, as far as its own queue is concerned."""

    item_id: ItemId
    sender: HolderId
    recipient: HolderId
    asset: Asset
    micros: int
    destination: str | None = None
    group_id: UUID | None = None
    failures: int = 0


QueueKey = tuple[HolderId, Asset]


@dataclass(slots=True)
class _Queue:
    key: QueueKey
    items: deque[Candidate]


def choose_groups(
    queues: Sequence[Sequence[Candidate]],
    spendable: dict[QueueKey, int],
    *,
    calls_per_group: int,
    max_groups: int,
) -> list[list[Candidate]]:
    """Fill up to `max_groups` chain transactions with covered items, in call order.

    `queues` are the senders' queues, each in its order, in the order in which they deserve a turn; an operator's item
    is a queue of its own. `spendable` is custody less debits in flight, in micros, and is not changed.
    """
    spendable = dict(spendable)
    waiting = [_Queue((items[0].sender, items[0].asset), deque(items)) for items in queues if items]
    groups: list[list[Candidate]] = []
    while waiting and len(groups) < max_groups:
        group, waiting = _fill_group(waiting, spendable, calls_per_group)
        if not group:
            break
        groups.append(group)
    return groups


def _fill_group(
    waiting: list[_Queue], spendable: dict[QueueKey, int], calls: int
) -> tuple[list[Candidate], list[_Queue]]:
    """One chain transaction. A queue that contributes to it has no turn in another one (rule 7)."""
    group: list[Candidate] = []
    credits: dict[QueueKey, int] = {}
    uncovered: dict[QueueKey, list[_Queue]] = {}
    turn = deque(waiting)
    used: set[int] = set()
    while turn and len(group) < calls:
        queue = turn.popleft()
        taken = _take_covered(queue, spendable, credits, group, calls)
        if taken:
            used.add(id(queue))
        if queue.items and len(group) < calls:
            uncovered.setdefault(queue.key, []).append(queue)
        for item in taken:
            # The money just moved may cover the head of its recipient's queue, later in the same transaction.
            turn.extendleft(uncovered.pop((item.recipient, item.asset), []))
    return group, [queue for queue in waiting if id(queue) not in used]


def _take_covered(
    queue: _Queue,
    spendable: dict[QueueKey, int],
    credits: dict[QueueKey, int],
    group: list[Candidate],
    calls: int,
) -> list[Candidate]:
    taken = []
    while queue.items and len(group) < calls:
        item = queue.items[0]
        if spendable.get(queue.key, 0) + credits.get(queue.key, 0) < item.micros:
            break
        spendable[queue.key] = spendable.get(queue.key, 0) - item.micros
        target = (item.recipient, item.asset)
        credits[target] = credits.get(target, 0) + item.micros
        group.append(queue.items.popleft())
        taken.append(item)
    return taken


_RETRY_SECONDS = (1, 2, 5, 15, 60)


def retry_after(failures: int) -> timedelta:
    """How long an item that was refused for a passing reason waits before it is looked at again."""
    return timedelta(seconds=_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
