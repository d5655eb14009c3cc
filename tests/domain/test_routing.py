"""Routing: the examples a product manager would ask for, and what must hold of every decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AssetUnsupported, NoRoute
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.routing import (
    LASTING,
    BankTerms,
    Health,
    Purpose,
    RejectedRoute,
    Route,
    RouteDecision,
    RouteReason,
    RouteRequest,
    RoutingPolicy,
    Situation,
    Speed,
    Terms,
    choose_route,
    decision_facts,
    known_routes,
    stored_decision,
)
from domain.settlement import Rail

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUTES = known_routes(FeeSchedule())
POLICY = RoutingPolicy()
WELL = Health(healthy=True, paused=False, checked_at=NOW)
SICK = Health(healthy=False, paused=False, checked_at=NOW)
PAUSED = Health(healthy=True, paused=True, checked_at=NOW)
FLOAT = 1_000_000_000
HUNDRED = Money(Asset.USDC, 100_000_000)

Reason = RouteReason


def asked(*purposes: Purpose, amount: Money = HUNDRED, speed: Speed = Speed.STANDARD) -> RouteRequest:
    return RouteRequest(purposes=frozenset(purposes), amount=amount, speed=speed)


def things(tempo: Health | None = WELL, circle: Health | None = None, **changes: object) -> Situation:
    health = {name: one for name, one in (("tempo", tempo), ("circle", circle)) if one is not None}
    situation = Situation(now=NOW, health=health, floats={Rail.CIRCLE: FLOAT, Rail.MINT: FLOAT})
    return replace(situation, **changes)  # type: ignore[arg-type]


def rejected(decision: RouteDecision, provider: str) -> RejectedRoute:
    return next(one for one in decision.rejected if one.provider == provider)


def test_a_withdrawal_to_an_address_goes_by_tempo_and_says_what_it_costs() -> None:
    """The route that exists today, with the reason that decides: nobody else reaches the address."""
    decision = choose_route(asked(Purpose.CHAIN_WITHDRAWAL), ROUTES, things(), POLICY)
    assert (decision.provider, decision.rail, decision.fee) == ("tempo", Rail.TEMPO, Money(Asset.USDC, 100))
    assert decision.reasons == (Reason.ONLY_ROUTE, Reason.PREFERRED)
    assert rejected(decision, "circle").reasons == (Reason.NOT_REACHED, Reason.UNHEALTHY)


def test_a_deposit_costs_nothing() -> None:
    """What comes in on chain is the sender's expense."""
    decision = choose_route(asked(Purpose.CHAIN_DEPOSIT, Purpose.BANK_DEPOSIT), ROUTES, things(), POLICY)
    assert (decision.rail, decision.fee.micros) == (Rail.TEMPO, 0)


def test_a_bank_is_out_of_reach_while_nobody_watches_circle() -> None:
    """A rail without a worker is never promised: no hold must be left waiting for it."""
    with pytest.raises(NoRoute):
        choose_route(asked(Purpose.BANK_WITHDRAWAL), ROUTES, things(), POLICY)


def test_a_bank_is_reached_by_mint_alone_which_is_no_fallback() -> None:
    """Switching the fallback off must not cut off banks: Tempo never reached them."""
    policy = replace(POLICY, fallback_enabled=False)
    decision = choose_route(asked(Purpose.BANK_WITHDRAWAL), ROUTES, things(circle=WELL), policy)
    assert (decision.provider, decision.rail) == ("circle", Rail.MINT)
    assert decision.reasons == (Reason.ONLY_ROUTE,)
    assert rejected(decision, "tempo").reasons == (Reason.NOT_REACHED,)


def test_a_bank_is_paid_only_out_of_what_the_operator_has_there() -> None:
    """The payout comes out of the float at the custodian; a wire in needs none."""
    empty = things(circle=WELL, floats={Rail.CIRCLE: FLOAT, Rail.MINT: HUNDRED.micros - 1})
    with pytest.raises(NoRoute):
        choose_route(asked(Purpose.BANK_WITHDRAWAL), ROUTES, empty, POLICY)
    assert choose_route(asked(Purpose.BANK_DEPOSIT), ROUTES, empty, POLICY).rail is Rail.MINT


