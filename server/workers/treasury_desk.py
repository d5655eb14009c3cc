"""The treasury's desk: sells a surplus of one dollar for another when the treasury is out of its bounds.

One sale at a time, on the exchange of the chain, by a transaction of the operator's own in the general lane. It is
persisted like any attempt before it is sent (money rule 1), its cover reserved with it; the watcher books both sides
from their events (rule 17), and a sale that expired is buried only when it is proven dead (rule 3).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from domain.clock import Clock, Entropy
from domain.identity import OPERATOR, AttemptId
from domain.settlement import Rail
from domain.treasury import StoredSale, TreasuryPolicy, Wanted, least_bought, wanted_sale
from providers.base import Holding, ProviderUnavailable, Retryable, SettlementProvider
from providers.market import Exchange, PreparedSale, Sale, Trader
from server.workers.judge import Case, Judge
from storage import attempts, cursors, custody, provider_health, treasury_sales
from storage.attempts import Attempt
from storage.database import Engine

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The parts of a rail that a sale needs."""

    provider: SettlementProvider
    exchange: Exchange
    trader: Trader
    chain: str
    operator_address: str


class TreasuryDesk:
    """Looks at the treasury now and then."""

    def __init__(
        self,
        *,
        engine: Engine,
        market: Market,
        judge: Judge,
        policy: TreasuryPolicy,
        clock: Clock,
        entropy: Entropy,
        interval_seconds: float = 10.0,
    ) -> None:
        self._engine = engine
        self._market = market
        self._judge = judge
        self._policy = policy
        self._rail = Rail(market.provider.rail)
        self._clock = clock
        self._entropy = entropy
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Look every interval until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self.step()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.2)

    async def step(self) -> None:
        """One look: follow the sale that is under way, or begin one that is wanted."""
        async with self._engine.connect() as tx:
            halted = await cursors.halted_reason(tx, self._market.chain)
            if halted or await provider_health.is_paused(tx, self._market.provider.name):
                return
            open_sale = await treasury_sales.under_way(tx)
            holdings = await treasury_sales.holdings(tx, self._rail, self._policy.bounds)
        if open_sale is not None:
            await self._follow(open_sale)
            return
        wanted = wanted_sale(holdings, self._policy)
        if wanted is not None:
            await self._sell(wanted)

    async def _sell(self, wanted: Wanted) -> None:
        sale = Sale(wanted.sell.asset, wanted.buy_asset, wanted.sell.micros)
        try:
            [quoted] = (await self._market.exchange.prices([sale])).buy_micros
        except ProviderUnavailable as fault:
            log.info("treasury.waiting", detail=str(fault)[:200])
            return
        least = least_bought(wanted.sell, quoted or 0, self._policy)
        if least is None:
            log.warning("treasury.market_too_poor", sell=str(wanted.sell), buy=wanted.buy_asset, quoted=quoted)
            return
        prepared = await self._market.trader.prepare_sale(sale, least_micros=least)
        if isinstance(prepared, Retryable):
            log.info("treasury.waiting", detail=prepared.reason[:200])
        else:
            await self._begin(wanted, prepared)

    async def _begin(self, wanted: Wanted, prepared: PreparedSale) -> None:
        """Persist it with its cover, and only then send it. What the answer is, the chain will say."""
        now = self._clock.now()
        attempt = self._attempt(prepared)
        sale = StoredSale(
            id=self._entropy.uuid7(),
            attempt_id=attempt.id,
            sell=wanted.sell,
            buy_asset=wanted.buy_asset,
            least_micros=prepared.least_micros,
        )
        async with self._engine.begin() as tx:
            started = await treasury_sales.start(tx, self._rail, sale, attempt, now=now)
        if not started:
            return
        outcome = await self._market.provider.submit(attempt.payload)
        async with self._engine.begin() as tx:
            await attempts.mark_broadcast(tx, [(attempt.id, getattr(outcome, "reason", "")[:200])], now=now)
        log.info("treasury.sale", sell=str(wanted.sell), buy=wanted.buy_asset, reference=attempt.reference)

    def _attempt(self, prepared: PreparedSale) -> Attempt:
        signed = prepared.attempt
        return Attempt(
            id=AttemptId(self._entropy.uuid7()),
            kind=signed.kind,
            rail=self._rail,
            provider=self._market.provider.name,
            reference=signed.reference,
            payload=signed.payload,
            valid_before=signed.valid_before,
            signed_at=self._clock.now(),
            holder=OPERATOR,
            assets=signed.assets,
        )

    async def _follow(self, sale: StoredSale) -> None:
        """Settlement's own chores hand it over again, and the watcher sees it land. What is left is to bury it."""
        case = await self._case(sale)
        if case is None or self._clock.now() < case.attempt.valid_before:
            return
        doubt = await self._judge.doubt(case)
        if doubt:
            log.info("treasury.unproven", reference=case.attempt.reference, doubt=doubt)
            return
        reason = f"expired unmined, proven at block {case.cursor.number}"
        async with self._engine.begin() as tx:
            await treasury_sales.bury(tx, self._rail, sale, reason=reason, now=self._clock.now())
        log.warning("treasury.expired", reference=case.attempt.reference)

    async def _case(self, sale: StoredSale) -> Case | None:
        """The attempt, with the watcher's place and the operator's custody of the same moment."""
        async with self._engine.connect() as tx:
            await tx.execution_options(isolation_level="REPEATABLE READ")
            cursor = await cursors.read(tx, self._market.chain)
            attempt = await attempts.find(tx, sale.attempt_id)
            key = (OPERATOR, sale.sell.asset)
            position = (await custody.positions(tx, self._rail, [key])).get(key)
        if cursor is None or position is None:
            return None
        return Case(attempt, cursor, {Holding(self._market.operator_address, sale.sell.asset): position.micros})
