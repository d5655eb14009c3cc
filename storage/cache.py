"""The cache (Valkey or Redis): hints and counters. It may be away or empty at any moment without a wrong answer."""

from __future__ import annotations

from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.0


class Cache:
    """One pool of connections for the process. Without a URL there is no cache, and everything works."""

    def __init__(self, url: str | None) -> None:
        self.client: Redis | None = None
        if url is not None:
            self.client = Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS)

    async def answers(self) -> bool:
        """Whether it can be used now."""
        if self.client is None:
            return False
        try:
            return bool(await cast("object", self.client.ping()))  # type: ignore[misc]
        except (RedisError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        if self.client is not None:
            await self.client.aclose()
