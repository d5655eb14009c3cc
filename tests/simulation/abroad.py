"""The second rail of the simulated world: a custodian that loses answers, takes its time, fails late, tells twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from domain.identity import OPERATOR
from domain.money import Asset, Money
from domain.routing import RoutingPolicy
from providers.base import ProviderUnavailable
from providers.custodian import CustodyWallet, OrderState
from providers.simulated import SimulatedCustodian
from server.workers.circle_wallets import CircleWalletPool
from storage import circle_wallets, provider_health
from storage.provider_health import ProviderHealthRow
from tests.simulation.process import Process
from tests.workers.house import UNIT, House
from tests.workers.second_rail import SecondRailWorkers

FLOAT = 12 * UNIT
POOL = 3
PATIENCE = timedelta(seconds=1)
DROPPED, TOLD_AGAIN = 0.1, 0.3
"""Of the webhooks that are due."""

NEXT_STATES = {
    OrderState.PENDING: ([OrderState.CONFIRMED, OrderState.COMPLETE, OrderState.FAILED], [3, 4, 2]),
    OrderState.CONFIRMED: ([OrderState.COMPLETE, OrderState.FAILED, OrderState.UNRECOGNISED], [6, 2, 1]),
    OrderState.UNRECOGNISED: ([OrderState.COMPLETE, OrderState.FAILED], [2, 1]),
}


@dataclass
class Abroad:
    """What can happen at the custodian, and what the processes do there."""

    house: House
    custodian: SimulatedCustodian
    chance: random.Random
    tempo_is_well: Callable[[], bool]

    def workers_of(self, process: Process) -> SecondRailWorkers:
        """The workers of one process, which sees the custodian through its own points."""
        return SecondRailWorkers.of(
            engine=process.engine,
            writer=process.writer,
            rail=process.sees(self.custodian),
            clock=self.house.clock,
            entropy=self.house.entropy,
            policy=RoutingPolicy(),
            patience=PATIENCE,
            orders_at_once=6,
        )

    async def furnish(self, workers: SecondRailWorkers) -> None:
        """Wallets made ahead, fewer than there are consumers; the operator's with its float; open books."""
        house = self.house
        pool = CircleWalletPool(
            engine=house.engine, rail=self.custodian, clock=house.clock, entropy=house.entropy, target=POOL
        )
        await pool.step()
        async with house.engine.connect() as tx:
            [own] = (await circle_wallets.of_holders(tx, [OPERATOR], chain=self.custodian.chain)).values()
        self.custodian.fund(CustodyWallet(own.reference, own.address), Money(Asset.USDC, FLOAT))
        self.custodian.hints.clear()
        await workers.float_books.open()
        self.pool = pool

    # --- what the processes do ----------------------------------------------------------------------------------------

    async def probe(self, *, honest: bool = False) -> None:
        """What the probes say of both. Now and then a probe fails though all is well, or the other way round."""
        lies = not honest and self.chance.random() < 0.2
        healthy = {"tempo": self.tempo_is_well() != lies, "circle": not self.custodian.faults.unreachable}
        async with self.house.engine.begin() as tx:
            for name, well in healthy.items():
                row = ProviderHealthRow(name, well, "closed", 1, 1_000_000, "", self.house.clock.now())
                await provider_health.record(tx, row)

    async def told(self, workers: SecondRailWorkers) -> str:
        """One webhook arrives: any of those that are due, perhaps not for the last time."""
        hints = self.custodian.hints
        if not hints:
            return "nothing"
        number = self.chance.randrange(len(hints))
        hint = hints[number]
        if self.chance.random() >= TOLD_AGAIN:
            del hints[number]
        if self.chance.random() < DROPPED:
            return "dropped"
        try:
            return f"known: {await workers.transactions.look(hint.reference)}"
        except ProviderUnavailable:
            return "no answer"

    # --- what happens at the custodian --------------------------------------------------------------------------------

    def move_on(self) -> str:
        """One order goes on, or ends."""
        orders = self.custodian.under_way()
        if not orders or self.custodian.faults.stuck:
            return "nothing"
        order = self.chance.choice(orders)
        states, weights = NEXT_STATES[order.state]
        [state] = self.chance.choices(states, weights)
        self.custodian.advance(order, state, reason="on purpose" if state is OrderState.FAILED else "")
        return str(state)

    def fault(self) -> str:
        """Something goes wrong there."""
        faults = self.custodian.faults
        kind = self.chance.choice(["lose", "lose", "drop", "throttle", "unlisted", "stuck", "cut", "mend", "mend"])
        if kind == "lose":
            faults.lose_answers = self.chance.randint(1, 3)
            faults.unlisted = self.chance.random() < 0.5
        elif kind == "drop":
            faults.drop_orders = self.chance.randint(1, 2)
        elif kind == "throttle":
            faults.throttle = self.chance.randint(1, 3)
        elif kind == "unlisted":
            faults.unlisted = True
        elif kind == "stuck":
            faults.stuck = True
        elif kind == "cut":
            faults.unreachable = True
        else:
            self.mend()
        return kind

    def mend(self) -> None:
        faults = self.custodian.faults
        faults.lose_answers = faults.drop_orders = faults.throttle = 0
        faults.unlisted = faults.stuck = faults.unreachable = False

    async def is_needed(self) -> bool:
        """Whether anything moves or stands there that is not the operator's."""
        rows = await self.house.execute(
            "SELECT 1 FROM settlement_items WHERE rail = 'circle' AND state NOT IN ('CONFIRMED', 'FAILED') "
            "UNION ALL SELECT 1 FROM custody_positions WHERE rail = 'circle' AND micros > 0 AND holder_id <> :operator",
            operator=OPERATOR,
        )
        return bool(rows)

    async def one_calm_round(self, workers: SecondRailWorkers) -> None:
        """Everything is answered and completed; positions come home."""
        await self.probe(honest=True)
        await workers.orders.step()
        self.custodian.complete_all()
        self.custodian.hints.clear()
        await workers.failover.step()
        await workers.repatriation.step()
