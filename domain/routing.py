"""Routing: which provider carries money in, out or across, and why. Pure: the same facts give the same decision.

A *route* is what a provider does on one of its rails: for which purposes and assets, at what fee, in what time. Each
route is judged against what is asked and how things stand. Whatever speaks against it is collected, so that a decision
explains itself to whoever reads it later; among the routes with nothing against them, fee, speed and the deployment's
preference decide, in an order that leaves no ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from domain.errors import AssetUnsupported, NoRoute, WalletError
from domain.money import MAX_MICROS, Asset, Money
from domain.pricing import FeeSchedule
from domain.settlement import Rail


class Purpose(StrEnum):
    """What the money is to do."""

    SETTLEMENT = "settlement"
    CHAIN_DEPOSIT = "chain_deposit"
    BANK_DEPOSIT = "bank_deposit"
    CHAIN_WITHDRAWAL = "chain_withdrawal"
    BANK_WITHDRAWAL = "bank_withdrawal"


class Speed(StrEnum):
    """What a consumer would rather save: fees, or time."""

    STANDARD = "STANDARD"
    FAST = "FAST"


class RouteReason(StrEnum):
    """What speaks for a route, or against it. The contract has the same list, in words."""

    PREFERRED = "PREFERRED"
    POSITION_THERE = "POSITION_THERE"
    ONLY_ROUTE = "ONLY_ROUTE"
    CHEAPEST = "CHEAPEST"
    FASTEST = "FASTEST"
    FALLBACK = "FALLBACK"

    UNHEALTHY = "UNHEALTHY"
    PAUSED = "PAUSED"
    ASSET_NOT_CARRIED = "ASSET_NOT_CARRIED"
    NOT_REACHED = "NOT_REACHED"
    FLOAT_TOO_SMALL = "FLOAT_TOO_SMALL"
    FALLBACK_DISABLED = "FALLBACK_DISABLED"
    UNPROVEN_ATTEMPT = "UNPROVEN_ATTEMPT"
    DEARER = "DEARER"
    SLOWER = "SLOWER"
    AMOUNT_OUT_OF_RANGE = "AMOUNT_OUT_OF_RANGE"


LASTING = frozenset({RouteReason.NOT_REACHED, RouteReason.ASSET_NOT_CARRIED, RouteReason.AMOUNT_OUT_OF_RANGE})
"""What speaks against a route for as long as the same thing is asked of it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a route asks for one purpose: the flat fee in micros of the asset, and the time until it is final."""

    fee_micros: int
    eta: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a provider does on one rail."""

    provider: str
    rail: Rail
    terms: Mapping[Purpose, Terms]
    assets: frozenset[Asset]
    least_micros: int = 0
    most_micros: int = MAX_MICROS
    takes_float: bool = False
    """It pays out of the operator's own money there, unless the consumer's stands there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What is asked for. Zero micros: not known yet. Several purposes: whichever suits best."""

    purposes: frozenset[Purpose]
    amount: Money
    speed: Speed = Speed.STANDARD
    unproven_at: str | None = None
    """The provider with an attempt at the same thing that is not proven dead (money rule 1)."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a worker last saw of a provider, and whether an operator took it out of routing."""

    healthy: bool
    paused: bool
    checked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """How things stand, in the asset that is asked for. A provider nobody watches has no health."""

    now: datetime
    health: Mapping[str, Health]
    floats: Mapping[Rail, int] = field(default_factory=dict)
    positions: Mapping[Rail, int] = field(default_factory=dict)
    """Where the consumer's money stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPolicy:
    """What a deployment decided beforehand."""

    default_provider: str = "tempo"
    fallback_enabled: bool = True
    health_max_age: timedelta = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class RejectedRoute:
    """A provider that was not chosen, and why. Fee and time are set if it could have done it at all."""

    provider: str
    reasons: tuple[RouteReason, ...]
    fee: Money | None = None
    eta: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """The route that was chosen, the deciding reason first, and what became of the others."""

    provider: str
    rail: Rail
    fee: Money
    eta: timedelta
    reasons: tuple[RouteReason, ...]
    rejected: tuple[RejectedRoute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BankTerms:
    """What a deployment sends through banks at a time, and how long they take."""

    least_micros: int = 1_000_000
    most_micros: int = 1_000_000_000_000
    eta: timedelta = timedelta(days=1)


def known_routes(fees: FeeSchedule, bank: BankTerms = BankTerms()) -> tuple[Route, ...]:
    """What the two providers do. A provider that no worker watches is rejected as unhealthy, whatever stands here."""
    free = 0
    seconds, minute = timedelta(seconds=2), timedelta(minutes=1)
    tempo = {
        Purpose.SETTLEMENT: Terms(free, seconds),
        Purpose.CHAIN_DEPOSIT: Terms(free, seconds),
        Purpose.CHAIN_WITHDRAWAL: Terms(fees.withdrawal_micros, seconds),
    }
    wires_in = {Purpose.BANK_DEPOSIT: Terms(free, bank.eta)}
    payouts = {Purpose.BANK_WITHDRAWAL: Terms(fees.withdrawal_micros, bank.eta)}
    carried = frozenset({Asset.USDC, Asset.EURC})
    settlement = {Purpose.SETTLEMENT: Terms(free, minute)}
    return (
        Route(provider="tempo", rail=Rail.TEMPO, terms=tempo, assets=frozenset(Asset)),
        Route(provider="circle", rail=Rail.CIRCLE, terms=settlement, assets=carried, takes_float=True),
        _bank_route(wires_in, bank),
        _bank_route(payouts, bank, takes_float=True),
    )


def _bank_route(terms: Mapping[Purpose, Terms], bank: BankTerms, *, takes_float: bool = False) -> Route:
    return Route(
        provider="circle",
        rail=Rail.MINT,
        terms=terms,
        assets=frozenset({Asset.USDC}),
        least_micros=bank.least_micros,
        most_micros=bank.most_micros,
        takes_float=takes_float,
    )


def choose_route(
    request: RouteRequest, routes: Sequence[Route], situation: Situation, policy: RoutingPolicy
) -> RouteDecision:
    """The best route; raises `AssetUnsupported` or `NoRoute` when every one has something against it."""
    judged = _judged(request, routes, situation, policy)
    possible = [one for one in judged if not one.against]
    if not possible:
        raise _refusal(request, judged)
    chosen = min(possible, key=lambda one: _rank(one, request, situation, policy))
    return RouteDecision(
        provider=chosen.route.provider,
        rail=chosen.route.rail,
        fee=Money(request.amount.asset, chosen.terms.fee_micros),
        eta=chosen.terms.eta,
        reasons=tuple(_reasons_for(chosen, judged, request, situation, policy)),
        rejected=tuple(_rejected(chosen, judged, request.amount.asset)),
    )


def objections(
    request: RouteRequest, routes: Sequence[Route], situation: Situation, policy: RoutingPolicy
) -> dict[str, tuple[RouteReason, ...]]:
    """What speaks against each provider that does what is asked at all: why nothing carries it, when nothing does."""
    judged = [one for one in _judged(request, routes, situation, policy) if RouteReason.NOT_REACHED not in one.against]
    return {one.route.provider: one.against for one in judged}


_NO_TERMS = Terms(0, timedelta())


@dataclass(frozen=True, slots=True)
class _Judged:
    """A route, its terms for what is asked, and everything that speaks against it."""

    route: Route
    terms: Terms
    against: tuple[RouteReason, ...]

    @property
    def capable(self) -> bool:
        """It could do it, if not now."""
        return LASTING.isdisjoint(self.against)


def _judged(
    request: RouteRequest, routes: Sequence[Route], situation: Situation, policy: RoutingPolicy
) -> list[_Judged]:
    lasting = {id(route): tuple(_lasting(request, route)) for route in routes}
    default_can = any(route.provider == policy.default_provider and not lasting[id(route)] for route in routes)
    judged = []
    for route in routes:
        passing = tuple(_passing(request, route, situation, policy))
        disabled = default_can and route.provider != policy.default_provider and not policy.fallback_enabled
        refused = (RouteReason.FALLBACK_DISABLED,) if disabled else ()
        judged.append(_Judged(route, _terms(request, route), lasting[id(route)] + passing + refused))
    return judged


def _terms(request: RouteRequest, route: Route) -> Terms:
    """The best terms among the purposes that are asked for."""
    found = [route.terms[purpose] for purpose in request.purposes if purpose in route.terms]
    return min(found, key=lambda terms: _cost(terms, request.speed), default=_NO_TERMS)


def _cost(terms: Terms, speed: Speed) -> tuple[Any, Any]:
    return (terms.eta, terms.fee_micros) if speed is Speed.FAST else (terms.fee_micros, terms.eta)


def _lasting(request: RouteRequest, route: Route) -> Iterable[RouteReason]:
    if request.purposes.isdisjoint(route.terms):
        yield RouteReason.NOT_REACHED
    if request.amount.asset not in route.assets:
        yield RouteReason.ASSET_NOT_CARRIED
    if request.amount.micros and not route.least_micros <= request.amount.micros <= route.most_micros:
        yield RouteReason.AMOUNT_OUT_OF_RANGE


def _passing(request: RouteRequest, route: Route, situation: Situation, policy: RoutingPolicy) -> Iterable[RouteReason]:
    health = situation.health.get(route.provider)
    if health is not None and health.paused:
        yield RouteReason.PAUSED
    if health is None or not health.healthy or situation.now - health.checked_at > policy.health_max_age:
        yield RouteReason.UNHEALTHY
    short_of_float = route.takes_float and situation.floats.get(route.rail, 0) < request.amount.micros
    if short_of_float and not _stands_there(request, route, situation):
        yield RouteReason.FLOAT_TOO_SMALL
    if request.unproven_at is not None and request.unproven_at != route.provider:
        yield RouteReason.UNPROVEN_ATTEMPT


def _stands_there(request: RouteRequest, route: Route, situation: Situation) -> bool:
    return 0 < request.amount.micros <= situation.positions.get(route.rail, 0)


def _refusal(request: RouteRequest, judged: Sequence[_Judged]) -> WalletError:
    reaching = [one for one in judged if RouteReason.NOT_REACHED not in one.against]
    if reaching and all(RouteReason.ASSET_NOT_CARRIED in one.against for one in reaching):
        return AssetUnsupported(request.amount.asset)
    return NoRoute(request.amount.asset)


def _rank(one: _Judged, request: RouteRequest, situation: Situation, policy: RoutingPolicy) -> tuple[Any, ...]:
    """Lowest wins. Names come last, so that equals are told apart the same way every time."""
    route, terms = one.route, one.terms
    liked = (route.provider != policy.default_provider, not _stands_there(request, route, situation))
    if request.speed is Speed.FAST:
        return (terms.eta, terms.fee_micros, *liked, route.provider, route.rail)
    return (terms.fee_micros, *liked, terms.eta, route.provider, route.rail)


def _reasons_for(
    chosen: _Judged, judged: Sequence[_Judged], request: RouteRequest, situation: Situation, policy: RoutingPolicy
) -> Iterable[RouteReason]:
    others = [one for one in judged if one is not chosen and one.capable]
    rivals = [one for one in others if not one.against]
    preferred = chosen.route.provider == policy.default_provider
    if not preferred and any(one.against and one.route.provider == policy.default_provider for one in others):
        yield RouteReason.FALLBACK
    if not others:
        yield RouteReason.ONLY_ROUTE
    if request.speed is Speed.FAST and rivals and all(one.terms.eta > chosen.terms.eta for one in rivals):
        yield RouteReason.FASTEST
    if rivals and all(one.terms.fee_micros > chosen.terms.fee_micros for one in rivals):
        yield RouteReason.CHEAPEST
    if preferred:
        yield RouteReason.PREFERRED
    if _stands_there(request, chosen.route, situation):
        yield RouteReason.POSITION_THERE


def _rejected(chosen: _Judged, judged: Sequence[_Judged], asset: Asset) -> Iterable[RejectedRoute]:
    """One line for each other provider: the best it had to offer."""
    others: dict[str, _Judged] = {}
    for one in judged:
        name = one.route.provider
        if name != chosen.route.provider and (name not in others or _nearer(one, others[name])):
            others[name] = one
    for provider, one in sorted(others.items()):
        fee, eta = (Money(asset, one.terms.fee_micros), one.terms.eta) if one.capable else (None, None)
        yield RejectedRoute(provider, one.against or tuple(_why_not(one, chosen)), fee, eta)


def _nearer(one: _Judged, other: _Judged) -> bool:
    return _distance(one) < _distance(other)


def _distance(one: _Judged) -> tuple[bool, int, Rail]:
    """How far a route is from being taken; its rail settles a tie, so that no order of listing does."""
    return not one.capable, len(one.against), one.route.rail


def _why_not(one: _Judged, chosen: _Judged) -> Iterable[RouteReason]:
    """What a route lacked that had nothing against it. Nothing at all, where mere preference decided."""
    if one.terms.fee_micros > chosen.terms.fee_micros:
        yield RouteReason.DEARER
    if one.terms.eta > chosen.terms.eta:
        yield RouteReason.SLOWER


# --- as it is kept ----------------------------------------------------------------------------------------------------


def decision_facts(decision: RouteDecision) -> dict[str, Any]:
    """A decision as plain data, to be stored with what came of it."""
    return {
        "provider": decision.provider,
        "rail": str(decision.rail),
        "asset": str(decision.fee.asset),
        "fee_micros": decision.fee.micros,
        "eta_ms": decision.eta // timedelta(milliseconds=1),
        "reasons": [str(reason) for reason in decision.reasons],
        "rejected": [
            {
                "provider": one.provider,
                "reasons": [str(reason) for reason in one.reasons],
                "fee_micros": one.fee.micros if one.fee is not None else None,
                "eta_ms": one.eta // timedelta(milliseconds=1) if one.eta is not None else None,
            }
            for one in decision.rejected
        ],
    }


def stored_decision(facts: Mapping[str, Any]) -> RouteDecision:
    """The decision that `decision_facts` described."""
    asset = Asset(facts["asset"])
    return RouteDecision(
        provider=facts["provider"],
        rail=Rail(facts["rail"]),
        fee=Money(asset, facts["fee_micros"]),
        eta=timedelta(milliseconds=facts["eta_ms"]),
        reasons=tuple(RouteReason(reason) for reason in facts["reasons"]),
        rejected=tuple(_stored_rejected(one, asset) for one in facts["rejected"]),
    )


def _stored_rejected(facts: Mapping[str, Any], asset: Asset) -> RejectedRoute:
    fee, eta = facts["fee_micros"], facts["eta_ms"]
    return RejectedRoute(
        provider=facts["provider"],
        reasons=tuple(RouteReason(reason) for reason in facts["reasons"]),
        fee=Money(asset, fee) if fee is not None else None,
        eta=timedelta(milliseconds=eta) if eta is not None else None,
    )
