"""Amounts over the wire: decimal strings, to the last micro, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import MAX_MICROS, Asset, Money
from providers.circle.amounts import UnreadableAnswer, decimal_of, micros_of, micros_taken, mint_money, money_of

MICROS = st.integers(min_value=0, max_value=MAX_MICROS)


@given(MICROS)
def test_micros_survive_the_way_there_and_back(micros: int) -> None:
    assert micros_of(decimal_of(micros)) == micros


@given(MICROS, st.sampled_from([Asset.USDC, Asset.EURC]))
def test_money_survives_the_way_to_mint_and_back(micros: int, asset: Asset) -> None:
    assert money_of(mint_money(Money(asset, micros))) == Money(asset, micros)


@pytest.mark.parametrize(
    ("text", "micros"), [("1", 1_000_000), ("0.000001", 1), ("10.50", 10_500_000), ("3.140000000000000000", 3_140_000)]
)
def test_zeros_say_nothing(text: str, micros: int) -> None:
    assert micros_of(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "0.0000001",
        "1.0000005",
        "",
        ".5",
        "1.",
        "-1",
        "+1",
        "1e6",
        "1,000",
        " 1",
        "1\n",
        "NaN",
        "٣",
        1,
        1.5,
        None,
        "9" * 19,
    ],
)
def test_what_would_lose_digits_or_is_no_decimal_is_unreadable(text: Any) -> None:
    """A number in JSON has been through a float somewhere; half a micro has no place in a ledger."""
    with pytest.raises(UnreadableAnswer):
        micros_of(text)


@pytest.mark.parametrize(
    ("text", "micros"), [("0.0005", 500), ("0.000000000000000001", 1), ("0.0000010", 1), ("1.0000001", 1_000_001)]
)
def test_a_network_fee_takes_the_micro_that_it_begins(text: str, micros: int) -> None:
    """It leaves a balance of eighteen digits, of which six are shown, rounded down."""
    assert micros_taken(text) == micros


def test_money_in_a_currency_that_is_none_of_ours_is_unreadable() -> None:
    with pytest.raises(UnreadableAnswer):
        money_of({"amount": "1.00", "currency": "BTC"})