def test_banks_have_bounds_of_their_own() -> None:
    """Neither a cent nor a fortune goes by wire; where no amount is said yet, the bounds say nothing."""
    routes = known_routes(FeeSchedule(), BankTerms(least_micros=10_000_000, most_micros=20_000_000))
    for micros, fits in ((9_999_999, False), (10_000_000, True), (20_000_000, True), (20_000_001, False), (0, True)):
        wire = asked(Purpose.BANK_DEPOSIT, amount=Money(Asset.USDC, micros))
        if fits:
            assert choose_route(wire, routes, things(circle=WELL), POLICY).rail is Rail.MINT
        else:
            with pytest.raises(NoRoute):
                choose_route(wire, routes, things(circle=WELL), POLICY)


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (SICK, Reason.UNHEALTHY),
        (replace(WELL, checked_at=NOW - timedelta(seconds=16)), Reason.UNHEALTHY),
        (None, Reason.UNHEALTHY),
        (PAUSED, Reason.PAUSED),
    ],
)
def test_settlement_falls_back_to_circle_when_tempo_cannot(health: Health | None, reason: Reason) -> None:
    """Down, silent, unwatched or paused: each sends settlement to the fallback, and each is named."""
    decision = choose_route(asked(Purpose.SETTLEMENT), ROUTES, things(tempo=health, circle=WELL), POLICY)
    assert decision.provider == "circle"
    assert decision.reasons[0] is Reason.FALLBACK
    assert rejected(decision, "tempo").reasons == (reason,)
    assert rejected(decision, "tempo").fee is not None, "it could have done it at all"


def test_a_fallback_that_is_switched_off_is_not_taken() -> None:
    """CONSUMER_FALLBACK_ENABLED=false waits instead."""
    policy = replace(POLICY, fallback_enabled=False)
    with pytest.raises(NoRoute):
        choose_route(asked(Purpose.SETTLEMENT), ROUTES, things(tempo=SICK, circle=WELL), policy)
    well = choose_route(asked(Purpose.SETTLEMENT), ROUTES, things(circle=WELL), policy)
    assert rejected(well, "circle").reasons == (Reason.FALLBACK_DISABLED,)


def test_the_default_provider_is_tried_first_between_equals_in_price() -> None:
    """CONSUMER_DEFAULT_PROVIDER decides before time does, unless speed was asked for."""
    policy = replace(POLICY, default_provider="circle")
    situation = things(circle=WELL)
    standard = choose_route(asked(Purpose.SETTLEMENT), ROUTES, situation, policy)
    fast = choose_route(asked(Purpose.SETTLEMENT, speed=Speed.FAST), ROUTES, situation, policy)
    assert (standard.provider, standard.reasons[0]) == ("circle", Reason.PREFERRED)
    assert (fast.provider, fast.reasons[0]) == ("tempo", Reason.FASTEST)
    assert rejected(fast, "circle").reasons == (Reason.SLOWER,)


def test_the_float_must_pay_unless_the_consumers_own_money_stands_there() -> None:
    """Money rule 9: a consumer's own Circle position is spent before the float."""
    request = asked(Purpose.SETTLEMENT, amount=Money(Asset.USDC, 2 * FLOAT))
    with pytest.raises(NoRoute):
        choose_route(request, ROUTES, things(tempo=SICK, circle=WELL), POLICY)
    own = things(tempo=SICK, circle=WELL, positions={Rail.CIRCLE: 2 * FLOAT})
    assert Reason.POSITION_THERE in choose_route(request, ROUTES, own, POLICY).reasons


def test_an_unproven_attempt_keeps_everybody_else_away() -> None:
    """Money rule 1: while an attempt may still land, another one elsewhere could pay twice."""
    request = replace(asked(Purpose.SETTLEMENT), unproven_at="tempo")
    with pytest.raises(NoRoute):
        choose_route(request, ROUTES, things(tempo=SICK, circle=WELL), POLICY)
    decision = choose_route(request, ROUTES, things(circle=WELL), POLICY)
    assert rejected(decision, "circle").reasons == (Reason.UNPROVEN_ATTEMPT,)


def test_an_asset_that_no_reaching_route_carries_is_unsupported() -> None:
    """Waiting would not help, so the caller is not told to come back."""
    with pytest.raises(AssetUnsupported):
        choose_route(asked(Purpose.BANK_WITHDRAWAL, amount=Money(Asset.PYUSD, 1)), ROUTES, things(circle=WELL), POLICY)


# --- what holds of every decision -------------------------------------------------------------------------------------

