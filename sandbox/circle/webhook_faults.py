"""What goes wrong with webhooks: lost, sent twice, out of order, late. Each as often as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sandbox.circle.clock import Clock
from sandbox.circle.store import Store

WebhookFault = Literal["lose", "duplicate", "reorder", "delay"]


@dataclass
class _Armed:
    fault: WebhookFault
    # None: until it is taken away.
    times: int | None
    seconds: float


class WebhookFaults:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._armed: list[_Armed] = []
        self._reorder_after = 0

    def arm(self, fault: WebhookFault, *, times: int | None, seconds: float = 0) -> None:
        """`reorder` holds so many events back and then sends them newest first."""
        if fault == "reorder":
            self._reorder_after = times or 2
        else:
            self._armed.append(_Armed(fault, times, seconds))

    def clear(self) -> None:
        """What is held back goes out; what was lost stays lost."""
        self._armed.clear()
        self._reorder_after = 0
        self._store.execute("UPDATE deliveries SET state = 'waiting', due = ? WHERE state = 'held'", self._clock.now())

    def copies(self) -> list[tuple[str, int]]:
        """The state and the due time of each copy that the next event is sent in."""
        now = self._clock.now()
        if self._reorder_after:
            return [("held", now)]
        for armed in self._armed:
            if armed.times is not None:
                armed.times -= 1
                if armed.times == 0:
                    self._armed.remove(armed)
            if armed.fault == "lose":
                return [("lost", now)]
            if armed.fault == "duplicate":
                return [("waiting", now), ("waiting", now)]
            return [("waiting", now + int(armed.seconds * 1000))]
        return [("waiting", now)]

    def release_held(self) -> None:
        held = self._store.execute("SELECT number FROM deliveries WHERE state = 'held' ORDER BY number").fetchall()
        if not held or len(held) < self._reorder_after:
            return
        self._reorder_after = 0
        for position, row in enumerate(reversed(held)):
            # A millisecond apart in the past: what came last is due first.
            due = self._clock.now() - len(held) + position
            self._store.execute("UPDATE deliveries SET state = 'waiting', due = ? WHERE number = ?", due, row["number"])
