"""Rate limits: how many calls a minute, over how many processes, and what a caller is told who has had them."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from domain.clock import SystemClock
from domain.errors import RateLimited
from monay.wallet.v1.consumer_pb2 import GetConsumerRequest, OnboardRequest
from sandbox.valkey import Valkey
from server.api.access import Caller, CallerKind
from server.api.rate_limits import RateLimits
from storage.cache import Cache
from storage.rate_counters import RateCounters
from tests.providers.worlds import ManualClock

from .conftest import consumer, fill_pool, operator, refused, service, serving, wallet_settings

ANN = Caller(CallerKind.CONSUMER, "ann", frozenset(), float("inf"))
BOB = Caller(CallerKind.CONSUMER, "bob", frozenset(), float("inf"))
PAYROLL = Caller(CallerKind.SERVICE, "payroll", frozenset(), float("inf"))


class Minute(ManualClock):
    """A clock that begins with a whole minute."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(60 - self.now().timestamp() % 60)


def limits(clock: ManualClock, *, limit: int = 100, cache: Cache | None = None) -> RateLimits:
    kinds = {CallerKind.CONSUMER: limit, CallerKind.SERVICE: 0}
    return RateLimits(kinds, counters=RateCounters(cache or Cache(None)), clock=clock)


def admitted(rates: RateLimits, caller: Caller, calls: int) -> int:
    """How many of so many calls get through."""
    passed = 0
    for _ in range(calls):
        try:
            rates.count(caller)
        except RateLimited:
            continue
        passed += 1
    return passed


def test_a_consumer_has_a_hundred_calls_and_its_neighbour_has_its_own() -> None:
    rates = limits(Minute())
    assert admitted(rates, ANN, 150) == 100
    assert admitted(rates, BOB, 50) == 50


def test_a_caller_without_a_limit_is_not_counted() -> None:
    assert admitted(limits(Minute()), PAYROLL, 1_000) == 1_000


def test_another_token_of_the_same_consumer_has_no_calls_of_its_own() -> None:
    again = Caller(CallerKind.CONSUMER, "ann", frozenset({"wallet:read"}), 1e12)
    rates = limits(Minute())
    assert admitted(rates, ANN, 100) + admitted(rates, again, 100) == 100


def test_a_service_is_not_mistaken_for_a_consumer_of_its_name() -> None:
    rates = RateLimits(
        {CallerKind.CONSUMER: 10, CallerKind.SERVICE: 10}, counters=RateCounters(Cache(None)), clock=Minute()
    )
    assert admitted(rates, ANN, 10) == 10
    assert admitted(rates, Caller(CallerKind.SERVICE, "ann", frozenset(), 0), 10) == 10


@given(pauses=st.lists(st.floats(0, 40), min_size=1, max_size=400))
def test_no_minute_has_more_than_twice_and_no_three_minutes_more_than_four_times_the_limit(pauses: list[float]) -> None:
    """The bound of counting by two minutes; in the long run it is the limit itself."""
    clock, limit, passed = Minute(), 5, list[float]()
    rates = limits(clock, limit=limit)
    for pause in pauses:
        clock.advance(pause)
        if admitted(rates, ANN, 1):
            passed.append(clock.now().timestamp())
    for start in passed:
        assert sum(start <= one < start + 60 for one in passed) <= 2 * limit
        assert sum(start <= one < start + 180 for one in passed) <= 4 * limit


@given(before=st.integers(0, 30), at=st.floats(0, 59), limit=st.integers(1, 10))
def test_who_waits_as_long_as_told_gets_in_and_a_second_earlier_does_not(before: int, at: float, limit: int) -> None:
    """An SDK sleeps exactly that long; too short a time would make it ask in vain."""
    clock = Minute()
    rates = limits(clock, limit=limit)
    clock.advance(59)
    admitted(rates, ANN, before)
    clock.advance(1 + at)
    admitted(rates, ANN, limit)
    with pytest.raises(RateLimited) as caught:
        rates.count(ANN)
    wait = caught.value.retry_after_ms / 1000
    assert caught.value.remaining == 0
    assert abs((caught.value.reset_time - clock.now()).total_seconds() - wait) < 0.01
    if wait > 2:
        clock.advance(wait - 1)
        assert admitted(rates, ANN, 1) == 0
        clock.advance(1)
    else:
        clock.advance(wait)
    clock.advance(0.01)
    assert admitted(rates, ANN, 1) == 1


def test_a_clock_put_back_gives_no_calls_away() -> None:
    clock = Minute()
    rates = limits(clock, limit=10)
    assert admitted(rates, ANN, 10) == 10
    clock.advance(-90)
    assert admitted(rates, ANN, 10) == 0


# --- several processes ------------------------------------------------------------------------------------------------


async def test_processes_share_what_a_caller_has_had(redis_url: str) -> None:
    clock, cache = Minute(), Cache(redis_url)
    first, second = limits(clock, cache=cache), limits(clock, cache=cache)
    assert admitted(first, ANN, 60) == 60
    await first.share()
    assert admitted(second, ANN, 10) == 10, "it has not heard of the sixty yet"
    await second.share()
    assert admitted(second, ANN, 100) == 30
    await second.share()
    assert admitted(first, ANN, 1) == 1, "nor has the first one of the second's"
    await first.share()
    assert admitted(first, ANN, 10) == 0
    await cache.close()


