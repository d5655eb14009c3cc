"""Prices of swaps as a request sees them: from the ladder that workers keep, or from the reference rate.

A price that is missing or too old refuses the call with a reason of its own: guessing would be the operator's loss.
"""

from __future__ import annotations

from domain.clock import Clock
from domain.errors import ProviderUnavailable
from domain.money import Asset, Money
from domain.settlement import Rail
from domain.swaps import Ladder, Price, SwapPolicy, ladder_price, reference_price
from server.services.rates import ReferenceRates
from storage import dex_ladders
from storage.database import Engine, reading


class SwapPrices:
    """Knows what the market gives."""

    def __init__(self, *, engine: Engine, rates: ReferenceRates, policy: SwapPolicy, clock: Clock) -> None:
        self._engine = engine
        self._rates = rates
        self._policy = policy
        self._clock = clock

    async def price(self, sell: Money, buy_asset: Asset) -> Price:
        """The price of an amount now, before any spread."""
        if sell.asset.is_usd and buy_asset.is_usd:
            return ladder_price(await self._ladder(sell.asset, buy_asset), sell)
        rate = await self._rates.eur_usd()
        return reference_price(sell.asset, eur_usd_micros=rate.micros)

    async def _ladder(self, sell_asset: Asset, buy_asset: Asset) -> Ladder:
        async with reading(self._engine) as tx:
            ladder = await dex_ladders.read(tx, sell_asset, buy_asset)
        if ladder is None or self._clock.now() - ladder.read_at > self._policy.ladder_max_age:
            raise ProviderUnavailable(Rail.TEMPO)
        return ladder
