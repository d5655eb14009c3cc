"""A house on the simulated chain, moved step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from domain.identity import ConsumerId
from domain.money import Asset
from domain.settlement import Rail
from providers.base import Holding
from providers.simulated import SimulatedChain, SimulatedConfig, SimulatedRail, connect
from providers.simulated.state import UNLIMITED
from server.workers.settlement import SettlementPace
from storage import custody
from tests.providers.worlds import ManualClock, SeededEntropy
from tests.workers.house import UNIT, House, house_of

BLOCK_SECONDS = 0.5
WINDOW = timedelta(seconds=25)


@dataclass
class SimulatedHouse:
    """The house with the chain and the time in the test's hands."""

    house: House
    rail: SimulatedRail
    clock: ManualClock

    @property
    def chain(self) -> SimulatedChain:
        return self.rail.chain

    async def block(self, count: int = 1) -> None:
        """Let blocks be made, and the watcher read them."""
        for _ in range(count):
            self.clock.advance(BLOCK_SECONDS)
            self.chain.mine()
        while await self.house.watcher.step():
            pass

    async def work(self, rounds: int = 1) -> None:
        """Rounds of everything: chores, settlement, a block."""
        for _ in range(rounds):
            await self.house.settlement.chores()
            await self.house.settlement.settle_round()
            await self.block()

    async def consumers(self, count: int, *, micros: int = 100 * UNIT, active: bool = True) -> list[ConsumerId]:
        """Consumers with money on the chain and in the books, whose allowance stands."""
        consumers = await self.house.open_wallets(count)
        for consumer in consumers:
            await self.house.fund(consumer, micros)
        await self.block()
        if active:
            await self.activate(*consumers)
        return consumers

    async def activate(self, *consumers: UUID) -> None:
        """Straight on the chain and in the books, for tests that are about something else."""
        for consumer in consumers:
            found = await self.house.address(consumer)
            for asset in Asset:
                allowance = Holding(found.address, asset)
                self.chain.state.allowances.set(allowance, UNLIMITED, at_block=self.chain.height)
        async with self.house.engine.begin() as tx:
            keys = [(consumer, asset) for consumer in consumers for asset in Asset]
            await custody.mark_activated(tx, Rail.TEMPO, keys)

    def memos(self) -> dict[UUID, int]:
        """How often each item stands on the chain."""
        counts: dict[UUID, int] = {}
        for number in range(self.chain.height + 1):
            for transfer in self.chain.block(number).transfers:
                if transfer.item_id is not None:
                    counts[transfer.item_id] = counts.get(transfer.item_id, 0) + 1
        return counts


@asynccontextmanager
async def simulated_house(
    url: str, *, clock: ManualClock, entropy: SeededEntropy, pace: SettlementPace | None = None
) -> AsyncIterator[SimulatedHouse]:
    """Books and chain of a test, with the watcher at the chain's first block."""
    config = SimulatedConfig(seed=b"house", name="tempo", window=WINDOW)
    rail = connect(config, clock=clock, entropy=entropy)
    async with house_of(url, rail, clock=clock, entropy=entropy, pace=pace, batch_time=clock.now) as house:
        simulated = SimulatedHouse(house, rail, clock)
        await simulated.block()
        yield simulated
