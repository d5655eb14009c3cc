"""A small model of the ledger against the real one: whatever is asked, in whatever order, both answer the same.

The model knows nothing of batches, locks, SQL or connections. It is a page of arithmetic that anybody can check, so
what the real ledger does beyond it must not show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from domain.commands import Command, LimitReturn, Request
from domain.ledger_state import Applied, Outcome
from domain.money import Asset
from storage import balances
from storage.database import reading
from storage.schema import wallets
from tests.books import FEE, Books, audit, books_of, deposit, new_request, open_wallets, payment

ASSETS = (Asset.USDC, Asset.EURC)
LIMITS = {1: 1_000_000_000, 2: 50_000_000_000, 3: 250_000_000_000}
FIRST_DAY = datetime(2027, 3, 10, 12, tzinfo=UTC)
FIRST_DAY_DATE = FIRST_DAY.date()


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass
class Account:
    available: int = 0
    version: int = 0


@dataclass
class Person:
    """What the model knows of a consumer."""

    accounts: dict[Asset, Account] = field(default_factory=lambda: {asset: Account() for asset in ASSETS})
    frozen: bool = False
    level: int = 1
    day: date = FIRST_DAY_DATE
    used: int = 0


@dataclass(frozen=True)
class Pay:
    """A transfer in the model's words, under a request id that may have been used before."""

    sender: int
    recipient: int
    asset: Asset
    micros: int
    slot: int

    @property
    def body(self) -> str:
        return f"{self.recipient}:{self.asset}:{self.micros}"


Answer = tuple[str, int, int]
"""What became of it, and the sender's balance and version where it was applied."""


class Model:
    """The ledger on a page."""

    def __init__(self, people: int) -> None:
        self.people = [Person() for _ in range(people)]
        self.now = FIRST_DAY
        self.requests: dict[tuple[int, int], tuple[str, Answer]] = {}

    def deposit(self, to: int, asset: Asset, micros: int) -> None:
        account = self.people[to].accounts[asset]
        account.available += micros
        account.version += 1

    def pay(self, pay: Pay) -> Answer:
        stored = self.requests.get((pay.sender, pay.slot))
        if stored is not None:
            return stored[1] if stored[0] == pay.body else ("IDEMPOTENCY_KEY_REUSED", 0, 0)
        answer = self._decide(pay)
        self.requests[pay.sender, pay.slot] = (pay.body, answer)
        return answer

    def _decide(self, pay: Pay) -> Answer:
        sender, recipient = self.people[pay.sender], self.people[pay.recipient]
        day = max(sender.day, self.now.date())
        used = sender.used if day == sender.day else 0
        account = sender.accounts[pay.asset]
        if sender.frozen:
            return ("CONSUMER_FROZEN", 0, 0)
        if recipient.frozen:
            return ("RECIPIENT_FROZEN", 0, 0)
        if used + pay.micros > LIMITS[sender.level]:
            return ("LIMIT_EXCEEDED", 0, 0)
        if pay.micros + FEE > account.available:
            return ("INSUFFICIENT_FUNDS", 0, 0)
        sender.day, sender.used = day, used + pay.micros
        account.available -= pay.micros + FEE
        account.version += 1
        recipient.accounts[pay.asset].available += pay.micros
        recipient.accounts[pay.asset].version += 1
        return ("APPLIED", account.available, account.version)

    def give_back(self, to: int, day: date, micros: int) -> None:
        person = self.people[to]
        if person.day == day:
            person.used = max(0, person.used - micros)


# --- the real one, step by step beside it -----------------------------------------------------------------------------


@dataclass
class World:
    """The real ledger, and the loop it runs in. Each history gets wallets of its own."""

    runner: asyncio.Runner
    books: Books
    now: datetime = FIRST_DAY


PEOPLE = st.integers(0, 3)
# Large enough to meet the lowest limit in a few steps, and just around it.
AMOUNTS = st.one_of(
    st.integers(1, 2_000_000), st.sampled_from([400_000_000, 600_000_000, 1_000_000_000, 1_000_000_001])
)
PAYMENTS = st.builds(Pay, PEOPLE, PEOPLE, st.sampled_from(ASSETS), AMOUNTS, st.integers(0, 12)).filter(
    lambda pay: pay.sender != pay.recipient
)


