"""Money, what it is worth, what it costs, and the names under which requests for it are remembered."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.identity import body_hash, request_key
from domain.limits import DAILY_LIMIT_MICROS, HIGHEST_LEVEL, REQUIRED_EVIDENCE, current_usage, reset_time
from domain.money import MAX_MICROS, Asset, Money, usd_micros
from domain.pricing import FeeSchedule, share

MICROS = st.integers(0, MAX_MICROS // 4)


def test_amounts_of_two_assets_are_never_added() -> None:
    """A euro is no dollar: the sum would be an amount of nothing."""
    with pytest.raises(ValueError, match="cannot be added"):
        Money(Asset.USDC, 1) + Money(Asset.EURC, 1)


def test_what_does_not_fit_is_no_money() -> None:
    """Neither the database nor the wire could carry it; better here than after it wrapped around."""
    with pytest.raises(OverflowError):
        Money(Asset.USDC, MAX_MICROS) + Money(Asset.USDC, 1)


@given(MICROS, MICROS)
def test_adding_and_taking_away_are_exact(first: int, second: int) -> None:
    """Integers all the way: what goes in comes out, to the micro."""
    one, other = Money(Asset.USDC, first), Money(Asset.USDC, second)
    assert one + other - other == one


def test_money_is_written_as_people_write_it() -> None:
    """Logs and statements show units; six digits always, so that columns align and nothing is rounded away."""
    assert str(Money(Asset.USDC, 12_340_000)) == "12.340000 USDC"
    assert str(Money(Asset.EURC, -1)) == "-0.000001 EURC"


@given(st.sampled_from([asset for asset in Asset if asset.is_usd]), MICROS)
def test_a_dollar_asset_is_worth_its_units_and_needs_no_rate(asset: Asset, micros: int) -> None:
    """A limit must not depend on a feed that four of five assets have no use for."""
    assert usd_micros(Money(asset, micros), eur_usd_micros=None) == micros


@given(st.integers(0, 10**15), st.integers(1, 10**7))
def test_euros_are_valued_upwards_by_less_than_a_micro(micros: int, rate: int) -> None:
    """Rounding down would let many small transfers pass a limit that one large one meets."""
    worth = usd_micros(Money(Asset.EURC, micros), eur_usd_micros=rate)
    assert 0 <= worth * 1_000_000 - micros * rate < 1_000_000


def test_euros_without_a_rate_are_worth_nothing_that_anybody_could_decide_on() -> None:
    """The caller refuses the transfer; a default would be a limit that fails open."""
    with pytest.raises(ValueError, match="reference rate"):
        usd_micros(Money(Asset.EURC, 1), eur_usd_micros=None)


@given(st.integers(0, 10**12), st.integers(1, 40))
def test_shares_add_up_and_differ_by_one_micro_at_most(micros: int, parts: int) -> None:
    """A network fee shared by 32 payments is told to the last micro, once."""
    shares = [share(micros, parts=parts, position=position) for position in range(parts)]
    assert sum(shares) == micros
    assert max(shares) - min(shares) <= 1


def test_a_fee_is_flat_and_in_the_asset_that_moves() -> None:
    """Nobody has to hold a second asset to be able to pay with the first."""
    fees = FeeSchedule()
    assert {fees.transfer_fee(Money(Asset.EURC, micros)) for micros in (1, 10**12)} == {Money(Asset.EURC, 100)}


def test_each_level_allows_more_and_asks_for_more_than_the_one_below() -> None:
    """The ladder goes one way, and its first step is free."""
    levels = sorted(DAILY_LIMIT_MICROS)
    limits = [DAILY_LIMIT_MICROS[level] for level in levels]
    assert limits == sorted(set(limits))
    assert [bool(REQUIRED_EVIDENCE[level]) for level in levels] == [False] + [True] * (HIGHEST_LEVEL - 1)


def test_rule_24_a_day_of_usage_ends_at_midnight_utc_and_never_begins_again() -> None:
    """The day that counts is the later one of the database's and the counter's."""
    today = date(2028, 2, 28)
    assert current_usage(usage_day=today, usage_micros=5, today=today) == (today, 5)
    assert current_usage(usage_day=today, usage_micros=5, today=date(2028, 2, 29)) == (date(2028, 2, 29), 0)
    assert current_usage(usage_day=today, usage_micros=5, today=date(2028, 2, 27)) == (today, 5)
    assert reset_time(today) == datetime(2028, 2, 29, tzinfo=UTC)


def test_rule_22_keys_and_hashes_stay_what_they_are_for_ever() -> None:
    """They are compared with rows written years ago: whoever changes how they are made breaks every replay."""
    assert request_key(caller="consumer", request_id="0190a0b0-0000-7000-8000-00000000000a") == UUID(
        "23c5a150-01e5-511c-8e74-60e781d42d05"
    )
    assert body_hash("Transfer", "handle", "bob", "USDC", 5, "").hex()[:16] == "4d03db0e2c033cf6"


def test_rule_22_every_caller_has_ids_of_its_own() -> None:
    """The consumer's app, two backends and a worker may choose the same id without knowing of each other."""
    callers = ("consumer", "service:payroll", "service:loyalty", "worker:sweep", "operator:alice")
    assert len({request_key(caller=caller, request_id="same") for caller in callers}) == len(callers)


@given(st.lists(st.text() | st.integers(), max_size=4), st.lists(st.text() | st.integers(), max_size=4))
def test_rule_22_two_bodies_have_one_hash_only_if_they_are_one(first: list[str | int], second: list[str | int]) -> None:
    """No way of joining fields may make two requests look alike, whatever stands in their texts."""
    assert (body_hash("Transfer", *first) == body_hash("Transfer", *second)) == (_typed(first) == _typed(second))


def _typed(fields: list[str | int]) -> list[tuple[str, str | int]]:
    return [(type(field).__name__, field) for field in fields]
