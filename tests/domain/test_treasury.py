"""The treasury's sales: when one is wanted, of what, and at what price it is made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.money import Asset, Money
from domain.treasury import Bounds, Stock, TreasuryPolicy, least_bought, wanted_sale

POLICY = TreasuryPolicy(bounds={asset: Bounds(100, 300) for asset in (Asset.USDC, Asset.USDT, Asset.PYUSD)})


def stocks(**micros: int) -> dict[Asset, Stock]:
    return {Asset(name): Stock(amount, amount) for name, amount in micros.items()}


def test_a_treasury_within_its_bounds_sells_nothing() -> None:
    """The edges included: every sale costs a fee and a spread."""
    assert wanted_sale(stocks(USDC=100, USDT=300, PYUSD=200), POLICY) is None


def test_what_runs_short_is_bought_for_the_largest_surplus() -> None:
    """Up to the middle of its bounds, and no more than the other can spare."""
    wanted = wanted_sale(stocks(USDC=90, USDT=280, PYUSD=260), POLICY)
    assert wanted is not None
    assert (wanted.sell, wanted.buy_asset) == (Money(Asset.USDT, 80), Asset.USDC)
    wanted = wanted_sale(stocks(USDC=90, USDT=900, PYUSD=260), POLICY)
    assert wanted is not None
    assert wanted.sell.micros == 110


def test_a_surplus_alone_is_sold_too() -> None:
    """An asset that consumers sold is exposure to its issuer."""
    wanted = wanted_sale(stocks(USDC=150, USDT=500, PYUSD=150), POLICY)
    assert wanted is not None
    assert wanted.sell == Money(Asset.USDT, 50)
    assert wanted.buy_asset in (Asset.USDC, Asset.PYUSD)


def test_what_is_promised_is_not_sold() -> None:
    """What stands there may be on its way out already."""
    found = stocks(USDC=50, PYUSD=200) | {Asset.USDT: Stock(900, 20)}
    wanted = wanted_sale(found, POLICY)
    assert wanted is not None
    assert wanted.sell == Money(Asset.USDT, 20)
    assert wanted_sale(stocks(USDC=50, PYUSD=200) | {Asset.USDT: Stock(900, 0)}, POLICY) is None


@given(st.lists(st.integers(0, 1_000), min_size=3, max_size=3))
def test_a_sale_never_takes_an_asset_below_its_middle_nor_one_above_it(amounts: list[int]) -> None:
    """So no sale calls for another one, to and fro for ever."""
    found = dict(zip(POLICY.bounds, (Stock(amount, amount) for amount in amounts), strict=True))
    wanted = wanted_sale(found, POLICY)
    if wanted is None:
        return
    assert wanted.sell.asset is not wanted.buy_asset
    middle = POLICY.bounds[wanted.sell.asset].middle
    assert found[wanted.sell.asset].projected - wanted.sell.micros >= middle
    assert found[wanted.buy_asset].projected + wanted.sell.micros <= middle


def test_a_sale_is_made_near_one_for_one_or_not_at_all() -> None:
    """A dollar that lost its peg is not bought because the treasury is short of it."""
    sell = Money(Asset.USDC, 1_000_000)
    assert least_bought(sell, 999_800, POLICY) == 999_300
    assert least_bought(sell, 998_100, POLICY) == 998_000
    assert least_bought(sell, 997_999, POLICY) is None
    assert least_bought(sell, 0, POLICY) is None
