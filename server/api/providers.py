"""How the providers and the service are, from what workers and the health task last wrote."""

from __future__ import annotations

from domain.identity import OPERATOR
from domain.money import Asset, Money
from domain.settlement import Rail
from monay.wallet.v1.provider_pb2 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_HALF_OPEN,
    BREAKER_STATE_OPEN,
    BreakerState,
    GetHealthRequest,
    GetHealthResponse,
    GetProviderStatusRequest,
    GetProviderStatusResponse,
    ProviderHealth,
    ProviderStatus,
)
from server.api.access import Call, CallerKind
from server.api.convert import money, timestamp
from server.api.health import Health
from server.api.routes import route
from server.services.routing import Routing
from storage import custody
from storage.database import Engine, Tx, reading
from storage.provider_health import ProviderHealthRow

_BREAKERS: dict[str, BreakerState.ValueType] = {
    "closed": BREAKER_STATE_CLOSED,
    "half_open": BREAKER_STATE_HALF_OPEN,
    "open": BREAKER_STATE_OPEN,
}

# What each provider carries, and on which rail the operator's float with it stands.
_CARRIES = {"tempo": tuple(Asset), "circle": (Asset.USDC, Asset.EURC)}
_RAILS = {"tempo": Rail.TEMPO, "circle": Rail.CIRCLE}


class Providers:
    """GetProviderStatus, GetHealth."""

    def __init__(self, *, engine: Engine, health: Health, routing: Routing) -> None:
        self._engine = engine
        self._health = health
        self._routing = routing

    async def get_provider_status(self, _request: GetProviderStatusRequest, call: Call) -> GetProviderStatusResponse:
        rows = self._health.reading.providers
        floats = {} if call.caller.kind is CallerKind.CONSUMER else await self._floats(rows)
        chosen = await self._routing.settlement_routes()
        routes = {str(asset): route(decision) for asset, decision in chosen.items()}
        providers = [provider_status(row, floats.get(row.provider, [])) for row in rows]
        return GetProviderStatusResponse(providers=providers, routes=routes)

    async def get_health(self, _request: GetHealthRequest, _call: Call) -> GetHealthResponse:
        reading = self._health.reading
        away = not reading.cache or not all(row.healthy for row in reading.providers)
        return GetHealthResponse(
            status="unhealthy" if not reading.database else "degraded" if away else "healthy",
            providers={
                row.provider: ProviderHealth(healthy=row.healthy, latency=row.latency_ms) for row in reading.providers
            },
            database=_connected(reading.database),
            cache=_connected(reading.cache),
        )

    async def _floats(self, rows: tuple[ProviderHealthRow, ...]) -> dict[str, list[Money]]:
        async with reading(self._engine) as tx:
            return {row.provider: await float_with(tx, row.provider) for row in rows}


async def float_with(tx: Tx, provider: str) -> list[Money]:
    """The operator's own money there, asset by asset."""
    keys = [(OPERATOR, asset) for asset in _CARRIES.get(provider, ())]
    positions = await custody.positions(tx, _RAILS[provider], keys) if keys else {}
    return [Money(key[1], positions[key].micros) for key in keys if key in positions]


def provider_status(row: ProviderHealthRow, floats: list[Money]) -> ProviderStatus:
    """One provider, with the float that the caller may see."""
    return ProviderStatus(
        provider=row.provider,
        healthy=row.healthy,
        latency=row.latency_ms,
        success_rate_micros=row.success_rate_micros,
        breaker=_BREAKERS.get(row.breaker, BREAKER_STATE_OPEN),
        paused=row.paused,
        assets=[str(asset) for asset in _CARRIES.get(row.provider, ())],
        float=[money(amount) for amount in floats],
        observe_time=timestamp(row.checked_at),
    )


def _connected(is_connected: bool) -> str:
    return "connected" if is_connected else "disconnected"
