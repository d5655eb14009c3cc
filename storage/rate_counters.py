"""Calls by caller and minute, added up over all processes in the cache.

One hash for each minute, which the cache forgets by itself. A process adds what it has admitted and learns in the same
answer what everybody has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from redis.exceptions import RedisError

from storage.cache import Cache

# As text beside each command, so that a restarted cache needs no registration. One script for many callers: packing
# single commands costs the process five times as much.
_ADD = """
local totals = {}
for i = 1, #ARGV, 2 do totals[#totals + 1] = redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], 180)
return totals
"""
_CALLERS_AT_ONCE = 500


class CountersUnavailable(Exception):
    """The cache cannot be reached now. What was to be added may have been, in part."""


class RateCounters:
    """The counters, for one process."""

    def __init__(self, cache: Cache) -> None:
        self._client = cache.client

    @property
    def enabled(self) -> bool:
        """Whether there is a cache at all."""
        return self._client is not None

    async def add(self, minute: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Add calls of that minute; what everybody has of these callers now."""
        assert self._client is not None
        callers = list(counts)
        totals: dict[str, int] = {}
        for start in range(0, len(callers), _CALLERS_AT_ONCE):
            some = callers[start : start + _CALLERS_AT_ONCE]
            pairs = [part for caller in some for part in (caller, str(counts[caller]))]
            try:
                answer = await cast(Any, self._client.eval(_ADD, 1, f"monay:calls:{minute}", *pairs))
            except (RedisError, OSError, TimeoutError) as error:
                raise CountersUnavailable(type(error).__name__) from error
            totals.update(zip(some, map(int, answer), strict=True))
        return totals
