"""Prices on the chain's exchange, kept where requests can see them.

API processes never ask a chain. For each pair of dollar assets this worker keeps a ladder of what the exchange gives
for amounts of several sizes. When it cannot be read the ladder grows old, and what needs it is refused.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import groupby, permutations

import structlog

from domain.clock import Clock
from domain.money import MICROS_PER_UNIT
from domain.swaps import LADDER_UNITS, Ladder, Rung
from providers.base import ProviderUnavailable
from providers.market import Exchange, ExchangePrices, Sale
from storage import dex_ladders, swaps
from storage.database import Engine

log = structlog.get_logger()


class DexPrices:
    """Reads one exchange and writes its ladders."""

    def __init__(self, *, engine: Engine, exchange: Exchange, clock: Clock, interval_seconds: float = 3.0) -> None:
        self._engine = engine
        self._exchange = exchange
        self._clock = clock
        self._interval_seconds = interval_seconds
        pairs = permutations(sorted(exchange.assets), 2)
        self._sales = [Sale(sold, bought, units * MICROS_PER_UNIT) for sold, bought in pairs for units in LADDER_UNITS]

    async def run(self, stop: asyncio.Event) -> None:
        """Read every interval until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self.step()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.2)

    async def step(self) -> None:
        """One look at all pairs."""
        try:
            prices = await self._exchange.prices(self._sales)
        except ProviderUnavailable as fault:
            log.warning("dex_prices.unavailable", detail=str(fault)[:200])
            return
        async with self._engine.begin() as tx:
            await dex_ladders.record(tx, self._ladders(prices))

    def _ladders(self, prices: ExchangePrices) -> list[Ladder]:
        """A pair that the exchange gives nothing for has a ladder without rungs: that is known, and not unknown."""
        answers = zip(self._sales, prices.buy_micros, strict=True)
        return [
            Ladder(
                *pair,
                tuple(Rung(sale.sell_micros, bought) for sale, bought in rungs if bought),
                prices.head.number,
                # The head's own time: a chain that stands still has no present price.
                prices.head.time,
            )
            for pair, rungs in groupby(answers, key=lambda answer: (answer[0].sell_asset, answer[0].buy_asset))
        ]


class ExpiredQuotes:
    """Forgets quotes that nobody took. They are many more than swaps, and nothing refers to them."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        keep: timedelta = timedelta(days=1),
        interval_seconds: float = 600.0,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._keep = keep
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Look every interval until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self.step()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.5)

    async def step(self) -> None:
        async with self._engine.begin() as tx:
            await swaps.forget_expired(tx, before=self._clock.now() - self._keep)
