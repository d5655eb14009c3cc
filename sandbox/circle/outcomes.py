"""How the next things of a kind end, where a test or a person wants something else than success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["wire", "deposit", "payout", "transaction", "transfer"]
# What each kind may come to, success first. The states are Circle's; the two others say what happens on the way.
POSSIBLE: dict[str, tuple[str, ...]] = {
    "wire": ("complete", "failed"),
    "deposit": ("complete", "failed"),
    "payout": ("complete", "failed", "returned"),
    "transaction": ("COMPLETE", "FAILED", "DENIED", "STUCK", "CONFIRMED_LATE"),
    "transfer": ("complete", "failed"),
}
# Amounts of a payout that mean something in Circle's sandbox: what it comes to, and the error it bears.
MAGIC_PAYOUTS = {
    6_210_000: ("returned", None),
    6_370_000: ("failed", "transaction_returned"),
    6_530_000: ("failed", "transaction_failed"),
}
# Addresses that mean something here: Circle publishes none for Wallets.
MAGIC_ADDRESSES = {
    "0x00000000000000000000000000000000000de91d": ("DENIED", None),
    "0x00000000000000000000000000000000000fa11d": ("FAILED", "FAILED_ON_CHAIN"),
    "0x0000000000000000000000000000000000057cc4": ("STUCK", None),
}


@dataclass
class Outcome:
    kind: Kind
    outcome: str
    error: str | None
    times: int | None


class Outcomes:
    """A queue for each kind: the first one decides for the next thing."""

    def __init__(self) -> None:
        self._planned: list[Outcome] = []

    def plan(self, outcome: Outcome) -> None:
        self._planned.append(outcome)

    def clear(self) -> None:
        self._planned.clear()

    def next(self, kind: Kind) -> tuple[str, str | None]:
        """What the next thing of this kind comes to, and the error it bears."""
        for planned in self._planned:
            if planned.kind == kind:
                self._use(planned)
                return planned.outcome, planned.error
        return POSSIBLE[kind][0], None

    def _use(self, planned: Outcome) -> None:
        if planned.times is not None:
            planned.times -= 1
            if planned.times == 0:
                self._planned.remove(planned)
