"""A custodian with a bank behind it, in memory and in the test's hands: every ending, and answers that get lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from domain.clock import Clock
from domain.money import Asset, Money
from providers.base import Accepted, OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.custodian import (
    BankDeposit,
    BankLinkOrder,
    LinkedBank,
    LinkState,
    OrderState,
    Payout,
    PayoutOrder,
    PayoutReturn,
    WireInstructions,
)
from storage.sealing import KeyRing, new_key_file
from tests.books import audit
from tests.workers.bank_branch import Branch
from tests.workers.simulated import SimulatedHouse

NOTHING = Money(Asset.USDC, 0)


@dataclass
class Faults:
    """Counters go down as they are used up."""

    unreachable: bool = False
    lose_answers: int = 0
    """So many payouts are made, and nobody hears of it."""
    lose_orders: int = 0
    """So many orders never arrive, and nobody knows that either."""
    refuse: int = 0
    too_many: int = 0
    """So many orders are answered with "not now"."""


@dataclass
class SimulatedBank:
    """A `BankRail`."""

    clock: Clock
    standing: int = 0
    links: dict[str, LinkedBank] = field(default_factory=dict)
    arrived: dict[str, BankDeposit] = field(default_factory=dict)
    paid: dict[str, Payout] = field(default_factory=dict)
    orders: dict[UUID, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    asked: int = 0
    """How many orders came, whatever became of them."""
    name: str = "circle"
    rail: str = "mint"
    assets: frozenset[Asset] = frozenset({Asset.USDC})

    # --- what a test does ---------------------------------------------------------------------------------------------

    def wire(
        self,
        micros: int,
        *,
        tracking: str,
        bank: str | None = None,
        fee: int = 0,
        state: OrderState = OrderState.COMPLETE,
    ) -> BankDeposit:
        """Money from a bank."""
        reference = f"deposit-{len(self.arrived) + 1}"
        amount, kept = Money(Asset.USDC, micros), Money(Asset.USDC, fee)
        deposit = BankDeposit(
            reference=reference,
            state=OrderState.PENDING,
            amount=amount,
            fee=kept,
            bank_reference=bank,
            tracking_reference=tracking,
            created_at=self.clock.now(),
        )
        self.arrived[reference] = deposit
        if state is OrderState.COMPLETE:
            self.complete_wire(reference)
        return deposit

    def complete_wire(self, reference: str) -> None:
        deposit = self.arrived[reference] = replace(self.arrived[reference], state=OrderState.COMPLETE)
        self.standing += deposit.amount.micros - deposit.fee.micros

    def end_payouts(self, state: OrderState, *, reason: str = "", fee: int = 0) -> None:
        """All that are under way end so."""
        for reference, payout in self.paid.items():
            if payout.state is OrderState.PENDING:
                kept = Money(Asset.USDC, fee)
                self.paid[reference] = replace(payout, state=state, reason=reason, fee=kept)
                self.standing -= fee
                if state is OrderState.FAILED:
                    self.standing += payout.amount.micros + fee

    def send_back(self, *, fee: int = 0) -> None:
        """The bank returns everything that was paid."""
        for reference, payout in self.paid.items():
            back = PayoutReturn(
                reference=f"return-{reference}",
                state=OrderState.COMPLETE,
                amount=payout.amount,
                fee=Money(Asset.USDC, fee),
                reason="account closed",
            )
            self.paid[reference] = replace(payout, returned=back)
            self.standing += payout.amount.micros - fee

    # --- what the house sees ------------------------------------------------------------------------------------------

    async def link(self, order: BankLinkOrder) -> LinkedBank | Rejected | Retryable | OutcomeUnknown:
        self._reach()
        if order.details.last_four == "0000":
            return Rejected("no such account", permanent=True)
        reference = self.orders.setdefault(order.key, f"bank-{len(self.links) + 1}")
        tracking = f"CIR{len(self.links) + 1:04}"
        self.links.setdefault(
            reference, LinkedBank(reference=reference, state=LinkState.PENDING, tracking_reference=tracking)
        )
        if self._lost():
            return OutcomeUnknown("no answer")
        return self.links[reference]

    def accept_links(self, state: LinkState = LinkState.ACTIVE) -> None:
        self.links = {reference: replace(link, state=state) for reference, link in self.links.items()}

    async def linked_bank(self, reference: str) -> LinkedBank | None:
        self._reach()
        return self.links.get(reference)

    async def instructions(self, bank_reference: str, asset: Asset) -> WireInstructions:
        self._reach()
        return WireInstructions(
            tracking_reference=self.links[bank_reference].tracking_reference,
            beneficiary_name="THE OPERATOR",
            beneficiary_address=("1 Main Street",),
            bank_name="FIRST BANK",
            bank_address=("New York",),
            account_number="11111111111",
            routing_number="121000248",
            swift_code="FIRSTUS33",
            currency="USD",
        )

    async def deposit(self, reference: str) -> BankDeposit | None:
        self._reach()
        return self.arrived.get(reference)

    async def deposits(self, *, since: datetime, until: datetime) -> Sequence[BankDeposit]:
        self._reach()
        return [one for one in self.arrived.values() if since <= one.created_at <= until]

    async def start_payout(self, order: PayoutOrder) -> Accepted | Rejected | Retryable | OutcomeUnknown:
        self.asked += 1
        if self.faults.unreachable or self.faults.lose_orders:
            self.faults.lose_orders = max(0, self.faults.lose_orders - 1)
            return OutcomeUnknown("no answer")
        if self.faults.too_many:
            self.faults.too_many -= 1
            return Retryable("not now", timedelta(seconds=5))
        if self.faults.refuse:
            self.faults.refuse -= 1
            return Rejected("the bank is closed", permanent=True)
        reference = self._pay(order)
        return OutcomeUnknown("no answer") if self._lost() else Accepted(reference)

    def _pay(self, order: PayoutOrder) -> str:
        """Once for each key."""
        if order.key not in self.orders:
            self.orders[order.key] = self.pay_by_hand(order.bank_reference, order.amount)
        return self.orders[order.key]

    def pay_by_hand(self, bank_reference: str, amount: Money) -> str:
        """A payout that nobody ordered from here."""
        reference = f"payout-{len(self.paid) + 1}"
        self.paid[reference] = Payout(
            reference=reference,
            state=OrderState.PENDING,
            amount=amount,
            fee=NOTHING,
            bank_reference=bank_reference,
            created_at=self.clock.now(),
        )
        self.standing -= amount.micros
        return reference

    async def payout(self, reference: str) -> Payout | None:
        self._reach()
        return self.paid.get(reference)

    async def payouts(self, *, since: datetime, until: datetime) -> Sequence[Payout]:
        self._reach()
        return [one for one in self.paid.values() if since <= one.created_at <= until]

    async def positions(self) -> Mapping[Asset, int]:
        self._reach()
        return {Asset.USDC: self.standing}

    async def check(self) -> timedelta | Retryable:
        return Retryable("unreachable") if self.faults.unreachable else timedelta(milliseconds=1)

    def _reach(self) -> None:
        if self.faults.unreachable:
            raise ProviderUnavailable("no answer")

    def _lost(self) -> bool:
        lost = self.faults.lose_answers > 0
        self.faults.lose_answers -= lost
        return lost


class SimulatedBranch(Branch[SimulatedBank]):
    """A branch of that bank."""

    async def accept_links(self) -> None:
        self.bank.accept_links()


@asynccontextmanager
async def simulated_branch(house: SimulatedHouse, folder: Path, *, standing: int) -> AsyncIterator[SimulatedBranch]:
    """A branch with that much in the operator's account, audited at the end."""
    keys = folder / "sealing.json"
    keys.write_text(new_key_file(house.house.entropy, name="tests"))
    bank = SimulatedBank(house.clock, standing=standing)
    yield SimulatedBranch(house, bank, KeyRing.read(keys, entropy=house.house.entropy))
    await audit(house.house.engine)
