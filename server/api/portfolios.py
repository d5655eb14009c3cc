"""Portfolios: everything a wallet holds, what it is worth, where it stands, and how it changed in a day."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from domain.clock import Clock
from domain.errors import ConsumerNotFound, RateTooOld
from domain.money import Asset, Money, worth_usd_micros
from monay.wallet.v1 import money_pb2 as pb
from server.api.access import Call
from server.api.balances import balance
from server.api.convert import timestamp
from server.balance_reader import BalanceReader
from server.services.rates import ReferenceRates
from storage import custody, portfolios
from storage.balances import BalanceReading
from storage.custody import Standing
from storage.database import Engine, Tx, reading
from storage.rates import Rate

CHANGE_SPAN = timedelta(hours=24)


class Portfolios:
    """GetPortfolio."""

    def __init__(self, *, engine: Engine, reader: BalanceReader, rates: ReferenceRates, clock: Clock) -> None:
        self._engine = engine
        self._reader = reader
        self._rates = rates
        self._clock = clock

    async def get_portfolio(self, _request: pb.GetPortfolioRequest, call: Call) -> pb.GetPortfolioResponse:
        found = await self._reader.of_consumer(call.consumer_id)
        if not found:
            raise ConsumerNotFound(call.consumer_id)
        readings = list(found.values())
        async with reading(self._engine) as tx:
            earlier = await self._earlier(tx, call.consumer_id, readings)
            standing = await custody.standing(tx, [call.consumer_id])
        rate = await self._rate(readings, earlier)
        price = rate.micros if rate is not None else 0
        assets = [_asset(one, earlier.get(one.asset, 0), standing, price) for one in readings]
        return pb.GetPortfolioResponse(
            assets=assets,
            total_usd_micros=sum(one.value_usd_micros for one in assets),
            change_usd_micros=sum(one.change_usd_micros for one in assets),
            eur_usd_micros=price,
            rate_time=timestamp(rate.quoted_at) if rate is not None else None,
        )

    async def _earlier(self, tx: Tx, consumer: UUID, readings: Collection[BalanceReading]) -> dict[Asset, int]:
        versions = {one.asset: one.version for one in readings if one.version}
        return await portfolios.held_before(tx, consumer, versions, self._clock.now() - CHANGE_SPAN)

    async def _rate(self, readings: Collection[BalanceReading], earlier: Mapping[Asset, int]) -> Rate | None:
        """The price of a euro. A wallet without any can do without it."""
        euros = [_held(one) for one in readings if not one.asset.is_usd]
        euros += [micros for asset, micros in earlier.items() if not asset.is_usd]
        try:
            return await self._rates.eur_usd()
        except RateTooOld:
            if any(euros):
                raise
            return None


def _held(found: BalanceReading) -> int:
    return found.available_micros + found.held_micros


def _asset(found: BalanceReading, earlier: int, standing: Sequence[Standing], price: int) -> pb.PortfolioAsset:
    """One asset. What the rate did in a day is left out of the change: both ends are valued at today's."""
    value = worth_usd_micros(Money(found.asset, _held(found)), eur_usd_micros=price)
    before = worth_usd_micros(Money(found.asset, earlier), eur_usd_micros=price)
    return pb.PortfolioAsset(
        balance=balance(found),
        value_usd_micros=value,
        change_usd_micros=value - before,
        positions=[pb.Position(rail=one.rail, micros=one.micros) for one in standing if one.asset is found.asset],
    )
