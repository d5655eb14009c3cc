"""Time and chance of a simulation, set back to a seed without building anything anew."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.clock import uuid7_from

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """Time that passes only when somebody says so."""

    def __init__(self) -> None:
        self._now = BEGINNING

    def reset(self) -> None:
        self._now = BEGINNING

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - BEGINNING).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class SimulatedEntropy:
    """Chance that repeats itself, with identifiers in the order of the simulated time."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._random = random.Random()

    def reset(self, seed: int) -> None:
        self._random.seed(seed)

    def uuid7(self) -> UUID:
        return uuid7_from(int(self._clock.now().timestamp() * 1000), self._random.randbytes(10))

    def token_bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
