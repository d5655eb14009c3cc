"""A small world with a long night: few consumers, two worker processes, a simulated chain, and everything going wrong.

One seed decides everything: what happens next, how time passes, who dies at which await, what the network loses. Only
one thing ever waits for the database at a time, so the event loop has no choice left to make either, and a seed replays
to the same trace, byte by byte.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from domain.commands import Command, ItemTransition
from domain.identity import ConsumerId, ItemId
from domain.ledger_state import Applied
from domain.money import Asset
from domain.settlement import ItemState, Rail
from providers.base import Holding, ProviderUnavailable, RefusalReason
from providers.simulated import SimulatedChain, SimulatedCustodian, SimulatedRail
from providers.simulated.state import UNLIMITED, TokenState
from server.workers.bank_rail import BankRailWorker
from server.workers.settlement import SettlementPace, SettlementWorker
from server.workers.watcher import Watcher
from storage import custody
from tests.simulation.abroad import Abroad
from tests.simulation.bank import Bank
from tests.simulation.chance import SimulatedClock
from tests.simulation.counter import DESTINATION, Counter
from tests.simulation.process import Crash, Process
from tests.workers.house import UNIT, House, payment
from tests.workers.second_rail import SecondRailWorkers

ASSETS = (Asset.USDC, Asset.USDT)
CONSUMERS = 5
PACE = SettlementPace(groups_per_round=2)
CRASH_CHANCE, OTHERS_CHANCE, STALL_CHANCE = 0.015, 0.05, 0.2
SENDERS = (5, 3, 1, 1, 1)
"""How often each consumer pays, in proportion."""

WEIGHTS = {
    "pay": 10,
    "deposit": 2,
    "odd_deposit": 1,
    "swap": 2,
    "withdraw": 1,
    "mine": 9,
    "watch": 8,
    "settle": 11,
    "chores": 5,
    "sweep": 1,
    "fault": 4,
    "policy": 2,
    "sleep": 2,
    "reroute": 3,
    "order": 5,
    "custody": 5,
    "told": 2,
    "repatriate": 4,
    "custodian_fault": 1,
}
"""What happens, and how often in proportion."""

OUTAGE_WEIGHTS = {
    "pay": 10,
    "swap": 1,
    "withdraw": 1,
    "mine": 4,
    "watch": 2,
    "settle": 5,
    "chores": 3,
    "policy": 1,
    "sleep": 1,
    "reroute": 11,
    "order": 11,
    "custody": 11,
    "told": 4,
    "repatriate": 1,
    "custodian_fault": 3,
}
"""The same while the chain is away for longer."""

BANK_WEIGHTS = {"pay_out": 5, "bank_round": 11, "bank_moves": 10}
"""Besides, in the worlds that have a bank."""

OUTAGE_BEGINS, OUTAGE_ENDS = 0.08, 0.06

Action = Callable[[], Coroutine[Any, Any, Any]]


class WatchedState(TokenState):
    """Remembers why transactions reverted: never for want of cover."""

    def __init__(self, state: TokenState) -> None:
        self.__dict__.update(state.__dict__)
        self.reverts: list[RefusalReason] = []

    def execute(self, calls: Any, sender: str, *, at_block: int) -> bool:
        self.reverts += [reason for reason in self.rehearse(calls, sender) if reason is not None][:1]
        return super().execute(calls, sender, at_block=at_block)


@dataclass(eq=False)
class Worker:
    """One process with its workers."""

    process: Process
    settlement: SettlementWorker
    watcher: Watcher
    second: SecondRailWorkers
    bank: BankRailWorker | None


@dataclass
class World:
    """Everything, and the dice."""

    house: House
    rail: SimulatedRail
    custodian: SimulatedCustodian
    counter: Counter
    clock: SimulatedClock
    chance: random.Random
    trace: list[str] = field(default_factory=list)
    consumers: list[ConsumerId] = field(default_factory=list)
    paid: list[ItemId] = field(default_factory=list)
    """The transfers' items, in the order in which the ledger took them."""
    retried: set[UUID] = field(default_factory=set)
    """Items that were BLOCKED: they lost their place in the order."""
    calm: bool = True
    """While it is, nobody dies and nothing is lost."""
    outage: bool = False
    """The chain is away, and stays away for a while."""

    def __post_init__(self) -> None:
        self.state = WatchedState(self.chain.state)
        self.chain.state = self.state
        self.abroad = Abroad(self.house, self.custodian, self.chance, self._tempo_is_well)
        self.bank: Bank | None = None
        self.workers = [self._start(f"w{number}") for number in range(2)]
        self._acting_inside = False

    @property
    def chain(self) -> SimulatedChain:
        return self.rail.chain

    def note(self, *what: object) -> None:
        self.trace.append(" ".join(str(part) for part in what))

    def _start(self, name: str) -> Worker:
        process = Process(name, self.house.engine, self.house.writer, self.rail, self._at_point)
        settlement, watcher = self.house.new_settlement_worker(process), self.house.new_watcher(process)
        bank = self.bank.worker_of(process) if self.bank is not None else None
        return Worker(process, settlement, watcher, self.abroad.workers_of(process), bank)

    async def open_bank(self) -> None:
        """A bank for this world, with an account of the first consumer's."""
        self.bank = Bank(self.house, self, self.chance, self.counter.ring)
        await self.bank.open(self.consumers[0])
        self.workers = [self._start(worker.process.name) for worker in self.workers]

    async def block(self) -> None:
        self.chain.mine()
        while await self.workers[0].watcher.step():
            pass

    def _tempo_is_well(self) -> bool:
        return not (self.chain.faults.halted or self.chain.faults.unreachable)

    async def _at_point(self, point: str, others_may_act: bool) -> bool:
        """Death, or somebody else's turn."""
        if self.calm:
            return False
        if self.chance.random() < CRASH_CHANCE:
            self.note("crash at", point)
            return True
        if others_may_act and not self._acting_inside and self.chance.random() < OTHERS_CHANCE:
            await self._let_others_act(point)
        return False

    async def _let_others_act(self, point: str) -> None:
        """One more action in the middle of another one. It is nobody's child: a crash here does not touch it."""
        self.note("meanwhile, at", point)
        self._acting_inside = True
        inside = asyncio.create_task(self.stall(point) if self.chance.random() < STALL_CHANCE else self.act())
        try:
            await asyncio.shield(inside)
        finally:
            if not inside.done():
                await asyncio.wait([inside])
            self._acting_inside = False

    async def stall(self, point: str) -> None:
        """The process sleeps through its lease, and the other one takes over what it held."""
        others = [worker for worker in self.workers if not point.startswith(worker.process.name)] or self.workers
        self.clock.advance(PACE.lease.total_seconds() + 1)
        self.chain.mine()
        for step in (others[0].settlement.chores, others[0].settlement.settle_round):
            self.note("stalled past its lease")
            await self.perform(partial(self._of, others[0], step))

    # --- what can happen ----------------------------------------------------------------------------------------------

    async def act(self) -> None:
        """The next thing that happens."""
        if self.chance.random() < (OUTAGE_ENDS if self.outage else OUTAGE_BEGINS):
            await self.perform(self.turn)
        often = (OUTAGE_WEIGHTS if self.outage else WEIGHTS) | (BANK_WEIGHTS if self.bank is not None else {})
        [name] = self.chance.choices(list(often), list(often.values()))
        action: Action = getattr(self, name)
        await self.perform(action)

    async def perform(self, action: Action) -> None:
        try:
            done = await action()
        except BaseException as error:
            if not _is_crash(error):
                raise
            done = "crashed"
        self.note(getattr(action, "__name__", "step"), "" if done is None else done)

    async def activate(self, consumers: Sequence[ConsumerId]) -> None:
        """Allowances that were granted long ago."""
        for consumer in consumers:
            address = (await self.house.address(consumer)).address
            for asset in ASSETS:
                self.state.allowances.set(Holding(address, asset), UNLIMITED, at_block=self.chain.height)
        async with self.house.engine.begin() as tx:
            keys = [(consumer, asset) for consumer in consumers for asset in ASSETS]
            await custody.mark_activated(tx, Rail.TEMPO, keys)

    async def pay(self) -> None:
        """One to three payments in a row, often by the same consumer."""
        for _ in range(self.chance.randint(1, 3)):
            self.note("pay", await self._pay_once())

    async def _pay_once(self) -> str:
        [sender] = self.chance.choices(self.consumers, SENDERS)
        recipient = self.chance.choice([consumer for consumer in self.consumers if consumer != sender])
        [asset] = self.chance.choices(ASSETS, [3, 1])
        available = await self.house.available(sender, asset)
        micros = self.chance.choice([UNIT, 3 * UNIT, max(1, available - 100), max(1, available // 2)])
        command = payment(self.house.entropy, sender, recipient, micros, asset=asset)
        outcome = await self.house.writer.submit(command)
        if not isinstance(outcome, Applied):
            return f"refused: {outcome.error.reason}"
        self.paid.append(command.items[0].id)
        return f"{self.consumers.index(sender)} -> {self.consumers.index(recipient)}: {micros} {asset}"

    async def deposit(self) -> str:
        consumer, asset = self.chance.choice(self.consumers), self.chance.choice(ASSETS)
        await self.house.fund(consumer, self.chance.randint(1, 8) * UNIT, asset)
        return f"{self.consumers.index(consumer)} {asset}"

    async def odd_deposit(self) -> str:
        """To the operator, or to an address of the pool that nobody has yet."""
        own = self.rail.signer.operator_address
        [unassigned] = await self.rail.signer.derive_addresses(15, 1)
        address = self.chance.choice([own, unassigned])
        await self.rail.faucet.fund(address, self.chance.choice(ASSETS), UNIT)
        return "operator" if address == own else "unassigned"

    async def mine(self) -> int:
        for _ in range(self.chance.randint(1, 3)):
            self.clock.advance(0.5)
            self.chain.mine()
        return self.chain.height

    async def watch(self) -> str:
        worker = self._worker()
        try:
            return f"behind: {await self._of(worker, worker.watcher.step)}"
        except ProviderUnavailable:
            return "no answer"

    async def settle(self) -> str:
        worker = self._worker()
        return f"{await self._of(worker, worker.settlement.settle_round)} items"

    async def chores(self) -> None:
        worker = self._worker()
        await self._of(worker, worker.settlement.chores)

    def _worker(self) -> Worker:
        return self.chance.choice(self.workers)

    async def _of(self, worker: Worker, step: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """A step of that process; when it dies, a new one takes its place."""
        try:
            return await step()
        except BaseException as error:
            if not _is_crash(error):
                raise
            if worker in self.workers:
                self.workers[self.workers.index(worker)] = self._start(worker.process.name)
            raise

    # --- at the counter, and abroad -----------------------------------------------------------------------------------

    async def swap(self) -> str:
        consumer = self.chance.choice(self.consumers)
        sell, buy = self.chance.sample(ASSETS, 2)
        return await self.counter.swap(consumer, self.chance.randint(1, 3) * UNIT, sell=sell, buy=buy)

    async def withdraw(self) -> str:
        consumer, asset = self.chance.choice(self.consumers), self.chance.choice(ASSETS)
        await self.abroad.probe(honest=True)
        return await self.counter.withdraw(consumer, self.chance.randint(1, 3) * UNIT, asset)

    async def reroute(self) -> str:
        worker = self._worker()
        await self.abroad.probe()
        return f"{await self._of(worker, worker.second.failover.step)} items"

    async def order(self) -> str:
        worker = self._worker()
        return f"{await self._of(worker, worker.second.orders.step)} orders"

    async def repatriate(self) -> str:
        worker = self._worker()
        await self.abroad.probe()
        return f"{await self._of(worker, worker.second.repatriation.step)} pairs"

    async def told(self) -> str:
        worker = self._worker()
        return str(await self._of(worker, partial(self.abroad.told, worker.second)))

    async def custody(self) -> str:
        return self.abroad.move_on()

    async def custodian_fault(self) -> str:
        return self.abroad.fault()

    async def pay_out(self) -> str:
        assert self.bank is not None
        return await self.bank.withdraw()

    async def bank_round(self) -> None:
        worker = self._worker()
        assert worker.bank is not None
        await self._of(worker, partial(worker.bank.step, woken=True))

    async def bank_moves(self) -> str:
        assert self.bank is not None
        return self.bank.move_on()

    async def sweep(self) -> int:
        return await self.house.sweep_fees()

    async def sleep(self) -> float:
        """Time without blocks, and often one at the end of it: attempts expire, leases end, the chain catches up."""
        seconds = self.chance.choice([2.0, 8.0, 21.0, 30.0])
        self.clock.advance(seconds)
        if self.chance.random() < 0.7:
            self.chain.mine()
        return seconds

    async def turn(self) -> str:
        """The chain goes away for longer, or comes back."""
        self.outage = not self.outage
        self.mend()
        if self.outage:
            self.chain.faults.halted = self.chance.random() < 0.7
            self.chain.faults.unreachable = not self.chain.faults.halted or self.chance.random() < 0.3
        return "away" if self.outage else "back"

    async def fault(self) -> str:
        faults = self.chain.faults
        kind = self.chance.choice(["drop", "lose", "late", "lag", "halt", "cut", "mend", "mend", "mend", "mend"])
        if kind == "drop":
            faults.drop_broadcasts = self.chance.randint(1, 2)
        elif kind == "lose":
            faults.lose_answers = self.chance.randint(1, 2)
        elif kind == "late":
            faults.late_blocks = self.chance.randint(1, 60)
        elif kind == "lag":
            faults.lag_blocks = self.chance.randint(1, 4)
        elif kind == "halt":
            faults.halted = True
        elif kind == "cut":
            faults.unreachable = True
        else:
            self.mend()
        return kind

    async def policy(self) -> str:
        """The issuer pauses a token or forbids somebody, or takes it back; what is signed meanwhile reverts."""
        address = (await self.house.address(self.chance.choice(self.consumers))).address
        if self.chance.random() < 0.2:
            address = DESTINATION
        kind = self.chance.choice(["pause", "forbid", "lift", "lift"])
        if kind == "pause":
            self.state.paused.add(self.chance.choice(ASSETS))
        elif kind == "forbid":
            self.state.forbidden.add(address)
        else:
            self.lift()
        return kind

    def mend(self) -> None:
        faults = self.chain.faults
        faults.drop_broadcasts = faults.lose_answers = faults.late_blocks = faults.lag_blocks = 0
        faults.halted = faults.unreachable = False

    def lift(self) -> None:
        self.state.paused.clear()
        self.state.forbidden.clear()

    # --- the morning --------------------------------------------------------------------------------------------------

    async def calm_down(self) -> None:
        """No more faults; people lift what they can and have the blocked items tried again."""
        self.calm, self.outage = True, False
        self.mend()
        self.abroad.mend()
        self.lift()

    async def open_items(self) -> int:
        """How many still move."""
        [row] = await self.house.execute(
            "SELECT (SELECT count(*) FROM settlement_items "
            "WHERE state NOT IN ('CONFIRMED', 'FAILED', 'CANCELLED', 'BLOCKED')) "
            "+ (SELECT count(*) FROM withdrawals WHERE state = 'HELD' AND bank_account_id IS NOT NULL) AS count"
        )
        return int(row.count)

    async def retry_blocked(self) -> int:
        """What an operator does once the reason is gone; how many there were."""
        for row in await self.house.items():
            if row.state == ItemState.BLOCKED:
                freed = ItemTransition(
                    item_id=row.id, expected=frozenset({ItemState.BLOCKED}), state=ItemState.PENDING, reason="retried"
                )
                self.retried.add(row.id)
                outcome = await self.house.writer.submit(Command(transitions=(freed,)))
                assert isinstance(outcome, Applied), outcome
        return len(self.retried)

    async def one_calm_round(self, seconds: float = 0.5) -> None:
        self.clock.advance(seconds)
        self.chain.mine()
        worker = self.workers[self.chain.height % len(self.workers)]
        while await worker.watcher.step():
            pass
        await worker.settlement.chores()
        await worker.settlement.settle_round()
        if worker.bank is not None and self.bank is not None:
            self.bank.calm_down()
            await worker.bank.step(woken=True)
        if await self.abroad.is_needed():
            await self.abroad.one_calm_round(worker.second)


def _is_crash(error: BaseException) -> bool:
    """A crash alone, or in the groups that task groups make of it and of what else it ended."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_crash(inner) for inner in error.exceptions)
    return isinstance(error, Crash)
