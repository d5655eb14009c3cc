"""What will happen by itself: steps of the state machines, each due at a moment of the simulator's clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from sandbox.circle.clock import Clock
from sandbox.circle.store import Store

Handler = Callable[..., None]


class Schedule:
    """Steps run in the order in which they are due, one database transaction each."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._changed = asyncio.Event()

    def register(self, name: str, handler: Handler) -> None:
        self._handlers[name] = handler

    def after(self, milliseconds: int, name: str, **facts: Any) -> None:
        """Call the handler of that name, with these facts, when so much time has passed."""
        assert name in self._handlers, name
        due = self._clock.now() + milliseconds
        self._store.execute("INSERT INTO steps (due, name, facts) VALUES (?, ?, ?)", due, name, json.dumps(facts))
        self._changed.set()

    def run_due(self) -> None:
        """Everything that is due by now, what these steps bring about included."""
        now = self._clock.now()
        while True:
            row = self._store.execute("SELECT * FROM steps WHERE due <= ? ORDER BY due, number LIMIT 1", now).fetchone()
            if row is None:
                return
            with self._store.transaction(), self._clock.at(int(row["due"])):
                self._store.execute("DELETE FROM steps WHERE number = ?", row["number"])
                self._handlers[row["name"]](**json.loads(row["facts"]))

    async def run(self) -> None:
        """Keep up with the clock until cancelled."""
        while True:
            self.run_due()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), self._seconds_until_next())
            except TimeoutError:
                continue

    def clock_changed(self) -> None:
        self._changed.set()

    def _seconds_until_next(self) -> float:
        row = self._store.execute("SELECT min(due) AS due FROM steps").fetchone()
        if row["due"] is None or self._clock.frozen:
            return 60.0
        return min(60.0, max(0.001, (int(row["due"]) - self._clock.now()) / 1000))
