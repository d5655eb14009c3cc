"""Routing as a service: how things stand, read from what workers keep, and the decision of `domain/routing.py`.

Nothing here asks a provider. A provider that no worker has written about lately is rejected as unhealthy, so a rail
that does not exist in this deployment can never be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from domain.clock import Clock
from domain.errors import AssetUnsupported, NoRoute
from domain.identity import OPERATOR, ConsumerId
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.routing import (
    BankTerms,
    Health,
    Purpose,
    RouteDecision,
    RouteRequest,
    RoutingPolicy,
    Situation,
    Speed,
    choose_route,
    known_routes,
)
from storage import custody, preferences, provider_health
from storage.database import Engine, Tx, reading


class Routing:
    """Chooses routes. One for each process."""

    def __init__(
        self,
        *,
        engine: Engine,
        fees: FeeSchedule,
        policy: RoutingPolicy,
        clock: Clock,
        bank: BankTerms | None = None,
    ) -> None:
        self._engine = engine
        self._routes = known_routes(fees, bank or BankTerms())
        self._policy = policy
        self._clock = clock

    async def choose(self, request: RouteRequest, *, consumer: ConsumerId) -> RouteDecision:
        """The route for this consumer's money; raises `NoRoute` or `AssetUnsupported`."""
        async with reading(self._engine) as tx:
            situation = await self._situation(tx, request.amount.asset, [consumer])
        return choose_route(request, self._routes, situation, self._policy)

    async def settlement_routes(self) -> dict[Asset, RouteDecision]:
        """What would carry a settlement of each asset now. An asset that nothing would carry is left out."""
        routes = {}
        async with reading(self._engine) as tx:
            for asset in Asset:
                request = RouteRequest(purposes=frozenset({Purpose.SETTLEMENT}), amount=Money(asset, 0))
                with suppress(NoRoute, AssetUnsupported):
                    situation = await self._situation(tx, asset, [])
                    routes[asset] = choose_route(request, self._routes, situation, self._policy)
        return routes

    async def speed(self, asked: Speed | None, *, consumer: ConsumerId) -> Speed:
        """What was asked for, or else what the consumer prefers."""
        if asked is not None:
            return asked
        async with reading(self._engine) as tx:
            return (await preferences.read(tx, consumer)).preferred_speed

    async def _situation(self, tx: Tx, asset: Asset, consumers: Sequence[ConsumerId]) -> Situation:
        health = {
            row.provider: Health(row.healthy, row.paused, row.checked_at) for row in await provider_health.read_all(tx)
        }
        standing = [one for one in await custody.standing(tx, [OPERATOR, *consumers]) if one.asset is asset]
        return Situation(
            now=self._clock.now(),
            health=health,
            floats={one.rail: one.spendable for one in standing if one.holder == OPERATOR},
            positions={one.rail: one.micros for one in standing if one.holder != OPERATOR},
        )
