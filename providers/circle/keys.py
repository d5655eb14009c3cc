"""Keys that signatures are judged by: fetched once, kept, and never fetched as often as somebody else would like.

Whoever sends us rubbish names a new key each time. Each look-up of one costs a request, so there are only so many in a
minute; beyond that an unknown key is no verdict, and the sender may try again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from domain.clock import Clock
from providers.base import ProviderUnavailable

K = TypeVar("K")

FETCHES_A_MINUTE = 20
MOST_KEPT = 64


class KeptKeys(Generic[K]):
    """Keys by their name. `fetch` answers None where there is none of that name."""

    def __init__(self, fetch: Callable[[str], Awaitable[K | None]], *, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._kept: dict[str, K] = {}
        self._fetches: deque[float] = deque()

    async def get(self, name: str) -> K | None:
        """The key of that name, or None. Raises `ProviderUnavailable` where nobody can say now."""
        if name in self._kept:
            return self._kept[name]
        self._count_fetch()
        key = await self._fetch(name)
        if key is not None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[name] = key
        return key

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)

    def _count_fetch(self) -> None:
        now = self._clock.monotonic()
        while self._fetches and self._fetches[0] <= now - 60:
            self._fetches.popleft()
        if len(self._fetches) >= FETCHES_A_MINUTE:
            raise ProviderUnavailable("too many unknown keys in the last minute")
        self._fetches.append(now)
