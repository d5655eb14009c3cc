"""Settlement: making ledger effects true on a rail. States, and the pure choice of what one chain transaction carries.

The choice keeps two money rules. *Order* (rule 7): a consumer's items on a rail settle strictly in the order in which
the ledger committed them, so only the head of a queue, or a prefix of it inside the same chain transaction, may go.
*Cover* (rule 8): an item may go when what stands on the rail for its sender, less what is already in flight, pays
for it; money that an earlier call of the same chain transaction brings counts too, that of another one does not.
Only consumers are credited so: a consumer has no other transaction in flight that could spend the credit first.

The items of a *group*, the two sides of a swap, go together or not at all, so they have a chain transaction to
themselves (money rule 18).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from domain.identity import HolderId, ItemId, is_consumer
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
    """A transfer moves items, an activation lets the operator move a consumer's tokens, a sale trades its own."""

    TRANSFER = "transfer"
    ACTIVATION = "activation"
    SALE = "sale"


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
    suspect: bool = False
    """Its last attempt reverted on the rail: it goes alone now, so that an offender harms nobody twice."""
    followers: tuple[Candidate, ...] = ()
    """The rest of its group, which goes in the same chain transaction right behind it."""

    @property
    def calls(self) -> tuple[Candidate, ...]:
        """It and what goes with it, in order."""
        return (self, *self.followers)

    @property
    def alone(self) -> bool:
        """Whether nothing else may ride in its chain transaction."""
        return self.suspect or self.group_id is not None


QueueKey = tuple[HolderId, Asset]


@dataclass(slots=True)
class _Queue:
    key: QueueKey
    items: deque[Candidate]


def choose_groups(
    queues: Sequence[Sequence[Candidate]],
    spendable: Mapping[QueueKey, int],
    *,
    calls_per_group: int,
    max_groups: int,
) -> list[list[Candidate]]:
    """Fill up to `max_groups` chain transactions with covered items, in call order.

    `queues` are the senders' queues, each in its order, in the order in which they deserve a turn; an operator's item
    is a queue of its own. `spendable` is custody less debits in flight, in micros.
    """
    left = dict(spendable)
    waiting = [_Queue((items[0].sender, items[0].asset), deque(items)) for items in queues if items]
    groups: list[list[Candidate]] = []
    while waiting and len(groups) < max_groups:
        group, waiting = _Group(left, calls_per_group).fill(waiting)
        if not group:
            break
        groups.append(group)
    return groups


class _Group:
    """One chain transaction as it fills. A queue that contributes to it has no turn in another one (rule 7)."""

    def __init__(self, left: dict[QueueKey, int], calls: int) -> None:
        self._left = left
        self._calls = calls
        self._credits: dict[QueueKey, int] = {}
        self._items: list[Candidate] = []

    @property
    def _full(self) -> bool:
        return len(self._items) == self._calls

    def fill(self, waiting: Sequence[_Queue]) -> tuple[list[Candidate], list[_Queue]]:
        """The calls, and the queues that still wait for a turn."""
        turn, uncovered = deque(waiting), dict[QueueKey, list[_Queue]]()
        used: set[int] = set()
        while turn and not self._full:
            queue = turn.popleft()
            taken = self._take(queue)
            if taken:
                used.add(id(queue))
            if queue.items and not self._full:
                uncovered.setdefault(queue.key, []).append(queue)
            for item in taken:
                # The money just moved may cover the head of its recipient's queue, later in the same transaction.
                turn.extendleft(uncovered.pop((item.recipient, item.asset), ()))
        return self._items, [queue for queue in waiting if id(queue) not in used]

    def _take(self, queue: _Queue) -> list[Candidate]:
        """As long a prefix of the queue as is covered and fits."""
        taken: list[Candidate] = []
        while queue.items and not self._full and self._covers(queue.items[0]) and self._suits(queue.items[0]):
            item = queue.items.popleft()
            for call in item.calls:
                self._add(call)
            taken.append(item)
        return taken

    def _add(self, item: Candidate) -> None:
        payer = (item.sender, item.asset)
        self._left[payer] = self._left.get(payer, 0) - item.micros
        if is_consumer(item.recipient):
            # Not the operator's: its items keep no order, so another one in flight may spend the credit first.
            self._credits[item.recipient, item.asset] = self._credit(item.recipient, item.asset) + item.micros
        self._items.append(item)

    def _covers(self, item: Candidate) -> bool:
        """Every payer has what the item and its followers take, without counting what they bring each other."""
        needed: dict[QueueKey, int] = {}
        for call in item.calls:
            needed[call.sender, call.asset] = needed.get((call.sender, call.asset), 0) + call.micros
        return all(self._left.get(key, 0) + self._credit(*key) >= micros for key, micros in needed.items())

    def _suits(self, item: Candidate) -> bool:
        """A suspect and a group have a transaction to themselves."""
        return not self._items or not (item.alone or self._items[0].alone)

    def _credit(self, holder: HolderId, asset: Asset) -> int:
        return self._credits.get((holder, asset), 0)


_RETRY_SECONDS = (1, 2, 5, 15, 60)


def retry_after(failures: int) -> timedelta:
    """How long an item that was refused for a passing reason waits before it is looked at again."""
    return timedelta(seconds=_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