class LedgerMachine(RuleBasedStateMachine):
    """Every step is taken by both, and every answer and every balance compared."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.world.now = FIRST_DAY
        self.model = Model(4)
        self.ids: Sequence[UUID] = self._run(open_wallets(self.world.books.engine, 4, kyc_level=1))
        self._run(self._set("usage_day = :day", day=FIRST_DAY_DATE))
        self.requests: dict[tuple[int, int], Request] = {}
        for who in range(4):
            self.money_comes_in(who, Asset.USDC, 1_500_000_000)
        for who in (2, 3):
            self.a_level_is_granted(who, 3)

    @rule(to=PEOPLE, asset=st.sampled_from(ASSETS), micros=AMOUNTS)
    def money_comes_in(self, to: int, asset: Asset, micros: int) -> None:
        self._run(self.world.books.apply(deposit(self.ids[to], micros, asset=asset)))
        self.model.deposit(to, asset, micros)

    @rule(pays=st.lists(PAYMENTS, min_size=1, max_size=8))
    def payments_at_once(self, pays: list[Pay]) -> None:
        """Several in flight are decided in the order in which they were handed in."""
        outcomes = self._run(self._submit([self._command(pay) for pay in pays]))
        for pay, outcome in zip(pays, outcomes, strict=True):
            assert _told(outcome) == self.model.pay(pay), pay

    @rule(sender=PEOPLE, asset=st.sampled_from(ASSETS), more=st.integers(-1, 1), slot=st.integers(13, 20))
    def a_payment_of_all_there_is(self, sender: int, asset: Asset, more: int, slot: int) -> None:
        """Or of one micro less, or more: the edge that "greater" and "greater or equal" differ at."""
        micros = self.model.people[sender].accounts[asset].available - FEE + more
        if micros > 0:
            self.payments_at_once([Pay(sender, (sender + 1) % 4, asset, micros, slot)])

    @rule(pay=PAYMENTS)
    def a_check_changes_nothing(self, pay: Pay) -> None:
        """And says what the payment would answer, found by asking the model and taking it back."""
        told = self._run(self.world.books.writer.preview(self._command(pay)))
        (outcome,) = self._run(self._submit([self._command(pay)]))
        assert _told(told) == _told(outcome) == self.model.pay(pay)

    @rule(who=PEOPLE, frozen=st.booleans())
    def an_operator_freezes(self, who: int, frozen: bool) -> None:
        self._run(self._set("frozen = :frozen", self.ids[who], frozen=frozen))
        self.model.people[who].frozen = frozen

    @rule(who=PEOPLE, level=st.sampled_from(sorted(LIMITS)))
    def a_level_is_granted(self, who: int, level: int) -> None:
        self._run(self._set("kyc_level = :level", self.ids[who], level=level))
        self.model.people[who].level = level

    @rule(days=st.sampled_from([1, -1]))
    def time_jumps(self, days: int) -> None:
        self.world.now = self.model.now = self.model.now + timedelta(days=days)

    @rule(who=PEOPLE, micros=AMOUNTS, days_ago=st.integers(0, 1))
    def a_reservation_is_given_back(self, who: int, micros: int, days_ago: int) -> None:
        day = (self.model.now - timedelta(days=days_ago)).date()
        self._run(self.world.books.apply(Command(limit_return=LimitReturn(self.ids[who], day, micros))))
        self.model.give_back(who, day, micros)

    @invariant()
    def the_database_is_the_model(self) -> None:
        found, expected = self._run(self._found()), []
        for person in self.model.people:
            accounts = [(person.accounts[asset].available, person.accounts[asset].version) for asset in ASSETS]
            expected.append((accounts, person.day, person.used))
        assert found == expected

    def teardown(self) -> None:
        self._run(audit(self.world.books.engine))

    def _run(self, work: Any) -> Any:
        return self.world.runner.run(work)

    def _command(self, pay: Pay) -> Command:
        """A fresh command each time, as a retry of a client makes one: only the request id is the same."""
        sender = self.ids[pay.sender]
        known = self.requests.setdefault((pay.sender, pay.slot), new_request(sender))
        request = replace(known, body_hash=new_request(sender, body=pay.body).body_hash)
        return payment(sender, self.ids[pay.recipient], pay.micros, asset=pay.asset, request=request)

    async def _submit(self, commands: list[Command]) -> list[Outcome]:
        return list(await asyncio.gather(*(self.world.books.submit(command) for command in commands)))

    async def _set(self, change: str, *who: UUID, **values: Any) -> None:
        statement = f"UPDATE wallets SET {change} WHERE consumer_id = ANY(:ids)"
        await self.world.books.execute(statement, ids=list(who or self.ids), **values)

    async def _found(self) -> list[Any]:
        async with reading(self.world.books.engine) as tx:
            found = await balances.of_consumers(tx, self.ids)
            rows = await tx.execute(select(wallets.c.consumer_id, wallets.c.usage_day, wallets.c.usage_usd_micros))
            usage = {row[0]: (row[1], row[2]) for row in rows}
        return [
            ([(found[who, asset].available_micros, found[who, asset].version) for asset in ASSETS], *usage[who])
            for who in self.ids
        ]


def _told(outcome: Outcome) -> Answer:
    if isinstance(outcome, Applied):
        return ("APPLIED", outcome.available_after, outcome.version_after)
    return (outcome.error.reason, 0, 0)


@pytest.mark.timeout(900)  # a failure is worth the time that it takes to make it small
def test_the_real_ledger_answers_as_the_model_does(database: str) -> None:
    """Transfers, replays, other bodies, limits over days, freezing, batches: step by step, and audited at each end."""
    with asyncio.Runner() as runner:
        opened = books_of(database, batch_time=lambda: LedgerMachine.world.now)
        LedgerMachine.world = World(runner, runner.run(opened.__aenter__()))
        try:
            run_state_machine_as_test(
                LedgerMachine,
                settings=settings(
                    max_examples=30,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
