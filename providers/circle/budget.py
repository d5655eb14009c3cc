"""How many requests we allow ourselves, over all processes: Circle refuses what is too fast, and not for a moment only.

The counts are kept in Valkey, in a window that moves with time. While it is away each process counts for itself: a few
processes together may then be too fast, which Circle's own refusal mends.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from domain.clock import Clock

log = structlog.get_logger()

ANSWER_SECONDS = 0.5
AWAY_SECONDS = 5.0
ASK_AGAIN_SECONDS = 0.05


class Kind(StrEnum):
    """Circle counts reads and writes apart."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second."""

    reads: int = 20
    writes: int = 5


class RateBudget:
    """One for each key of ours at Circle. `spend` waits for its turn, but not for long."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        redis_url: str | None,
        rates: Rates = Rates(),
        patience_seconds: float = 3.0,
    ) -> None:
        self._name = name
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._limits = {
            Kind.READ: RateLimitItemPerSecond(rates.reads, namespace="circle"),
            Kind.WRITE: RateLimitItemPerSecond(rates.writes, namespace="circle"),
        }
        self._alone = MovingWindowRateLimiter(MemoryStorage())
        self._shared = MovingWindowRateLimiter(_shared_storage(redis_url)) if redis_url else None
        self._shared_again_at = clock.monotonic()

    async def spend(self, kind: Kind) -> bool:
        """Wait until one more request may go out. False: not within our patience."""
        give_up_at = self._clock.monotonic() + self._patience_seconds
        while not await self._hit(kind):
            if self._clock.monotonic() >= give_up_at:
                return False
            await self._clock.sleep(ASK_AGAIN_SECONDS)
        return True

    async def _hit(self, kind: Kind) -> bool:
        if self._shared is not None and self._clock.monotonic() >= self._shared_again_at:
            try:
                return await self._shared.hit(self._limits[kind], self._name, kind)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("circle.budget_alone", error=type(error).__name__)
                self._shared_again_at = self._clock.monotonic() + AWAY_SECONDS
        return await self._alone.hit(self._limits[kind], self._name, kind)


def _shared_storage(url: str) -> RedisStorage:
    return RedisStorage(
        f"async+{url}",
        implementation="redispy",
        key_prefix="monay",
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
    )
