"""How far a stream of transactions has come: which entries were told, and whose settlement is still being followed.

The ledger's events rest on balances' versions, which have no gaps and are commit order (money rule 26): what was told
is one number for each asset. Settlement moves on without the ledger, so what was told and is not settled yet is kept
in mind, and so is the place up to which everything is settled or kept in mind. Both go into a cursor, where there is
room for a few transactions by name; what has none is found again from that place on, and told once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from uuid import UUID

from domain.identity import ItemId
from domain.money import Asset
from domain.settlement import FINAL, ItemState

FOLLOWED_LIMIT = 1_000
"""Transactions of one asset that a stream follows at a time. Older ones make room by settling; nothing is ever passed
over. A token that stands still holds up no other."""

NAMED_LIMIT = 16
"""Transactions a cursor names."""

ItemStates = Mapping[ItemId, ItemState]
Entry = tuple[Asset, int]
"""An asset and a version: one entry of a consumer's history."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the stream, as a cursor keeps it. `settled` never lies beyond `told`."""

    told: Mapping[Asset, int]
    settled: Mapping[Asset, int]
    """Everything up to here is settled, or named."""
    named: tuple[Entry, ...] = ()

    @classmethod
    def at(cls, versions: Mapping[Asset, int]) -> Mark:
        """Behind these versions, with nothing before them to follow."""
        return cls(dict(versions), dict(versions))


@dataclass(slots=True)
class Followed:
    """A transaction that was told and has not settled, with what was told of its items (None: that is not known)."""

    entry: Entry
    told: ItemStates | None


@dataclass(slots=True)
class StreamPosition:
    """The place of one open stream, as it moves."""

    told: dict[Asset, int]
    settled: dict[Asset, int]
    followed: dict[UUID, Followed] = field(default_factory=dict)

    @classmethod
    def resumed(cls, mark: Mark) -> StreamPosition:
        """Where a cursor left off. Whom it names has yet to be looked up, and be followed."""
        return cls(
            {asset: mark.told.get(asset, 0) for asset in Asset}, {asset: mark.settled.get(asset, 0) for asset in Asset}
        )

    def tell(self, entry: Entry, transaction_id: UUID | None = None, states: ItemStates | None = None) -> None:
        """The next entry was told, with its settlement as it stood; an entry that shows nothing has no transaction."""
        asset, version = entry
        self.told[asset] = version
        if self.settled[asset] != version - 1:
            return  # An older entry waits to be looked at; this one comes after it.
        if transaction_id is None or states is None or is_settled(states):
            self.settled[asset] = version
        elif self._room(asset) > 0:
            self.settled[asset] = version
            self.followed[transaction_id] = Followed(entry, states)

    def _room(self, asset: Asset) -> int:
        """How many more transactions of an asset can be followed."""
        return FOLLOWED_LIMIT - sum(one.entry[0] is asset for one in self.followed.values())

    def unseen(self) -> dict[Asset, tuple[int, int]]:
        """Entries that were told and whose settlement nobody has looked at: behind the first version, up to the last.

        No more of them than there is room for.
        """
        unseen = {}
        for asset in (asset for asset in Asset if self.settled[asset] < self.told[asset]):
            behind, room = self.settled[asset], self._room(asset)
            if room > 0:
                unseen[asset] = (behind, min(self.told[asset], behind + room))
        return unseen

    def see(self, entry: Entry, transaction_id: UUID) -> None:
        """Follow the next unseen entry. What was told of it, before the stream was resumed, is not known."""
        self.settled[entry[0]] = entry[1]
        self.follow(entry, transaction_id)

    def follow(self, entry: Entry, transaction_id: UUID) -> None:
        """Follow a transaction that the cursor named."""
        self.followed.setdefault(transaction_id, Followed(entry, None))

    def moved(self, transaction_id: UUID, states: ItemStates) -> list[ItemId]:
        """The items that are not as they were told. Keep `update` for when they have been."""
        told = self.followed[transaction_id].told
        return [item for item, state in states.items() if told is None or told.get(item) != state]

    def update(self, transaction_id: UUID, states: ItemStates) -> None:
        """This is what the client knows of it now. What is settled needs no following."""
        if is_settled(states):
            del self.followed[transaction_id]
        else:
            self.followed[transaction_id].told = dict(states)

    def mark(self) -> Mark:
        """The place for a cursor: the transactions that hold it back furthest are named, the rest is found again."""
        open_entries = [one.entry for one in self.followed.values()]
        named = nsmallest(NAMED_LIMIT, open_entries, key=lambda entry: entry[1] - self.told[entry[0]])
        settled = dict(self.settled)
        for asset, version in set(open_entries).difference(named):
            settled[asset] = min(settled[asset], version - 1)
        return Mark(dict(self.told), settled, tuple(named))


def as_told(state: ItemState) -> ItemState:
    """A claim is a worker's own affair: it may be given back, and nothing has happened yet."""
    return ItemState.PENDING if state is ItemState.CLAIMED else state


def is_settled(states: ItemStates) -> bool:
    """Whether nothing can move any more."""
    return all(state in FINAL for state in states.values())
