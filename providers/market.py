"""What the house may know about a rail's own market: its prices, and sales out of the operator's position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.money import Asset
from providers.base import Head, PreparedAttempt, Retryable


@dataclass(frozen=True, slots=True)
class Sale:
    """An amount of one asset, and the asset it is to buy."""

    sell_asset: Asset
    buy_asset: Asset
    sell_micros: int


@dataclass(frozen=True, slots=True)
class ExchangePrices:
    """What each sale would buy at a finalized head, in the order asked; None where the market has nothing to give."""

    head: Head
    buy_micros: tuple[int | None, ...]


class Exchange(Protocol):
    """Prices on a rail's own market. Reads only; raises `ProviderUnavailable` rather than guess."""

    @property
    def assets(self) -> frozenset[Asset]:
        """What it trades, each against each."""
        ...

    async def prices(self, sales: Sequence[Sale]) -> ExchangePrices: ...


@dataclass(frozen=True, slots=True)
class PreparedSale:
    """A signed sale that was not sent yet, and the least it brings: below that it does not happen."""

    attempt: PreparedAttempt
    least_micros: int


class Trader(Protocol):
    """Sales on a rail's own market, out of the operator's position. `SettlementProvider.submit` hands them over."""

    async def prepare_sale(self, sale: Sale, *, least_micros: int) -> PreparedSale | Retryable:
        """Sign the sale. Call it outside any database transaction, and persist it before it is sent."""
        ...
