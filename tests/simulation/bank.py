"""The bank of the simulated world: payouts that complete, fail, get lost on the way, and come back days later."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from typing import Any

from domain.errors import WalletError
from domain.identity import OPERATOR, ConsumerId
from domain.money import Asset
from domain.settlement import Rail
from providers.custodian import OrderState, Payout, PayoutReturn
from server.workers.bank_rail import BankRailWorker
from storage import custody
from storage.sealing import KeyRing
from tests.simulation.process import Process
from tests.workers.house import UNIT, House
from tests.workers.simulated_bank import NOTHING, SimulatedBank, SimulatedBranch

STANDING = 100 * UNIT


class Bank:
    """A branch where the first consumers have linked their accounts."""

    def __init__(self, house: House, surroundings: Any, chance: random.Random, ring: KeyRing) -> None:
        """`surroundings` have the house, its clock, and blocks that are made and read."""
        self._house, self._chance, self._ring = house, chance, ring
        self.custodian = SimulatedBank(house.clock, standing=STANDING)
        self._branch = SimulatedBranch(surroundings, self.custodian, ring)
        self._accounts: dict[ConsumerId, uuid.UUID] = {}

    async def open(self, consumer: ConsumerId) -> None:
        self._accounts[consumer] = await self._branch.linked(consumer)

    def worker_of(self, process: Process) -> BankRailWorker:
        """The worker of one process, which sees the bank through its own points."""
        return BankRailWorker(
            engine=process.engine,
            writer=process.writer,
            bank=process.sees(self.custodian),
            accounts=self._branch.accounts,
            clock=self._house.clock,
            entropy=self._house.entropy,
        )

    async def withdraw(self) -> str:
        consumer = self._chance.choice(sorted(self._accounts))
        try:
            await self._branch.withdraw(consumer, self._accounts[consumer], self._chance.randint(1, 3) * UNIT)
        except WalletError as refusal:
            return f"refused: {refusal.reason}"
        return "held"

    def move_on(self) -> str:
        """One payout ends, one that was complete comes back, or an answer is going to be lost."""
        paid = self.custodian.paid
        pending = [one for one in paid.values() if one.state is OrderState.PENDING]
        complete = [one for one in paid.values() if one.state is OrderState.COMPLETE and one.returned is None]
        kind = self._chance.choice(["end", "end", "end", "return", "return", "fault"])
        if kind == "end" and pending:
            return self._end(self._chance.choice(pending))
        if kind == "return" and complete:
            return self._send_back(self._chance.choice(complete))
        faults = self.custodian.faults
        name = self._chance.choice(["lose_answers", "lose_orders", "refuse", "too_many"])
        setattr(faults, name, self._chance.randint(1, 2))
        return name

    def _end(self, payout: Payout) -> str:
        state = self._chance.choice([OrderState.COMPLETE, OrderState.FAILED])
        self.custodian.paid[payout.reference] = replace(payout, state=state)
        if state is OrderState.FAILED:
            self.custodian.standing += payout.amount.micros
        return str(state)

    def _send_back(self, payout: Payout) -> str:
        reference = f"return-{payout.reference}"
        back = PayoutReturn(
            reference=reference, state=OrderState.COMPLETE, amount=payout.amount, fee=NOTHING, reason="closed"
        )
        self.custodian.paid[payout.reference] = replace(payout, returned=back)
        self.custodian.standing += payout.amount.micros
        return "returned"

    def calm_down(self) -> None:
        faults = self.custodian.faults
        faults.lose_answers = faults.lose_orders = faults.refuse = faults.too_many = 0
        self.custodian.end_payouts(OrderState.COMPLETE)

    async def differences(self) -> list[str]:
        """What is wrong once everything has ended: money that is still held, or stands elsewhere than in the books."""
        held = await self._house.execute("SELECT id FROM withdrawals WHERE state = 'HELD'")
        async with self._house.engine.connect() as tx:
            found = await custody.positions(tx, Rail.MINT, [(OPERATOR, Asset.USDC)])
        books = found[OPERATOR, Asset.USDC].micros
        wrong = [] if books == self.custodian.standing else [f"books {books}, bank {self.custodian.standing}"]
        return [*(f"withdrawal {row.id} is held" for row in held), *wrong]
