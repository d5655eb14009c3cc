"""Prices of swaps: what a ladder or a rate gives, how it is rounded, and when a quote may not be taken any more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import NoLiquidity, PriceMoved, QuoteExpired, QuoteUsed, SwapsSuspended, ValidationFailed
from domain.identity import ConsumerId, TransactionId
from domain.money import MICROS_PER_UNIT, Asset, Money
from domain.swaps import (
    Exposure,
    Ladder,
    Price,
    PriceSource,
    QuoteState,
    Rung,
    SwapPolicy,
    SwapQuote,
    check_bounds,
    check_open,
    check_price,
    check_room,
    ladder_price,
    reference_price,
    split,
)

UNIT = MICROS_PER_UNIT
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = SwapPolicy()
FREE = replace(POLICY, dex_spread_micros=0, reference_spread_micros=0)
LADDER = Ladder(
    Asset.USDC,
    Asset.USDT,
    (Rung(10 * UNIT, 9_999_000), Rung(100 * UNIT, 99_980_000), Rung(1_000 * UNIT, 999_500_000)),
    block_number=7,
    read_at=NOON,
)


def usdc(micros: int) -> Money:
    return Money(Asset.USDC, micros)


def quote(sell_micros: int = 100 * UNIT, buy_micros: int = 99 * UNIT, spread_micros: int = UNIT) -> SwapQuote:
    return SwapQuote(
        id=UUID(int=5),
        consumer_id=ConsumerId(UUID(int=1_000)),
        sell=usdc(sell_micros),
        buy=Money(Asset.USDT, buy_micros),
        spread=Money(Asset.USDT, spread_micros),
        source=PriceSource.DEX,
        created_at=NOON,
        expires_at=NOON + timedelta(seconds=30),
    )


def dex(rate: Fraction) -> Price:
    return Price(rate, PriceSource.DEX)


def test_an_amount_between_two_rungs_gets_the_price_of_the_larger_one() -> None:
    """What was never asked for is never cheaper than a larger amount was: the operator sells no hope."""
    assert ladder_price(LADDER, usdc(10 * UNIT)).rate == Fraction(9_999, 10_000)
    assert ladder_price(LADDER, usdc(10 * UNIT + 1)).rate == Fraction(9_998, 10_000)
    assert ladder_price(LADDER, usdc(1)).rate == Fraction(9_999, 10_000)


def test_an_amount_beyond_the_ladder_has_no_price() -> None:
    """The market was asked, and gave nothing for so much."""
    with pytest.raises(NoLiquidity):
        ladder_price(LADDER, usdc(1_000 * UNIT + 1))
    with pytest.raises(NoLiquidity):
        ladder_price(replace(LADDER, rungs=()), usdc(UNIT))


def test_the_reference_rate_prices_euros_both_ways() -> None:
    """One euro for 1.08 dollars, and back."""
    there = reference_price(Asset.EURC, eur_usd_micros=1_080_000)
    back = reference_price(Asset.USDC, eur_usd_micros=1_080_000)
    assert split(100 * UNIT, there, FREE) == (108 * UNIT, 0)
    assert split(108 * UNIT, back, FREE) == (100 * UNIT, 0)
    assert split(100 * UNIT, there, POLICY) == (107_460_000, 540_000)


@given(
    sell_micros=st.integers(1, 10**12),
    rate=st.fractions(Fraction(1, 10), 10, max_denominator=10**9),
    spread_micros=st.integers(0, 100_000),
)
def test_rounding_is_never_against_the_operator_and_always_shows(
    sell_micros: int, rate: Fraction, spread_micros: int
) -> None:
    """Bought and spread are together what the sold amount is worth, and the consumer gets no fraction too much."""
    policy = replace(POLICY, dex_spread_micros=spread_micros)
    buy_micros, spread = split(sell_micros, dex(rate), policy)
    worth = sell_micros * rate
    assert buy_micros <= worth * (1_000_000 - spread_micros) / 1_000_000 < buy_micros + 1
    assert spread >= 0
    assert worth <= buy_micros + spread < worth + 1


def test_amounts_outside_the_bounds_have_no_price() -> None:
    """Too little is the caller's mistake; too much is more than the market is asked for."""
    with pytest.raises(ValidationFailed):
        check_bounds(usdc(POLICY.least_micros - 1), Asset.USDT, POLICY)
    with pytest.raises(NoLiquidity):
        check_bounds(usdc(POLICY.most_micros + 1), Asset.USDT, POLICY)
    check_bounds(usdc(POLICY.least_micros), Asset.USDT, POLICY)
    check_bounds(usdc(POLICY.most_micros), Asset.USDT, POLICY)


def test_rule_18_the_treasury_promises_what_it_has_and_no_more_than_its_bound() -> None:
    """An empty float is a market without depth; open swaps up to the bound are a reason to wait."""
    policy = replace(POLICY, exposure_micros=200 * UNIT)
    check_room(quote(), Exposure(uncommitted_micros=99 * UNIT, swaps_micros=101 * UNIT), policy)
    with pytest.raises(NoLiquidity):
        check_room(quote(), Exposure(uncommitted_micros=99 * UNIT - 1, swaps_micros=0), policy)
    with pytest.raises(SwapsSuspended):
        check_room(quote(), Exposure(uncommitted_micros=900 * UNIT, swaps_micros=101 * UNIT + 1), policy)


def test_a_quote_is_open_until_it_is_taken_or_its_time_is_over() -> None:
    """Both refusals carry what the caller needs to go on."""
    check_open(quote(), now=NOON)
    with pytest.raises(QuoteExpired):
        check_open(quote(), now=NOON + timedelta(seconds=30))
    taken = replace(quote(), state=QuoteState.EXECUTED, transaction_id=TransactionId(UUID(int=9)))
    with pytest.raises(QuoteUsed) as used:
        check_open(taken, now=NOON)
    assert used.value.transaction_id == UUID(int=9)


def test_a_price_that_moved_against_the_operator_beyond_the_bound_is_refused() -> None:
    """Half a percent is the operator's risk. A move in its favour is nobody's concern."""
    check_price(quote(), dex(Fraction(995, 1_000)), POLICY)
    check_price(quote(), dex(Fraction(2)), POLICY)
    with pytest.raises(PriceMoved) as moved:
        check_price(quote(), dex(Fraction(99, 100)), POLICY)
    assert (moved.value.bound_micros, moved.value.moved_micros) == (5_000, 10_000)
