"""What stands on the simulated chain: balances and allowances as of every block, and the rules a call must meet."""

from __future__ import annotations

from bisect import bisect_right
from collections import ChainMap
from collections.abc import MutableMapping, Sequence

from domain.money import Asset
from providers.base import Blocked, Holding, RefusalReason
from providers.simulated.transactions import TransferCall

Balances = MutableMapping[Holding, int]

# Everybody else: pays faucets and deposits, and never runs dry.
OUTSIDE_ADDRESS = "0x" + "0f" * 20
ZERO_ADDRESS = "0x" + "00" * 20
UNLIMITED = 2**256 - 1


class History:
    """A number for each holding that remembers every block's value."""

    def __init__(self) -> None:
        self._changes: dict[Holding, list[tuple[int, int]]] = {}
        self.latest: dict[Holding, int] = {}

    def set(self, holding: Holding, value: int, *, at_block: int) -> None:
        self.latest[holding] = value
        self._changes.setdefault(holding, []).append((at_block, value))

    def at(self, holding: Holding, block: int) -> int:
        changes = self._changes.get(holding, [])
        position = bisect_right(changes, block, key=lambda change: change[0])
        return changes[position - 1][1] if position else 0

    def forget_after(self, block: int) -> None:
        for holding, changes in self._changes.items():
            del changes[bisect_right(changes, block, key=lambda change: change[0]) :]
            self.latest[holding] = changes[-1][1] if changes else 0


class TokenState:
    """Balances, allowances, policies and pauses."""

    def __init__(self) -> None:
        self.balances, self.allowances = History(), History()
        self.forbidden: set[str] = set()
        self.paused: set[Asset] = set()

    def failure(self, call: TransferCall, sender: str, balances: Balances) -> RefusalReason | None:
        """Why a transfer would revert on top of these balances, judged in the order in which a token judges."""
        owned = call.source == sender
        if call.asset in self.paused:
            return RefusalReason.CONTRACT_PAUSED
        if call.destination == ZERO_ADDRESS:
            return RefusalReason.INVALID_RECIPIENT
        if not owned and self.allowances.latest.get(Holding(call.source, call.asset), 0) < call.micros:
            return RefusalReason.INSUFFICIENT_ALLOWANCE
        if self.blocked_end(call) is not None:
            return RefusalReason.POLICY_FORBIDS
        if call.source != OUTSIDE_ADDRESS and balances.get(Holding(call.source, call.asset), 0) < call.micros:
            return RefusalReason.INSUFFICIENT_BALANCE
        return None

    def blocked_end(self, call: TransferCall) -> Blocked | None:
        source, destination = call.source in self.forbidden, call.destination in self.forbidden
        if source:
            return "both" if destination else "source"
        return "destination" if destination else None

    def rehearse(self, calls: Sequence[TransferCall], sender: str) -> list[RefusalReason | None]:
        """How each call would fare when they are played in order, each failure leaving the state as it was."""
        balances: Balances = ChainMap({}, self.balances.latest)
        results = []
        for call in calls:
            failure = self.failure(call, sender, balances)
            if failure is None:
                move(call, balances)
            results.append(failure)
        return results

    def execute(self, calls: Sequence[TransferCall], sender: str, *, at_block: int) -> bool:
        """Apply all calls or none."""
        changed: dict[Holding, int] = {}
        balances: Balances = ChainMap(changed, self.balances.latest)
        for call in calls:
            if self.failure(call, sender, balances) is not None:
                return False
            move(call, balances)
        for holding, micros in changed.items():
            self.balances.set(holding, micros, at_block=at_block)
        return True


def move(call: TransferCall, balances: Balances) -> None:
    source, destination = Holding(call.source, call.asset), Holding(call.destination, call.asset)
    if call.source != OUTSIDE_ADDRESS:
        balances[source] = balances.get(source, 0) - call.micros
    balances[destination] = balances.get(destination, 0) + call.micros
