"""The two sources of surprise, injected everywhere: what time it is, and what chance says.

Nothing that decides about money reads the machine's clock or its random generator directly, so that a simulation can
replay a history to the last byte from one seed.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """Time as the process sees it."""

    def now(self) -> datetime:
        """The current instant in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, for durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking others."""
        ...


class Entropy(Protocol):
    """Chance: identifiers, keys, jitter."""

    def uuid7(self) -> UUID:
        """A new time-ordered identifier (RFC 9562, version 7)."""
        ...

    def token_bytes(self, length: int) -> bytes:
        """Unpredictable bytes."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A number between the two, for jitter."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemEntropy:
    """The operating system's random generator; identifiers carry the injected clock's milliseconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def uuid7(self) -> UUID:
        milliseconds = int(self._clock.now().timestamp() * 1000)
        return uuid7_from(milliseconds, os.urandom(10))

    def token_bytes(self, length: int) -> bytes:
        return os.urandom(length)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * int.from_bytes(os.urandom(7)) / 2**56


# Where version and variant stand, and what they are.
_MARKED = 0xF << 76 | 0x3 << 62
_MARKS = 0x7 << 76 | 0x2 << 62


def uuid7_from(milliseconds: int, chance: bytes) -> UUID:
    """Lay out a version 7 UUID from a Unix time in milliseconds and ten random bytes (RFC 9562 §5.7)."""
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(chance)
    return UUID(int=value & ~_MARKED | _MARKS)
