"""How the service is, by the standard health service's names: `""`, the services, `provider.…`, `database`, `cache`.

A task reads it every two seconds and answers come from what it read last, so that a monitor is answered at once also
while the database is not. Only the database decides about `""`: without the cache and without any provider every
answer of the ledger is still right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from domain.clock import Clock
from storage import migrations, provider_health
from storage.database import Engine
from storage.provider_health import ProviderHealthRow

log = structlog.get_logger()

INTERVAL_SECONDS = 2.0
PATIENCE_SECONDS = 2.0

# Known by name from the first moment on, whether or not a worker has written about them yet.
PROVIDERS = ("tempo", "circle")

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found, and when."""

    at: datetime
    database: bool
    cache: bool
    providers: tuple[ProviderHealthRow, ...]


class Health:
    """The standard servicer, kept up to date."""

    def __init__(
        self,
        *,
        engine: Engine,
        cache: Probe,
        services: Iterable[str],
        disabled: Iterable[str],
        clock: Clock,
        provider_max_age: timedelta,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._services = tuple(services)
        self._disabled = frozenset(disabled)
        self._clock = clock
        self._provider_max_age = provider_max_age
        self.servicer = health.aio.HealthServicer()
        self.reading = Reading(clock.now(), database=False, cache=False, providers=())

    async def run(self, stop: asyncio.Event) -> None:
        """Read again and again until `stop` is set."""
        while not stop.is_set():
            await self.read()
            try:
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    async def read(self) -> None:
        """One look at everything."""
        before = self.reading
        database, providers = await self._ask_database()
        self.reading = Reading(self._clock.now(), database, await self._ask_cache(), providers)
        if (before.database, before.cache) != (database, self.reading.cache):
            log.info("health.changed", database=database, cache=self.reading.cache)
        for name, serving in self._names().items():
            status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
            await self.servicer.set(name, status)

    async def leave(self) -> None:
        """Say NOT_SERVING for good, so that load balancers look elsewhere."""
        await self.servicer.enter_graceful_shutdown()

    def _names(self) -> dict[str, bool]:
        reading = self.reading
        names = {"": reading.database, "database": reading.database, "cache": reading.cache}
        names |= {service: reading.database and service not in self._disabled for service in self._services}
        names |= {f"provider.{name}": False for name in PROVIDERS}
        names |= {f"provider.{row.provider}": row.healthy for row in reading.providers}
        return names

    async def _ask_database(self) -> tuple[bool, tuple[ProviderHealthRow, ...]]:
        """Whether the ledger can be used, and what workers last wrote about providers."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._engine.connect() as tx:
                lacks = await migrations.missing(tx)
                rows = () if lacks else await provider_health.read_all(tx)
        except Exception as error:
            # Whatever it was, the ledger cannot be used now; the next look may find it mended.
            log.warning("health.database", error=type(error).__name__)
            return False, tuple(replace(row, healthy=False) for row in self.reading.providers)
        if lacks:
            log.warning("health.schema", lacks=lacks)
        return lacks is None, tuple(self._judged(row) for row in rows)

    def _judged(self, row: ProviderHealthRow) -> ProviderHealthRow:
        """An old row is no news of a healthy provider, but of a worker that is gone."""
        fresh = self._clock.now() - row.checked_at <= self._provider_max_age
        return row if fresh else replace(row, healthy=False)

    async def _ask_cache(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._cache()
        except Exception:
            return False