async def test_what_one_process_does_not_hear_of_in_time_counts_in_the_next_minute(redis_url: str) -> None:
    clock, cache = Minute(), Cache(redis_url)
    first, second = limits(clock, cache=cache), limits(clock, cache=cache)
    admitted(first, ANN, 100)
    await first.share()
    admitted(second, ANN, 1)
    await second.share()
    clock.advance(60)
    assert admitted(second, ANN, 10) == 0
    await cache.close()


async def test_the_answer_of_a_minute_that_ended_meanwhile_is_about_that_minute(redis_url: str) -> None:
    clock, cache = Minute(), Cache(redis_url)
    other, rates = limits(clock, cache=cache), limits(clock, cache=cache)
    admitted(other, ANN, 100)
    await other.share()
    admitted(rates, ANN, 1)

    class Late(RateCounters):
        async def add(self, minute: int, counts: object) -> dict[str, int]:
            totals = await super().add(minute, counts)  # type: ignore[arg-type]
            clock.advance(60)
            admitted(rates, BOB, 1)
            return totals

    rates._counters = Late(cache)
    await rates.share()
    assert admitted(rates, ANN, 10) == 0, "all of the last minute's hundred still count"
    assert admitted(rates, BOB, 99) == 99
    await cache.close()


async def test_with_the_cache_away_each_process_goes_on_alone(redis_url: str, valkey: Valkey) -> None:
    """A limit that fails closed would make the cache a hard dependency; one that fails open would be none."""
    unreachable = Cache(f"redis://127.0.0.1:{valkey.port + 1}")
    rates = RateLimits({CallerKind.CONSUMER: 100}, counters=RateCounters(unreachable), clock=SystemClock())
    stop = asyncio.Event()
    running = asyncio.create_task(rates.run(stop))
    assert admitted(rates, ANN, 150) <= 101
    await asyncio.sleep(1.2)
    assert not running.done()
    assert admitted(rates, ANN, 150) <= 2, "the minute may just have turned, which frees one or two"
    stop.set()
    await running
    await unreachable.close()


async def test_counters_that_were_lost_do_not_give_calls_back(redis_url: str, valkey: Valkey) -> None:
    """A cache may be emptied at any moment."""
    clock, cache = Minute(), Cache(redis_url)
    rates = limits(clock, cache=cache)
    admitted(rates, ANN, 90)
    await rates.share()
    assert cache.client is not None
    await cache.client.flushall()
    admitted(rates, ANN, 1)
    await rates.share()
    assert admitted(rates, ANN, 100) == 9
    await cache.close()


async def test_counters_are_forgotten_by_the_cache_itself(redis_url: str) -> None:
    cache = Cache(redis_url)
    await RateCounters(cache).add(7, {f"consumer:{number}": 1 for number in range(1_200)})
    assert cache.client is not None
    assert await cache.client.hlen("monay:calls:7") == 1_200
    assert 0 < await cache.client.ttl("monay:calls:7") <= 180
    await cache.close()


# --- as a caller sees it ----------------------------------------------------------------------------------------------


async def test_a_caller_above_the_limit_is_told_when_to_come_back(database: str, tmp_path: Path) -> None:
    settings = wallet_settings(database, tmp_path, consumer_rate_limit=5, service_rate_limit=0)
    await fill_pool(settings)
    async with serving(settings) as wallet:
        onboard = OnboardRequest(email="ann@example.com", phone="+14155550100")
        ann = (await wallet.consumers.Onboard(onboard, metadata=service())).consumer.id
        for _ in range(12):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=consumer(ann))
        refusal = await refused(wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=consumer(ann)))
        assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (refusal.reason, refusal.metadata["limit"], refusal.metadata["remaining"]) == ("RATE_LIMITED", "5", "0")
        pause = refusal.detail(error_details_pb2.RetryInfo).retry_delay
        assert 0 < pause.ToMilliseconds() <= 120_000
        assert datetime.fromisoformat(refusal.metadata["reset_time"]).tzinfo == UTC
        assert refusal.trailers["ratelimit-limit"] == "5"
        assert refusal.trailers["ratelimit-remaining"] == "0"
        assert int(refusal.trailers["ratelimit-reset"]) == -(-pause.ToMilliseconds() // 1000)
        for _ in range(12):
            await wallet.consumers.GetConsumer(GetConsumerRequest(consumer_id=ann), metadata=service())


async def test_calls_that_are_refused_for_other_reasons_count_too(database: str, tmp_path: Path) -> None:
    """Somebody who tries out what a token can do is as much work as somebody who knows."""
    settings = wallet_settings(database, tmp_path, operator_rate_limit=3)
    async with serving(settings) as wallet:
        reasons = [
            (await refused(wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=operator()))).reason
            for _ in range(8)
        ]
    assert set(reasons) == {"CALLER_NOT_ALLOWED", "RATE_LIMITED"}
    assert reasons[-1] == "RATE_LIMITED"
