"""Health: the standard names, what decides about each, and the document that monitors read."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import psycopg
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from domain.clock import SystemClock
from domain.identity import OPERATOR
from monay.wallet.v1.provider_pb2 import BREAKER_STATE_OPEN, GetHealthRequest, GetProviderStatusRequest
from sandbox.postgres import Postgres
from sandbox.valkey import Valkey
from server.api.health import Health
from server.settings import Settings
from storage import provider_health
from storage.cache import Cache
from storage.database import create_engine
from storage.provider_health import ProviderHealthRow

from .conftest import ENTROPY, Wallet, consumer, operator, serving, wallet_settings

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


async def status(wallet: Wallet, name: str) -> int:
    return int((await wallet.health.Check(HealthCheckRequest(service=name))).status)


async def write(settings: Settings, *, healthy: bool = True, age: timedelta = timedelta()) -> None:
    """What a worker writes about a provider."""
    row = ProviderHealthRow(
        "tempo", healthy, "closed" if healthy else "open", 45, 990_000, "", SystemClock().now() - age
    )
    engine = create_engine(settings.database_url.get_secret_value())
    async with engine.begin() as tx:
        await provider_health.record(tx, row)
    await engine.dispose()


async def test_the_names_of_the_design_are_known(wallet: Wallet) -> None:
    for name in ("", "database", "monay.wallet.v1.ConsumerWalletService", "monay.wallet.v1.OperationsService"):
        assert await status(wallet, name) == SERVING, name
    for name in ("provider.tempo", "provider.circle", "cache"):
        assert await status(wallet, name) == NOT_SERVING, name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await status(wallet, "provider.unheard-of")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("healthy", "age", "expected"),
    [(True, timedelta(), SERVING), (False, timedelta(), NOT_SERVING), (True, timedelta(seconds=16), NOT_SERVING)],
    ids=["fresh and healthy", "fresh and down", "healthy, but nobody looked lately"],
)
async def test_a_provider_is_judged_by_a_fresh_row_and_never_decides_about_the_whole(
    database: str, tmp_path: Path, healthy: bool, age: timedelta, expected: int
) -> None:
    settings = wallet_settings(database, tmp_path)
    await write(settings, healthy=healthy, age=age)
    async with serving(settings) as wallet:
        assert await status(wallet, "provider.tempo") == expected
        assert await status(wallet, "") == SERVING


async def test_the_document_of_the_guide(database: str, redis_url: str, tmp_path: Path) -> None:
    """Monitoring that reads it exists already; its words are fixed."""
    settings = wallet_settings(database, tmp_path, redis_url=redis_url)
    await write(settings)
    async with serving(settings) as wallet:
        answer = await wallet.consumers.GetHealth(GetHealthRequest())
        assert (answer.status, answer.database, answer.cache) == ("healthy", "connected", "connected")
        assert (answer.providers["tempo"].healthy, answer.providers["tempo"].latency) == (True, 45)


async def test_without_the_cache_the_service_is_degraded_and_serves(database: str, tmp_path: Path) -> None:
    settings = wallet_settings(database, tmp_path, redis_url="redis://127.0.0.1:1/0")
    async with serving(settings) as wallet:
        answer = await wallet.consumers.GetHealth(GetHealthRequest())
        assert (answer.status, answer.cache) == ("degraded", "disconnected")
        assert await status(wallet, "") == SERVING


async def test_provider_status_shows_the_float_to_those_who_run_the_wallet_only(database: str, tmp_path: Path) -> None:
    settings = wallet_settings(database, tmp_path)
    await write(settings, healthy=False)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO custody_positions (holder_id, rail, asset, micros) VALUES (%s, 'tempo', 'USDC', 7)",
            (OPERATOR,),
        )
    async with serving(settings) as wallet:
        shown = await wallet.consumers.GetProviderStatus(GetProviderStatusRequest(), metadata=operator())
        [tempo] = shown.providers
        assert (tempo.provider, tempo.healthy, tempo.breaker) == ("tempo", False, BREAKER_STATE_OPEN)
        assert (tempo.latency, tempo.success_rate_micros) == (45, 990_000)
        assert [(amount.asset, amount.micros) for amount in tempo.float] == [("USDC", 7)]
        shown = await wallet.consumers.GetProviderStatus(GetProviderStatusRequest(), metadata=consumer(ENTROPY.uuid7()))
        assert not shown.providers[0].float


async def test_a_database_that_goes_away_is_noticed_and_so_is_its_return(
    postgres: Postgres, database: str, tmp_path: Path
) -> None:
    """The process stays, and is well again by itself."""
    settings = wallet_settings(database, tmp_path)
    engine = create_engine(database)
    cache = Cache(None)
    health = Health(
        engine=engine,
        cache=cache.answers,
        services=["s"],
        disabled=[],
        clock=SystemClock(),
        provider_max_age=timedelta(seconds=15),
    )
    await write(settings)
    await health.read()
    assert health.reading.database
    name = database.rpartition("/")[2]
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        await health.read()
        away = health.reading
        assert not away.database
        assert [row.healthy for row in away.providers] == [False]
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await health.read()
        back = health.reading
        assert back.database
        assert [row.healthy for row in back.providers] == [True]
    await engine.dispose()


async def test_the_cache_is_asked_and_not_believed(valkey: Valkey, redis_url: str) -> None:
    cache = Cache(redis_url)
    assert await cache.answers()
    await cache.close()
    assert not await Cache("redis://127.0.0.1:1/0").answers()


async def test_watchers_are_told_before_the_server_leaves(settings: Settings) -> None:
    """Load balancers that watch look elsewhere while calls in flight finish, and do not hold the server up."""
    async with serving(settings) as wallet:
        watch = wallet.health.Watch(HealthCheckRequest(service=""))
        assert (await watch.read()).status == SERVING
        wallet.stop.set()
        async with asyncio.timeout(3):
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.code() == grpc.StatusCode.UNAVAILABLE
