"""The counter of the simulated world: swaps and withdrawals, as the API makes them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

from domain.errors import WalletError
from domain.identity import ConsumerId
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.routing import RoutingPolicy
from domain.swaps import SwapPolicy
from providers.market import Exchange
from server.services.destinations import Destinations
from server.services.provider_jobs import ProviderJobs
from server.services.rates import ReferenceRates
from server.services.routing import Routing
from server.services.swap_prices import SwapPrices
from server.services.swaps import SwapOrder, SwapService
from server.services.withdrawals import WithdrawalOrder, WithdrawalService
from server.workers.dex_prices import DexPrices
from storage import destination_checks
from storage.bank_accounts import BankAccounts
from storage.destination_checks import DestinationCheck
from storage.sealing import KeyRing
from tests.workers.house import House

DAY = timedelta(days=1)
DESTINATION = "0x" + "ab" * 20


class Counter:
    """Where consumers of a house change money and take it out."""

    def __init__(self, house: House, exchange: Exchange, ring: KeyRing) -> None:
        self._house, self.ring = house, ring
        self._open = False
        at_hand = ReferenceRates(engine=house.engine, clock=house.clock, max_age=DAY)
        policy = replace(SwapPolicy(), ladder_max_age=DAY, least_micros=1)
        shared: dict[str, Any] = {"engine": house.engine, "clock": house.clock}
        self._prices = DexPrices(**shared, exchange=exchange)
        self._swaps = SwapService(
            **shared,
            writer=house.writer,
            prices=SwapPrices(**shared, rates=at_hand, policy=policy),
            policy=policy,
            entropy=house.entropy,
        )
        jobs = ProviderJobs(**shared, entropy=house.entropy)
        self._withdrawals = WithdrawalService(
            **shared,
            writer=house.writer,
            destinations=Destinations(**shared, jobs=jobs),
            bank_accounts=BankAccounts(ring),
            routing=Routing(**shared, fees=FeeSchedule(), policy=RoutingPolicy()),
            rates=at_hand,
            fees=FeeSchedule(),
            entropy=house.entropy,
        )

    async def swap(self, consumer: ConsumerId, micros: int, *, sell: Asset, buy: Asset) -> str:
        if not self._open:
            # The market is looked at once; prices hold for the night.
            await self._prices.step()
            self._open = True
        try:
            quote = await self._swaps.quote(consumer, Money(sell, micros), buy)
            order = SwapOrder(consumer=consumer, quote_id=quote.id, caller="consumer", request_id=self._request_id())
            await self._swaps.swap(order, deadline=self._soon())
        except WalletError as refusal:
            return f"refused: {refusal.reason}"
        return f"{micros} {sell} for {buy}"

    async def withdraw(self, consumer: ConsumerId, micros: int, asset: Asset) -> str:
        async with self._house.engine.begin() as tx:
            check = DestinationCheck(True, self._house.clock.now())
            await destination_checks.record(tx, asset, DESTINATION, check)
        order = WithdrawalOrder(
            consumer=consumer,
            amount=Money(asset, micros),
            address=DESTINATION,
            bank_account_id=None,
            memo="",
            speed=None,
            caller="consumer",
            request_id=self._request_id(),
        )
        try:
            await self._withdrawals.withdraw(order, deadline=self._soon())
        except WalletError as refusal:
            return f"refused: {refusal.reason}"
        return f"{micros} {asset}"

    def _request_id(self) -> str:
        return str(uuid.UUID(bytes=self._house.entropy.token_bytes(16)))

    def _soon(self) -> float:
        return self._house.clock.monotonic() + 60
