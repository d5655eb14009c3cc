"""The rate budget: one for all processes, and one of our own while the cache is away."""

from __future__ import annotations

import asyncio

import pytest

from domain.clock import SystemClock
from providers.circle.budget import Kind, RateBudget, Rates
from sandbox.valkey import Valkey

CLOCK = SystemClock()


def budget(redis_url: str | None, *, writes: int = 5, patience: float = 0.0) -> RateBudget:
    return RateBudget(
        "test", clock=CLOCK, redis_url=redis_url, rates=Rates(reads=20, writes=writes), patience_seconds=patience
    )


async def granted(one: RateBudget, asked: int, kind: Kind = Kind.WRITE) -> int:
    return sum([await one.spend(kind) for _ in range(asked)])


async def test_two_processes_share_what_circle_allows_one_key(redis_url: str) -> None:
    first, second = budget(redis_url, writes=7), budget(redis_url, writes=7)
    counts = [await granted(one, 1) for _ in range(10) for one in (first, second)]
    assert sum(counts) == 7


async def test_reads_and_writes_are_counted_apart(redis_url: str) -> None:
    one = budget(redis_url)
    assert await granted(one, 10) == 5
    assert await granted(one, 30, Kind.READ) == 20


async def test_the_window_moves_on_and_who_waits_gets_a_turn(redis_url: str) -> None:
    one = budget(redis_url, writes=2, patience=5.0)
    assert all(await asyncio.gather(*(one.spend(Kind.WRITE) for _ in range(4))))


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"], ids=["no cache", "cache away"])
async def test_without_the_cache_each_process_keeps_to_the_limit_alone(url: str | None) -> None:
    """Too careful by a factor, perhaps, and never without any limit."""
    assert await granted(budget(url), 10) == 5


async def test_a_cache_that_goes_away_is_missed_by_nobody(valkey: Valkey, redis_url: str) -> None:
    """The answer comes at once, not after a connection has timed out for each request."""
    one = budget(redis_url)
    assert await one.spend(Kind.WRITE)
    away = budget("redis://127.0.0.1:1/0")
    assert await away.spend(Kind.WRITE)
