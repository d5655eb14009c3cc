"""A house with a bank: the services that consumers use, the worker behind them, and short words for both."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, TypeVar

from domain.bank_accounts import BankDetails
from domain.identity import OPERATOR, ConsumerId
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.routing import RoutingPolicy
from domain.settlement import Rail
from providers.custodian import BankRail
from server.services.bank_accounts import LINK_JOB, BankAccountService, LinkOrder
from server.services.deposits import ChainTerms, DepositOrder, DepositService, DepositSource
from server.services.destinations import Destinations
from server.services.provider_jobs import ProviderJobs
from server.services.rates import ReferenceRates
from server.services.routing import Routing
from server.services.withdrawals import WithdrawalOrder, WithdrawalService, Withdrawn
from server.workers.bank_links import link_handler
from server.workers.bank_rail import BankRailWorker
from server.workers.jobs import JobWorker
from storage import custody, provider_health, transactions
from storage.bank_accounts import BankAccounts
from storage.deposits import Deposit
from storage.proofs import system_accounts
from storage.provider_health import ProviderHealthRow
from storage.sealing import KeyRing
from tests.workers.simulated import SimulatedHouse

DETAILS = BankDetails(
    holder_name="Ann Example",
    bank_name="First Bank",
    line1="1 Main Street",
    line2="",
    city="Boston",
    district="MA",
    postal_code="02201",
    country="US",
    account_number="12340010",
    routing_number="121000248",
)


BankT = TypeVar("BankT", bound=BankRail)


class Branch(Generic[BankT]):
    """What stands behind a counter."""

    def __init__(self, simulated: SimulatedHouse, bank: BankT, ring: KeyRing) -> None:
        self.simulated, self.house, self.bank = simulated, simulated.house, bank
        house = self.house
        self.accounts = BankAccounts(ring)
        parts: dict[str, Any] = {"engine": house.engine, "writer": house.writer}
        chance: dict[str, Any] = {"clock": house.clock, "entropy": house.entropy}
        self.worker = self.new_worker()
        handler = link_handler(engine=house.engine, accounts=self.accounts, **chance)
        self.jobs = JobWorker(engine=house.engine, handlers={LINK_JOB: handler}, clock=house.clock)
        routing = Routing(engine=house.engine, fees=FeeSchedule(), policy=RoutingPolicy(), clock=house.clock)
        self.linking = BankAccountService(**parts, accounts=self.accounts, **chance)
        self.depositing = DepositService(
            **parts, bank_accounts=self.accounts, routing=routing, terms=ChainTerms(31337, {}), **chance
        )
        self.withdrawing = WithdrawalService(
            **parts,
            destinations=Destinations(
                engine=house.engine, jobs=ProviderJobs(engine=house.engine, **chance), clock=house.clock
            ),
            bank_accounts=self.accounts,
            routing=routing,
            rates=ReferenceRates(engine=house.engine, clock=house.clock, max_age=timedelta(hours=1)),
            fees=FeeSchedule(),
            **chance,
        )

    def new_worker(self, *, poll_seconds: float = 10.0) -> BankRailWorker:
        """Another process' worker."""
        house = self.house
        return BankRailWorker(
            engine=house.engine,
            writer=house.writer,
            bank=self.bank,
            accounts=self.accounts,
            clock=house.clock,
            entropy=house.entropy,
            poll_seconds=poll_seconds,
        )

    async def well(self, *, paused: bool = False) -> None:
        """Circle is healthy, as far as requests can see."""
        row = ProviderHealthRow("circle", True, "closed", 5, 1_000_000, "", self.house.clock.now())
        async with self.house.engine.begin() as tx:
            await provider_health.record(tx, row)
            await provider_health.set_paused(tx, "circle", paused=paused)

    async def round(self, *, seconds: float = 0.0, woken: bool = True) -> None:
        """Time passes, on the chain as well, and the worker looks."""
        self.simulated.clock.advance(seconds)
        await self.simulated.block()
        while await self.jobs.step():
            pass
        await self.worker.step(woken=woken)

    async def link(self, consumer: ConsumerId, *, number: str = "12340010") -> uuid.UUID:
        """A linked account, as far as the custodian has come with it."""
        order = LinkOrder(
            consumer=consumer,
            details=replace(DETAILS, account_number=number),
            rail="WIRE",
            caller="consumer",
            request_id=self.request_id(),
        )
        linked = await self.linking.link(order, deadline=self._soon())
        return linked.account.id

    async def linked(self, consumer: ConsumerId) -> uuid.UUID:
        """An account that is ready to be used."""
        account = await self.link(consumer)
        await self.round()
        await self.accept_links()
        await self.round(seconds=10)
        return account

    async def accept_links(self) -> None:
        """The custodian has checked what was linked; one that does so by itself needs no word."""

    async def state_of(self, account: uuid.UUID) -> str:
        async with self.house.engine.connect() as tx:
            found = await self.accounts.find(tx, account)
        assert found is not None
        return found.state

    async def announce(self, consumer: ConsumerId, micros: int = 0, **changes: Any) -> Deposit:
        await self.well()
        order = DepositOrder(
            consumer=consumer,
            amount=Money(Asset.USDC, micros),
            source=DepositSource.BANK,
            speed=None,
            bank_account_id=None,
            caller="consumer",
            request_id=self.request_id(),
        )
        return (await self.depositing.announce(replace(order, **changes), deadline=self._soon())).deposit

    async def withdraw(self, consumer: ConsumerId, account: uuid.UUID, micros: int) -> Withdrawn:
        await self.well()
        order = WithdrawalOrder(
            consumer=consumer,
            amount=Money(Asset.USDC, micros),
            address=None,
            bank_account_id=account,
            memo="rent",
            speed=None,
            caller="consumer",
            request_id=self.request_id(),
        )
        return await self.withdrawing.withdraw(order, deadline=self._soon())

    async def state(self, withdrawn: Withdrawn) -> str:
        async with self.house.engine.connect() as tx:
            found = await transactions.get(tx, withdrawn.recorded.transaction.id)
        assert found.withdrawal is not None
        return found.withdrawal.state

    async def balance(self, consumer: ConsumerId) -> tuple[int, int]:
        [row] = await self.house.execute(
            "SELECT available_micros, held_micros FROM stablecoin_balances WHERE consumer_id = :id AND asset = 'USDC'",
            id=consumer,
        )
        return row.available_micros, row.held_micros

    async def payouts(self) -> list[Any]:
        return await self.house.execute("SELECT * FROM bank_payouts ORDER BY ordered_at, id")

    async def deposits(self) -> list[Any]:
        return await self.house.execute("SELECT * FROM bank_deposits ORDER BY arrived_at, id")

    async def account(self, kind: str) -> int:
        """One of the operator's accounts, in USDC."""
        async with self.house.engine.connect() as tx:
            found = await system_accounts(tx)
        return {str(k): micros for (k, asset), micros in found.items() if asset is Asset.USDC}.get(kind, 0)

    async def standing(self) -> tuple[int, int]:
        """The operator's position at the custodian, and what of it is reserved."""
        async with self.house.engine.connect() as tx:
            found = await custody.positions(tx, Rail.MINT, [(OPERATOR, Asset.USDC)])
        position = found.get((OPERATOR, Asset.USDC))
        return (position.micros, position.reserved_micros) if position else (0, 0)

    def request_id(self) -> str:
        return str(uuid.UUID(bytes=self.house.entropy.token_bytes(16)))

    def _soon(self) -> float:
        return self.house.clock.monotonic() + 60
