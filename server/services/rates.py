"""The reference rate between euro and dollar, kept at hand for the calls that decide on it.

A limit is counted in dollars, so euros cannot be judged without a rate. One that is missing or too old refuses the call
with a reason of its own: guessing would be failing open.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from domain.clock import Clock
from domain.errors import RateTooOld
from domain.money import Money, usd_micros
from storage import rates
from storage.database import Engine, reading
from storage.rates import EUR_USD, Rate

# A new rate counts from then on at the latest, as SetReferenceRate promises. Its age is judged at each use.
REREAD_SECONDS = 2.0


class ReferenceRates:
    """Values money in dollars. One for each process."""

    def __init__(self, *, engine: Engine, clock: Clock, max_age: timedelta) -> None:
        self._engine = engine
        self._clock = clock
        self._max_age = max_age
        self._rate: Rate | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def usd_micros(self, money: Money) -> int:
        """The value in dollar micros, rounded up; raises `RateTooOld` where a rate is needed and there is none."""
        if money.asset.is_usd:
            return money.micros
        return usd_micros(money, eur_usd_micros=(await self.eur_usd()).micros)

    async def eur_usd(self) -> Rate:
        """The price of one euro, if it may still be used; raises `RateTooOld`."""
        async with self._reading:
            if self._clock.monotonic() - self._read_at >= REREAD_SECONDS:
                async with reading(self._engine) as tx:
                    self._rate = await rates.read(tx, EUR_USD)
                self._read_at = self._clock.monotonic()
        rate = self._rate
        if rate is None or self._clock.now() - rate.quoted_at > self._max_age:
            raise RateTooOld(rate.quoted_at if rate else None)
        return rate
