"""A custodian beside the house's chain, with the workers that use it, moved step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.identity import OPERATOR
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.routing import RoutingPolicy, known_routes
from domain.settlement import Rail
from providers.custodian import CustodyWallet, TransferRail
from providers.simulated import SimulatedCustodian
from server.ledger_writer import LedgerWriter
from server.workers.circle_transactions import CircleTransactions
from server.workers.circle_wallets import CircleWalletPool
from server.workers.custodian_comparison import CustodianComparison
from server.workers.custodian_float import CustodianFloat
from server.workers.failover import Failover, FailoverPace
from server.workers.orders import OrderPace, Orders
from server.workers.repatriation import Repatriation, RepatriationPace
from storage import circle_wallets, custody, provider_health
from storage.database import Engine
from tests.workers.house import UNIT, House

FLOAT = 50 * UNIT
PATIENCE = timedelta(seconds=5)


@dataclass
class SecondRailWorkers:
    """The workers of one process."""

    failover: Failover
    orders: Orders
    repatriation: Repatriation
    float_books: CustodianFloat
    transactions: CircleTransactions
    comparison: CustodianComparison

    @classmethod
    def of(
        cls,
        *,
        engine: Engine,
        writer: LedgerWriter,
        rail: TransferRail,
        clock: Clock,
        entropy: Entropy,
        policy: RoutingPolicy,
        patience: timedelta = PATIENCE,
        orders_at_once: int = 20,
    ) -> SecondRailWorkers:
        orders = Orders(engine=engine, writer=writer, rail=rail, clock=clock, entropy=entropy, pace=OrderPace())
        float_books = CustodianFloat(engine=engine, writer=writer, rail=rail, clock=clock, entropy=entropy)
        return cls(
            failover=Failover(
                engine=engine,
                rail=rail,
                routes=known_routes(FeeSchedule()),
                policy=policy,
                clock=clock,
                entropy=entropy,
                pace=FailoverPace(patience=patience, orders_at_once=orders_at_once),
            ),
            orders=orders,
            repatriation=Repatriation(engine=engine, rail=rail, clock=clock, entropy=entropy, pace=RepatriationPace()),
            float_books=float_books,
            comparison=CustodianComparison(engine=engine, writer=writer, rail=rail, clock=clock, entropy=entropy),
            transactions=CircleTransactions(
                engine=engine,
                writer=writer,
                rail=rail,
                entropy=entropy,
                look_at_order=orders.look_at,
                book_float=float_books.book_incoming,
            ),
        )


@dataclass
class SecondRail:
    """A house's second rail in the test's hands."""

    house: House
    custodian: SimulatedCustodian
    policy: RoutingPolicy = field(default_factory=RoutingPolicy)

    def __post_init__(self) -> None:
        self.workers = self.new_workers()

    def new_workers(self) -> SecondRailWorkers:
        house = self.house
        return SecondRailWorkers.of(
            engine=house.engine,
            writer=house.writer,
            rail=self.custodian,
            clock=house.clock,
            entropy=house.entropy,
            policy=self.policy,
        )

    async def furnish(self, *, floats: dict[Asset, int] | None = None, pool: int = 8) -> None:
        """The operator's wallet with its float, a pool, and open books."""
        house = self.house
        wallets = CircleWalletPool(
            engine=house.engine, rail=self.custodian, clock=house.clock, entropy=house.entropy, target=pool
        )
        await wallets.step()
        wallet = await self.wallet(OPERATOR)
        assert wallet is not None
        for asset, micros in (floats or {Asset.USDC: FLOAT, Asset.EURC: FLOAT}).items():
            self.custodian.fund(wallet, Money(asset, micros))
        self.custodian.hints.clear()
        assert await self.workers.float_books.open()

    async def wallet(self, holder: UUID) -> CustodyWallet | None:
        async with self.house.engine.connect() as tx:
            found = (await circle_wallets.of_holders(tx, [holder], chain=self.custodian.chain)).get(holder)
        return CustodyWallet(found.reference, found.address) if found else None

    async def health(self, *, tempo: bool, circle: bool = True) -> None:
        """What the probes last saw."""
        for name, healthy in (("tempo", tempo), ("circle", circle)):
            row = provider_health.ProviderHealthRow(
                provider=name,
                healthy=healthy,
                breaker="closed" if healthy else "open",
                latency_ms=1,
                success_rate_micros=1_000_000,
                detail="",
                checked_at=self.house.clock.now(),
            )
            async with self.house.engine.begin() as tx:
                await provider_health.record(tx, row)

    async def stands(self, holder: UUID, asset: Asset = Asset.USDC) -> tuple[int, int]:
        """A holder's position there: what stands, and how much of it is reserved."""
        async with self.house.engine.connect() as tx:
            found = (await custody.positions(tx, Rail.CIRCLE, [(holder, asset)])).get((holder, asset))
        return (found.micros, found.reserved_micros) if found else (0, 0)

    async def orders(self) -> list[Any]:
        return await self.house.execute(
            "SELECT state, tries, reference, last_error FROM settlement_attempts WHERE rail = 'circle' "
            "ORDER BY signed_at, id"
        )

    async def item_count(self, purpose: str) -> int:
        rows = await self.house.execute("SELECT 1 FROM settlement_items WHERE purpose = :purpose", purpose=purpose)
        return len(rows)
