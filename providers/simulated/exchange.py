"""The simulated chain's exchange: a basis point on either side of the dollar, and a depth that ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.money import MICROS_PER_UNIT, Asset
from providers.market import ExchangePrices, Sale
from providers.simulated.reader import SimulatedReader

DEPTH_MICROS: Final = 1_000_000 * MICROS_PER_UNIT


class SimulatedExchange:
    """Prices as the dev chain has them, whatever is traded."""

    assets = frozenset(asset for asset in Asset if asset.is_usd)

    def __init__(self, reader: SimulatedReader) -> None:
        self._reader = reader

    async def prices(self, sales: Sequence[Sale]) -> ExchangePrices:
        head = await self._reader.finalized()
        return ExchangePrices(head, tuple(_bought(sale.sell_micros) for sale in sales))


def _bought(sell_micros: int) -> int | None:
    """By way of a third dollar, as on Tempo: two trades, each a basis point below par."""
    return sell_micros * 9_999 // 10_000 * 9_999 // 10_000 if sell_micros <= DEPTH_MICROS else None
