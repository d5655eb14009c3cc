"""Time in the simulator, in milliseconds since 1970: real time plus what it was advanced by, or frozen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from sandbox.circle.store import Store


class Clock:
    """Kept in the store, so that time does not go back when the simulator is started again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._offset = int(store.fact("clock.offset", "0"))
        frozen = store.fact("clock.frozen", "")
        self._frozen = int(frozen) if frozen else None
        self._step: int | None = None

    def reset(self) -> None:
        self._offset, self._frozen = 0, None

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def now(self) -> int:
        """While a step runs, the moment it was due: what it leaves behind bears that time."""
        if self._step is not None:
            return self._step
        return self._frozen if self._frozen is not None else time.time_ns() // 1_000_000 + self._offset

    def timestamp(self) -> str:
        return timestamp(self.now())

    def advance(self, milliseconds: int) -> None:
        if self._frozen is not None:
            self._frozen += milliseconds
        else:
            self._offset += milliseconds
        self._keep()

    def freeze(self) -> None:
        self._frozen = self.now()
        self._keep()

    def run(self) -> None:
        """Go on in real time from where the clock stands."""
        self._offset = self.now() - time.time_ns() // 1_000_000
        self._frozen = None
        self._keep()

    @contextlib.contextmanager
    def at(self, moment: int) -> Iterator[None]:
        """Be at that moment, for one step."""
        self._step = moment
        try:
            yield
        finally:
            self._step = None

    def _keep(self) -> None:
        self._store.set_fact("clock.offset", str(self._offset))
        self._store.set_fact("clock.frozen", "" if self._frozen is None else str(self._frozen))


def timestamp(moment: int) -> str:
    """As Circle writes times: UTC with milliseconds and a Z."""
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment % 1000:03d}Z"


def milliseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
