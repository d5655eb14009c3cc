"""Hints between processes: whose balances a commit just changed, by publish and subscribe.

A hint says where to look and nothing about what is there, so a lost one costs a little time and a false one a look.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from redis.exceptions import RedisError

from domain.clock import Entropy
from storage.cache import Cache

_CHANNEL = "monay:balances"
_ID_BYTES = 16
_ORIGIN_BYTES = 8
# Reading waits no longer than this at a time, so that a connection that died without a word is found out by a ping.
_READ_SECONDS = 5.0


class HintsUnavailable(Exception):
    """The cache cannot be reached now."""


class BalanceHints:
    """The channel. Each message names the process it comes from, which needs no hints of its own."""

    def __init__(self, cache: Cache, *, entropy: Entropy) -> None:
        self._client = cache.client
        self._origin = entropy.token_bytes(_ORIGIN_BYTES)

    @property
    def enabled(self) -> bool:
        """Whether there is a cache at all."""
        return self._client is not None

    async def publish(self, consumers: Collection[UUID]) -> bool:
        """One message for all of them; whether anybody hears it."""
        assert self._client is not None
        with _reaching():
            heard = await self._client.publish(_CHANNEL, self._origin + b"".join(one.bytes for one in consumers))
        return int(heard) > 0

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[AsyncGenerator[list[UUID]]]:
        """What other processes publish from now on."""
        assert self._client is not None
        with _reaching():
            async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(_CHANNEL)
                yield self._messages(subscription)

    async def _messages(self, subscription: object) -> AsyncGenerator[list[UUID]]:
        while True:
            message = await subscription.get_message(timeout=_READ_SECONDS)  # type: ignore[attr-defined]
            if message is None:
                await subscription.ping()  # type: ignore[attr-defined]
                continue
            data = message["data"]
            if message["type"] == "message" and not data.startswith(self._origin):
                yield _consumers(data[_ORIGIN_BYTES:])


def _consumers(data: bytes) -> list[UUID]:
    whole = len(data) - len(data) % _ID_BYTES
    return [UUID(bytes=data[start : start + _ID_BYTES]) for start in range(0, whole, _ID_BYTES)]


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise HintsUnavailable(type(error).__name__) from error
