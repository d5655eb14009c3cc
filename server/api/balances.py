"""Balances: what a wallet holds, now and whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from domain.clock import Clock
from domain.errors import ConsumerNotFound
from domain.money import Asset
from monay.wallet.v1 import money_pb2 as pb
from server.api.access import Call
from server.api.convert import timestamp
from server.balance_feed import BalanceFeed
from server.balance_reader import BalanceReader
from storage.balances import BalanceReading

# The contract promises a sign of life every 30 seconds.
HEARTBEAT_SECONDS = 20.0


class Balances:
    """GetBalance, WatchBalances."""

    def __init__(self, *, reader: BalanceReader, feed: BalanceFeed, clock: Clock) -> None:
        self._reader = reader
        self._feed = feed
        self._clock = clock

    async def get_balance(self, request: pb.GetBalanceRequest, call: Call) -> pb.GetBalanceResponse:
        found = await self._reader.of_consumer(call.consumer_id)
        if not found:
            raise ConsumerNotFound(call.consumer_id)
        assets = [Asset(request.asset)] if request.asset else list(Asset)
        return pb.GetBalanceResponse(balances=[balance(found[asset]) for asset in assets])

    async def watch_balances(
        self, _request: pb.WatchBalancesRequest, call: Call
    ) -> AsyncIterator[pb.WatchBalancesResponse]:
        async with self._feed.watch(call.consumer_id) as watch:
            snapshot = pb.BalanceSnapshot(balances=[balance(found) for found in await watch.next()])
            yield pb.WatchBalancesResponse(snapshot=snapshot)
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        news = await watch.next()
                except TimeoutError:
                    yield pb.WatchBalancesResponse(heartbeat=pb.Heartbeat(time=timestamp(self._clock.now())))
                    continue
                for found in news:
                    yield pb.WatchBalancesResponse(update=balance(found))


def balance(found: BalanceReading) -> pb.Balance:
    """A balance as it was read. One that never held anything has no time of change."""
    return pb.Balance(
        asset=found.asset,
        available_micros=found.available_micros,
        held_micros=found.held_micros,
        settling_micros=found.settling_micros,
        version=found.version,
        change_time=timestamp(found.changed_at) if found.version else None,
    )
