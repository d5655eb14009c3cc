"""Money: whole micros of one asset. There is no float and no implicit conversion anywhere behind this module.

A micro is 10⁻⁶ of an asset, the base unit of every TIP-20 token, so a chain amount and a ledger amount are the same
integer. Amounts of different assets never meet in one expression; only a reference rate turns one into US dollars.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MICROS_PER_UNIT = 1_000_000

# Postgres' bigint and protobuf's int64 end here; a balance that would pass it is refused, not wrapped.
MAX_MICROS = 2**63 - 1


class Asset(StrEnum):
    """The five stablecoins a wallet can hold."""

    USDC = "USDC"
    USDT = "USDT"
    PYUSD = "PYUSD"
    EURC = "EURC"
    USDB = "USDB"

    @property
    def is_usd(self) -> bool:
        """Whether one unit counts as one US dollar in limits and portfolios."""
        return self is not Asset.EURC


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one asset, in micros. Signed, so that differences can be expressed."""

    asset: Asset
    micros: int

    def __post_init__(self) -> None:
        if not -MAX_MICROS <= self.micros <= MAX_MICROS:
            raise OverflowError(f"{self.micros} micros do not fit in 64 bits")

    def __add__(self, other: Money) -> Money:
        return Money(self.asset, self.micros + self._same_asset(other))

    def __sub__(self, other: Money) -> Money:
        return Money(self.asset, self.micros - self._same_asset(other))

    def __str__(self) -> str:
        sign = "-" if self.micros < 0 else ""
        units, micros = divmod(abs(self.micros), MICROS_PER_UNIT)
        return f"{sign}{units}.{micros:06d} {self.asset}"

    def _same_asset(self, other: Money) -> int:
        if other.asset is not self.asset:
            raise ValueError(f"{self.asset} and {other.asset} cannot be added")
        return other.micros


def usd_micros(money: Money, *, eur_usd_micros: int | None) -> int:
    """The value in US dollar micros, rounded up so that a limit is never undercounted.

    `eur_usd_micros` is the price of one euro in dollar micros (1.08 USD = 1_080_000); it may be None when the asset
    is a dollar asset.
    """
    if money.asset.is_usd:
        return money.micros
    if eur_usd_micros is None:
        raise ValueError(f"{money.asset} needs a reference rate")
    return -(-money.micros * eur_usd_micros // MICROS_PER_UNIT)


def worth_usd_micros(money: Money, *, eur_usd_micros: int) -> int:
    """What an amount is worth in US dollar micros, rounded down: nobody is shown more than there is."""
    if money.asset.is_usd:
        return money.micros
    return money.micros * eur_usd_micros // MICROS_PER_UNIT
