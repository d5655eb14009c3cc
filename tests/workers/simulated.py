"""A house on the simulated chain, moved step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from domain.commands import Command, NewItem
from domain.identity import OPERATOR, ConsumerId, ItemId, TransactionId
from domain.ledger_state import Applied
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account
from domain.settlement import Rail
from providers.base import Holding, Movement, Preparation, Retryable, TransferLog, memo_of
from providers.simulated import SimulatedChain, SimulatedConfig, SimulatedRail, connect
from providers.simulated.faults import Step
from providers.simulated.state import OUTSIDE_ADDRESS, UNLIMITED
from providers.simulated.transactions import SimulatedTransaction, TransferCall
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

    def transfers(self) -> list[TransferLog]:
        """Everything that moved on the chain, in its order."""
        return [log for number in range(self.chain.height + 1) for log in self.chain.block(number).transfers]

    def memos(self) -> dict[UUID, int]:
        """How often each item stands on the chain."""
        return dict(Counter(log.item_id for log in self.transfers() if log.item_id is not None))

    async def stands(self, holder: UUID, asset: Asset = Asset.USDC) -> tuple[int, int]:
        """A holder's position: what stands there, and how much of it is reserved for what is in flight."""
        position = await self.house.position(holder, asset)
        return (position.micros, position.reserved_micros) if position else (0, 0)

    async def attempts(self) -> list[str]:
        """The states of all attempts, the oldest first."""
        rows = await self.house.execute("SELECT state FROM settlement_attempts ORDER BY signed_at, id")
        return [row.state for row in rows]

    async def operator_pays(self, consumer: UUID, micros: int) -> ItemId:
        """Money from the float, as after a bank deposit: treasury to consumer, and an item of the operator's."""
        item = NewItem(
            id=ItemId(self.house.entropy.uuid7()), sender=OPERATOR, recipient=consumer, asset=Asset.USDC, micros=micros
        )
        transaction = Transaction(
            id=TransactionId(self.house.entropy.uuid7()),
            kind=TransactionKind.ADJUSTMENT,
            consumer_id=consumer,
            counterparty_id=None,
            asset=Asset.USDC,
            micros=micros,
        )
        posting = Posting(operator_account(AccountKind.TREASURY), available(consumer), Asset.USDC, micros)
        outcome = await self.house.writer.submit(
            Command(transactions=(transaction,), postings=((posting,),), items=(item,))
        )
        assert isinstance(outcome, Applied), outcome
        return item.id

    # --- behind the workers' backs ------------------------------------------------------------------------------------

    async def move_by_hand(self, sender: UUID, recipient: UUID, micros: int, *, memo: UUID | None = None) -> None:
        """A movement between consumers that no item asked for, by somebody who has the keys."""
        source, destination = await self.house.address(sender), await self.house.address(recipient)
        named = memo_of(memo) if memo else None
        call = TransferCall(Asset.USDC, source.address, destination.address, micros, named)
        self._send(self.rail.signer.operator_address, call)

    async def pay_from_outside(self, recipient: UUID, micros: int, *, memo: UUID) -> None:
        """A payment from outside that bears an item's memo."""
        destination = (await self.house.address(recipient)).address
        self._send(OUTSIDE_ADDRESS, TransferCall(Asset.USDC, OUTSIDE_ADDRESS, destination, micros, memo_of(memo)))

    async def move_operators(self, micros: int, *, to: str) -> None:
        """Float that its owner moves."""
        own = self.rail.signer.operator_address
        self._send(own, TransferCall(Asset.USDC, own, to, micros))

    def _send(self, sender: str, call: TransferCall) -> None:
        valid_before = self.clock.now() + timedelta(minutes=1)
        self.chain.submit(SimulatedTransaction(sender, None, valid_before, transfers=(call,)).encode())

    # --- faults -------------------------------------------------------------------------------------------------------

    def crash_at(self, step: Step) -> None:
        """Kill whoever comes to this step next, once."""

        def at_step(reached: Step) -> None:
            if reached is step:
                self.chain.faults.at_step = lambda _: None
                raise RuntimeError(f"killed at {step}")

        self.chain.faults.at_step = at_step

    def during_the_next_preparation(self, happens: Callable[[], Awaitable[None]]) -> None:
        """Something happens between a claim and the signature that it leads to."""
        self._around_the_next_preparation(before=happens)

    def after_the_next_preparation(self, happens: Callable[[], Awaitable[None]]) -> None:
        """Something happens between a simulation's answer and what is made of it."""
        self._around_the_next_preparation(after=happens)

    def _around_the_next_preparation(
        self, *, before: Callable[[], Awaitable[None]] | None = None, after: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        prepare = self.rail.provider.prepare

        async def interrupted(movements: Sequence[Movement]) -> Preparation | Retryable:
            self.rail.provider.prepare = prepare  # type: ignore[method-assign]
            if before is not None:
                await before()
            answer = await prepare(movements)
            if after is not None:
                await after()
            return answer

        self.rail.provider.prepare = interrupted  # type: ignore[method-assign]


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