healths = st.one_of(
    st.none(),
    st.builds(
        Health,
        healthy=st.booleans(),
        paused=st.booleans(),
        checked_at=st.integers(0, 40).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    ),
)
amounts = st.builds(Money, st.sampled_from(Asset), st.integers(0, 100))
terms = st.builds(Terms, st.integers(0, 3), st.integers(0, 3).map(lambda seconds: timedelta(seconds=seconds)))
some_routes = st.lists(
    st.builds(
        Route,
        provider=st.sampled_from(["tempo", "circle", "third"]),
        rail=st.sampled_from(Rail),
        terms=st.dictionaries(st.sampled_from(Purpose), terms, min_size=1),
        assets=st.frozensets(st.sampled_from(Asset), min_size=1),
        least_micros=st.integers(0, 30),
        most_micros=st.integers(50, 100),
        takes_float=st.booleans(),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda route: (route.provider, route.rail),
)
requests = st.builds(
    RouteRequest,
    purposes=st.frozensets(st.sampled_from(Purpose), min_size=1),
    amount=amounts,
    speed=st.sampled_from(Speed),
    unproven_at=st.sampled_from([None, None, "tempo"]),
)
situations = st.builds(
    Situation,
    now=st.just(NOW),
    health=st.fixed_dictionaries({}, optional=dict.fromkeys(("tempo", "circle", "third"), healths)).map(
        lambda found: {name: health for name, health in found.items() if health is not None}
    ),
    floats=st.dictionaries(st.sampled_from(Rail), st.integers(0, 100)),
    positions=st.dictionaries(st.sampled_from(Rail), st.integers(0, 100)),
)
policies = st.builds(
    RoutingPolicy, default_provider=st.sampled_from(["tempo", "circle"]), fallback_enabled=st.booleans()
)


def decided(
    request: RouteRequest, routes: Sequence[Route], situation: Situation, policy: RoutingPolicy
) -> RouteDecision | None:
    try:
        return choose_route(request, routes, situation, policy)
    except (NoRoute, AssetUnsupported):
        return None


@given(requests, some_routes, situations, policies)
def test_a_chosen_route_can_do_what_was_asked(
    request: RouteRequest, routes: list[Route], situation: Situation, policy: RoutingPolicy
) -> None:
    """Whatever the facts, money is never sent where it cannot go, or by somebody who is away."""
    decision = decided(request, routes, situation, policy)
    if decision is None:
        return
    [route] = [one for one in routes if (one.provider, one.rail) == (decision.provider, decision.rail)]
    health = situation.health[decision.provider]
    assert health.healthy
    assert not health.paused
    assert situation.now - health.checked_at <= policy.health_max_age
    assert request.purposes & route.terms.keys()
    assert request.amount.asset in route.assets
    assert decision.fee.asset is request.amount.asset
    assert request.unproven_at in (None, decision.provider)


@given(requests, some_routes, situations, policies)
def test_every_other_provider_is_told_why_not(
    request: RouteRequest, routes: list[Route], situation: Situation, policy: RoutingPolicy
) -> None:
    """A decision explains itself: one line for each provider, and no empty one unless preference alone decided."""
    decision = decided(request, routes, situation, policy)
    if decision is None:
        return
    others = {route.provider for route in routes} - {decision.provider}
    assert [one.provider for one in decision.rejected] == sorted(others)
    liked = not {Reason.PREFERRED, Reason.POSITION_THERE}.isdisjoint(decision.reasons)
    for one in decision.rejected:
        assert (one.fee is None) == (not LASTING.isdisjoint(one.reasons))
        assert one.reasons or liked or (one.fee, one.eta) == (decision.fee, decision.eta)


@given(requests, some_routes, situations, policies)
def test_nothing_better_was_left_behind(
    request: RouteRequest, routes: list[Route], situation: Situation, policy: RoutingPolicy
) -> None:
    """Standard takes the lowest fee of those that can do it now, fast the shortest time."""
    decision = decided(request, routes, situation, policy)
    if decision is None:
        return
    alone = [found for route in routes if (found := decided(request, [route], situation, policy)) is not None]
    if policy.fallback_enabled and request.speed is Speed.STANDARD:
        assert decision.fee.micros == min(found.fee.micros for found in alone)
    elif policy.fallback_enabled:
        assert decision.eta == min(found.eta for found in alone)


@given(requests, st.permutations(list(ROUTES)), situations, policies)
def test_the_order_in_which_routes_are_listed_decides_nothing(
    request: RouteRequest, routes: list[Route], situation: Situation, policy: RoutingPolicy
) -> None:
    """Equal facts, equal decision: a choice can be explained later from what was stored."""
    assert decided(request, routes, situation, policy) == decided(request, ROUTES, situation, policy)


@given(requests, some_routes, situations, policies)
def test_a_decision_is_stored_as_it_was_made(
    request: RouteRequest, routes: list[Route], situation: Situation, policy: RoutingPolicy
) -> None:
    """It is read back years later, to answer why."""
    decision = decided(request, routes, situation, policy)
    if decision is not None:
        assert stored_decision(decision_facts(decision)) == decision
