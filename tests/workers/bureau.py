"""A bureau de change over a house: quotes and swaps as the API makes them, in the market of the house's own chain."""

from __future__ import annotations

import uuid
from datetime import timedelta

from domain.identity import ConsumerId
from domain.money import Asset, Money
from domain.swaps import SwapPolicy, SwapQuote
from providers.market import Exchange
from server.services.rates import ReferenceRates
from server.services.swap_prices import SwapPrices
from server.services.swaps import SwapOrder, Swapped, SwapService
from server.workers.dex_prices import DexPrices
from storage import rates
from storage.rates import EUR_USD, Rate
from tests.workers.house import House

HOUR = timedelta(hours=1)


class Bureau:
    """Where a house's consumers change their money."""

    def __init__(self, house: House, exchange: Exchange) -> None:
        self._house = house
        engine, clock, policy = house.engine, house.clock, SwapPolicy()
        at_hand = ReferenceRates(engine=engine, clock=clock, max_age=HOUR)
        self.prices = DexPrices(engine=engine, exchange=exchange, clock=clock)
        self.service = SwapService(
            engine=engine,
            writer=house.writer,
            prices=SwapPrices(engine=engine, rates=at_hand, policy=policy, clock=clock),
            policy=policy,
            clock=clock,
            entropy=house.entropy,
        )

    async def swap(
        self, consumer: ConsumerId, micros: int, *, sell: Asset = Asset.USDC, buy: Asset = Asset.USDT
    ) -> Swapped:
        """A quote, taken at once, in a market that was just looked at."""
        house = self._house
        await self.prices.step()
        async with house.engine.begin() as tx:
            now = house.clock.now()
            await rates.set_rate(tx, EUR_USD, Rate(1_080_000, now), source="test", now=now)
        return await self.take(await self.service.quote(consumer, Money(sell, micros), buy))

    async def take(self, quote: SwapQuote) -> Swapped:
        """The quote, taken once."""
        house = self._house
        request_id = str(uuid.UUID(bytes=house.entropy.token_bytes(16)))
        order = SwapOrder(consumer=quote.consumer_id, quote_id=quote.id, caller="consumer", request_id=request_id)
        return await self.service.swap(order, deadline=house.clock.monotonic() + 60)
