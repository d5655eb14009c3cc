"""A small model of the wallet against the real server: whatever consumers do with each other, both answer the same.

Beside transfers there are batches, messages of many transfers, refunds, payment requests and schedules, each under
request ids that may have been used before, for anything. Many steps are first asked for without effect, and the answer
then has to be that of the real call (money rule 25).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from domain.clock import SystemClock
from domain.limits import DAILY_LIMIT_MICROS
from domain.pricing import FeeSchedule
from monay.wallet.v1 import error_reason_pb2
from monay.wallet.v1 import transfer_pb2 as pb
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest
from sandbox.postgres import Postgres
from server.services.rates import ReferenceRates
from server.workers.schedules import ScheduleWorker
from tests.books import DOLLAR, ENTROPY, FEE, audit, deposit

from .conftest import consumer, service, unpacked
from .people import Person, Town, new_town

# --- the model --------------------------------------------------------------------------------------------------------

Answer = tuple[str, int, int]
"""What became of it, and the caller's balance and version where money moved."""

REMEMBERED = {
    "INSUFFICIENT_FUNDS",
    "LIMIT_EXCEEDED",
    "CONSUMER_FROZEN",
    "RECIPIENT_FROZEN",
    "NOT_REFUNDABLE",
    "REFUND_TOO_LARGE",
    "PAYMENT_REQUEST_CLOSED",
}


@dataclass
class Purse:
    """What the model knows of a consumer. Nobody climbs a level here."""

    available: int = 0
    version: int = 0
    used: int = 0
    frozen: bool = False


@dataclass
class Moved:
    """Money that went from one to another."""

    id: str
    sender: int
    recipient: int
    micros: int
    is_refund: bool = False
    refunded: int = 0


@dataclass
class Demand:
    """A payment request."""

    id: str
    payee: int
    payer: int
    micros: int
    state: str = "OPEN"


@dataclass
class Plan:
    """A scheduled transfer."""

    id: str
    sender: int
    recipient: int
    micros: int
    state: str = "ACTIVE"
    runs: int = 0
    last_reason: str = ""


class Model:
    """The wallet on a page."""

    def __init__(self, people: int) -> None:
        self.purses = [Purse() for _ in range(people)]
        self.requests: dict[tuple[str, int, int], tuple[str, Answer]] = {}

    def once(self, caller: str, who: int, slot: int, body: str, act: Callable[[], str]) -> Answer:
        """Decide under a request id: the first answer stays, another body is refused."""
        stored = self.requests.get((caller, who, slot))
        if stored is not None:
            return stored[1] if stored[0] == body else ("IDEMPOTENCY_KEY_REUSED", 0, 0)
        reason = act()
        purse = self.purses[who]
        answer = (reason, purse.available, purse.version) if reason == "PAID" else (reason, 0, 0)
        if reason in REMEMBERED or reason in ("PAID", "MADE"):
            self.requests[caller, who, slot] = (body, answer)
        return answer

    def pay(self, sender: int, parts: Sequence[tuple[int, int]], *, fee: int = FEE, counts: bool = True) -> str:
        """Pay several, or nobody."""
        purse, total = self.purses[sender], sum(micros for _, micros in parts)
        if purse.frozen:
            return "CONSUMER_FROZEN"
        if any(self.purses[recipient].frozen for recipient, _ in parts):
            return "RECIPIENT_FROZEN"
        if counts and purse.used + total > DAILY_LIMIT_MICROS[1]:
            return "LIMIT_EXCEEDED"
        if total + fee > purse.available:
            return "INSUFFICIENT_FUNDS"
        purse.available -= total + fee
        purse.used += total if counts else 0
        purse.version += len(parts)
        for recipient, micros in parts:
            self.purses[recipient].available += micros
            self.purses[recipient].version += 1
        return "PAID"

    def refund(self, who: int, moved: Moved, asked: int | None) -> str:
        if who not in (moved.sender, moved.recipient):
            return "TRANSACTION_NOT_FOUND"
        if moved.is_refund or who != moved.recipient:
            return "NOT_REFUNDABLE"
        left = moved.micros - moved.refunded
        micros = left if asked is None else asked
        if micros > left or micros == 0:
            return "REFUND_TOO_LARGE"
        reason = self.pay(who, [(moved.sender, micros)], fee=0, counts=False)
        moved.refunded += micros if reason == "PAID" else 0
        return reason

    def ask(self, who: int) -> str:
        return "CONSUMER_FROZEN" if self.purses[who].frozen else "MADE"

    def settle(self, who: int, demand: Demand) -> str:
        if who == demand.payee:
            return "NOT_THE_PAYER"
        if who != demand.payer:
            return "PAYMENT_REQUEST_NOT_FOUND"
        if demand.state != "OPEN":
            return "PAYMENT_REQUEST_CLOSED"
        reason = self.pay(who, [(demand.payee, demand.micros)])
        demand.state = "PAID" if reason == "PAID" else "OPEN"
        return reason

    def close(self, who: int, demand: Demand) -> str:
        if who not in (demand.payee, demand.payer):
            return "PAYMENT_REQUEST_NOT_FOUND"
        wanted = "DECLINED" if who == demand.payer else "CANCELLED"
        if demand.state not in ("OPEN", wanted):
            return "PAYMENT_REQUEST_CLOSED"
        demand.state = wanted
        return "MADE"

    def run(self, plan: Plan) -> None:
        reason = self.pay(plan.sender, [(plan.recipient, plan.micros)])
        plan.runs += 1
        plan.last_reason = "" if reason == "PAID" else reason


# --- the real one, step by step beside it -----------------------------------------------------------------------------


@dataclass
class World:
    """The real server, and the loop it runs in. Each history gets people of its own."""

    runner: asyncio.Runner
    town: Town
    histories: count[int] = field(default_factory=count)


CROWD = 4
PEOPLE = st.integers(0, CROWD - 1)
SLOTS = st.integers(0, 15)
# Around what people have and around the limit.
AMOUNTS = st.one_of(st.integers(1, 200 * DOLLAR), st.sampled_from([300 * DOLLAR, 700 * DOLLAR, 1_000 * DOLLAR + 1]))
OTHERS = st.integers(1, CROWD - 1)
"""How many places further the other party stands."""
INDEX = st.integers(0, 30)


class WalletMachine(RuleBasedStateMachine):
    """Every step is taken by both, and every answer, balance and state compared."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.model = Model(CROWD)
        self.history = next(self.world.histories)
        ids = self._run(self.world.town.books.open(CROWD, kyc_level=1))
        self.people = [Person(id, "", "", "", consumer(id)) for id in ids]
        self.moved: list[Moved] = []
        self.demands: list[Demand] = []
        self.plans: list[Plan] = []
        for who in range(CROWD):
            self.money_comes_in(who, 500 * DOLLAR)

    @rule(who=PEOPLE, micros=AMOUNTS)
    def money_comes_in(self, who: int, micros: int) -> None:
        self._run(self.world.town.books.apply(deposit(self.people[who].id, micros)))
        self.model.purses[who].available += micros
        self.model.purses[who].version += 1

    @rule(who=PEOPLE, frozen=st.booleans())
    def an_operator_freezes(self, who: int, frozen: bool) -> None:
        statement = "UPDATE wallets SET frozen = :frozen WHERE consumer_id = :id"
        self._run(self.world.town.books.execute(statement, frozen=frozen, id=self.people[who].id))
        self.model.purses[who].frozen = frozen

    @rule(who=PEOPLE, step=OTHERS, micros=AMOUNTS, slot=SLOTS, check=st.booleans())
    def a_transfer(self, who: int, step: int, micros: int, slot: int, check: bool) -> None:
        to = (who + step) % CROWD
        request = self._transfer(who, to, micros, slot)
        expected = self.model.once(
            "consumer", who, slot, f"transfer {to} {micros}", lambda: self.model.pay(who, [(to, micros)])
        )
        answer = self._compare("Transfer", who, request, expected, check=check)
        self._note(answer, [answer.transaction] if answer else [], who, [(to, micros)])

    @rule(
        who=PEOPLE,
        parts=st.lists(st.tuples(OTHERS, AMOUNTS), min_size=1, max_size=6),
        slot=SLOTS,
        check=st.booleans(),
    )
    def a_batch(self, who: int, parts: list[tuple[int, int]], slot: int, check: bool) -> None:
        paid = [((who + step) % CROWD, micros) for step, micros in parts]
        items = [pb.BatchTransferItem(recipient=self._who(to), amount=_usdc(micros)) for to, micros in paid]
        request = pb.BatchTransferRequest(request_id=self._id(who, slot), items=items)
        expected = self.model.once("consumer", who, slot, f"batch {paid}", lambda: self.model.pay(who, paid))
        answer = self._compare("BatchTransfer", who, request, expected, check=check)
        self._note(answer, answer.transactions if answer else [], who, paid)

    @rule(orders=st.lists(st.tuples(PEOPLE, OTHERS, AMOUNTS, SLOTS), min_size=1, max_size=8))
    def many_transfers_in_one_message(self, orders: list[tuple[int, int, int, int]]) -> None:
        """Those of one sender in order; with one committer, all of them are."""
        transfers = []
        for who, step, micros, slot in orders:
            transfers.append(self._transfer(who, (who + step) % CROWD, micros, slot))
            transfers[-1].consumer_id = str(self.people[who].id)
        results = self._run(self._call("SubmitTransfers", pb.SubmitTransfersRequest(transfers=transfers), service()))
        for (who, step, micros, slot), result in zip(orders, results.results, strict=True):
            to = (who + step) % CROWD
            paid = [(to, micros)]
            body, act = f"transfer {to} {micros}", partial(self.model.pay, who, paid)
            expected = self.model.once("service", who, slot, body, act)
            assert _told(result) == expected
            if result.HasField("transfer"):
                self._note(result.transfer, [result.transfer.transaction], who, paid)

    @rule(who=PEOPLE, which=INDEX, micros=st.none() | AMOUNTS, slot=SLOTS, check=st.booleans())
    def a_refund(self, who: int, which: int, micros: int | None, slot: int, check: bool) -> None:
        if not self.moved:
            return
        moved = self.moved[which % len(self.moved)]
        amount = _usdc(micros) if micros is not None else None
        request = pb.RefundTransferRequest(request_id=self._id(who, slot), transaction_id=moved.id, amount=amount)
        before = moved.refunded
        expected = self.model.once(
            "consumer", who, slot, f"refund {moved.id} {micros}", lambda: self.model.refund(who, moved, micros)
        )
        answer = self._compare("RefundTransfer", who, request, expected, check=check)
        given_back = moved.refunded - before
        self._note(answer, [answer.transaction] if answer else [], who, [(moved.sender, given_back)], is_refund=True)

    @rule(who=PEOPLE, step=OTHERS, micros=AMOUNTS, slot=SLOTS)
    def somebody_asks_for_money(self, who: int, step: int, micros: int, slot: int) -> None:
        payer = (who + step) % CROWD
        request = pb.CreatePaymentRequestRequest(
            request_id=self._id(who, slot), payer=self._who(payer), amount=_usdc(micros)
        )
        expected = self.model.once("consumer", who, slot, f"ask {payer} {micros}", lambda: self.model.ask(who))
        answer = self._compare("CreatePaymentRequest", who, request, expected)
        if answer and not answer.replayed:
            self.demands.append(Demand(answer.payment_request.id, who, payer, micros))

    @rule(who=PEOPLE, which=INDEX, slot=SLOTS, check=st.booleans())
    def a_payment_request_is_paid(self, who: int, which: int, slot: int, check: bool) -> None:
        if not self.demands:
            return
        demand = self.demands[which % len(self.demands)]
        request = pb.PayPaymentRequestRequest(request_id=self._id(who, slot), payment_request_id=demand.id)
        expected = self.model.once("consumer", who, slot, f"settle {demand.id}", lambda: self.model.settle(who, demand))
        answer = self._compare("PayPaymentRequest", who, request, expected, check=check)
        self._note(answer, [answer.transaction] if answer else [], who, [(demand.payee, demand.micros)])

    @rule(who=PEOPLE, which=INDEX)
    def a_payment_request_is_closed(self, who: int, which: int) -> None:
        if not self.demands:
            return
        demand = self.demands[which % len(self.demands)]
        request = pb.DeclinePaymentRequestRequest(payment_request_id=demand.id)
        self._compare("DeclinePaymentRequest", who, request, (self.model.close(who, demand), 0, 0))

    @rule(who=PEOPLE, step=OTHERS, micros=AMOUNTS, slot=SLOTS, check=st.booleans())
    def a_transfer_is_scheduled(self, who: int, step: int, micros: int, slot: int, check: bool) -> None:
        to = (who + step) % CROWD
        request = pb.ScheduleTransferRequest(
            request_id=self._id(who, slot),
            recipient=self._who(to),
            amount=_usdc(micros),
            start_time=_TOMORROW,
            recurrence="FREQ=DAILY",
        )
        expected = self.model.once("consumer", who, slot, f"plan {to} {micros}", lambda: self.model.ask(who))
        answer = self._compare("ScheduleTransfer", who, request, expected, check=check)
        if answer and not answer.replayed:
            self.plans.append(Plan(answer.scheduled_transfer.id, who, to, micros))

    @rule(which=INDEX, workers=st.integers(1, 3))
    def a_scheduled_transfer_is_due(self, which: int, workers: int) -> None:
        active = [plan for plan in self.plans if plan.state == "ACTIVE"]
        if not active:
            return
        plan = active[which % len(active)]
        self._run(self._let_run(plan, workers))
        self.model.run(plan)

    @rule(who=PEOPLE, which=INDEX)
    def a_schedule_is_cancelled(self, who: int, which: int) -> None:
        if not self.plans:
            return
        plan = self.plans[which % len(self.plans)]
        own = plan.sender == who
        plan.state = "CANCELLED" if own else plan.state
        request = pb.CancelScheduledTransferRequest(scheduled_transfer_id=plan.id)
        expected = "MADE" if own else "SCHEDULED_TRANSFER_NOT_FOUND"
        self._compare("CancelScheduledTransfer", who, request, (expected, 0, 0))

    # --- what must be the same after every step

    @invariant()
    def balances_and_limits_are_the_models(self) -> None:
        assert self._run(self._purses()) == [
            (purse.available, purse.version, purse.used) for purse in self.model.purses
        ]

    @invariant()
    def requests_and_schedules_stand_as_in_the_model(self) -> None:
        demands, plans = self._run(self._states())
        assert demands == {demand.id: demand.state for demand in self.demands}
        assert plans == {plan.id: (plan.state, plan.runs, plan.last_reason) for plan in self.plans}

    def teardown(self) -> None:
        self._run(self._refunds_are_shown())
        self._run(audit(self.world.town.books.engine))

    # --- how a step is taken

    def _run(self, work: Any) -> Any:
        return self.world.runner.run(work)

    def _id(self, who: int, slot: int) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.history}/{who}/{slot}"))

    def _who(self, person: int) -> pb.Recipient:
        return pb.Recipient(consumer_id=str(self.people[person].id))

    def _transfer(self, who: int, to: int, micros: int, slot: int) -> pb.TransferRequest:
        return pb.TransferRequest(request_id=self._id(who, slot), recipient=self._who(to), amount=_usdc(micros))

    def _compare(self, rpc: str, who: int, request: Any, expected: Answer, *, check: bool = False) -> Any:
        """Make the call and hold its answer to the model's; first without effect, if that is asked for."""
        token = self.people[who].token
        told = None
        if check:
            request.validate_only = True
            told = self._run(self._outcome(rpc, request, token))
            request.validate_only = False
        answer, outcome = self._run(self._outcome(rpc, request, token))
        assert outcome == expected
        if told is not None:
            _same(told, (answer, outcome))
        return answer

    async def _outcome(self, rpc: str, request: Any, token: Any) -> tuple[Any, Answer]:
        try:
            answer = await self._call(rpc, request, token)
        except grpc.aio.AioRpcError as error:
            return None, (unpacked(error).reason, 0, 0)
        return answer, _paid(answer)

    async def _call(self, rpc: str, request: Any, token: Any) -> Any:
        return await getattr(self.world.town.wallet.consumers, rpc)(request, metadata=token)

    def _note(
        self,
        answer: Any,
        transactions: Sequence[Any],
        who: int,
        paid: Sequence[tuple[int, int]],
        *,
        is_refund: bool = False,
    ) -> None:
        """Remember what moved, for refunds to come."""
        if answer is None or answer.replayed:
            return
        for transaction, (to, micros) in zip(transactions, paid, strict=True):
            assert transaction.amount.micros == micros
            self.moved.append(Moved(transaction.id, who, to, micros, is_refund))

    async def _let_run(self, plan: Plan, workers: int) -> None:
        """Make it due, and let several workers at it."""
        books = self.world.town.books
        await books.execute("UPDATE scheduled_transfers SET next_run_at = now() WHERE id = :id", id=plan.id)
        clock = SystemClock()
        rates = ReferenceRates(engine=books.engine, clock=clock, max_age=timedelta(days=1))
        tools: dict[str, Any] = {"engine": books.engine, "writer": books.writer, "clock": clock, "entropy": ENTROPY}
        crew = [ScheduleWorker(rates=rates, fees=FeeSchedule(), **tools) for _ in range(workers)]
        await asyncio.gather(*(worker.begin() for worker in crew))
        await asyncio.gather(*(worker.work() for worker in crew))

    async def _purses(self) -> list[tuple[int, int, int]]:
        rows = await self.world.town.books.execute(_PURSES, ids=[person.id for person in self.people])
        found = {row.consumer_id: (row.available_micros, row.version, row.usage_usd_micros) for row in rows}
        return [found[person.id] for person in self.people]

    async def _states(self) -> tuple[dict[str, str], dict[str, tuple[str, int, str]]]:
        ids = [person.id for person in self.people]
        demands = await self.world.town.books.execute(_DEMANDS, ids=ids)
        plans = await self.world.town.books.execute(_PLANS, ids=ids)
        return (
            {str(row.id): row.state for row in demands},
            {str(row.id): (row.state, row.run_count, row.reason) for row in plans},
        )

    async def _refunds_are_shown(self) -> None:
        for moved in self.moved:
            request = GetTransactionRequest(transaction_id=moved.id)
            shown = await self._call("GetTransaction", request, self.people[moved.sender].token)
            assert shown.transaction.refunded.micros == moved.refunded


_PURSES = """
    SELECT consumer_id, available_micros, version, usage_usd_micros
    FROM stablecoin_balances JOIN wallets USING (consumer_id) WHERE asset = 'USDC' AND consumer_id = ANY(:ids)
"""
_DEMANDS = "SELECT id, state FROM payment_requests WHERE payee_id = ANY(:ids)"
_PLANS = """
    SELECT id, state, run_count, coalesce(last.reason, '') AS reason FROM scheduled_transfers AS plan
    LEFT JOIN LATERAL (
        SELECT reason FROM scheduled_runs
        WHERE scheduled_transfer_id = plan.id AND state <> 'BEGUN' ORDER BY finished_at DESC LIMIT 1
    ) AS last ON true
    WHERE consumer_id = ANY(:ids)
"""
_TOMORROW = Timestamp(seconds=int((datetime.now(UTC) + timedelta(days=1)).timestamp()))


def _usdc(micros: int) -> Money:
    return Money(asset="USDC", micros=micros)


def _paid(answer: Any) -> Answer:
    if "balance" not in answer.DESCRIPTOR.fields_by_name:
        return ("MADE", 0, 0)
    return ("PAID", answer.balance.available_micros, answer.balance.version)


def _told(result: pb.SubmittedTransfer) -> Answer:
    if result.HasField("transfer"):
        return _paid(result.transfer)
    return (error_reason_pb2.ErrorReason.Name(result.error.reason).removeprefix("ERROR_REASON_"), 0, 0)


def _same(told: tuple[Any, Answer], done: tuple[Any, Answer]) -> None:
    """What a check told is what the call did: the same reason, or the same fee and balance (money rule 25)."""
    assert told[1][0] == done[1][0]
    assert told[1][1] == done[1][1]
    for name in ("fee", "total"):
        if done[0] is not None and name in done[0].DESCRIPTOR.fields_by_name:
            assert getattr(told[0], name) == getattr(done[0], name)


@pytest.mark.timeout(900)  # a failure is worth the time that it takes to make it small
def test_the_real_wallet_answers_as_the_model_does(postgres: Postgres, migrated_template: str, tmp_path: Path) -> None:
    """Every way in which money goes from consumer to consumer, in any order, and audited at the end of each history."""
    with asyncio.Runner() as runner:
        opened = new_town(postgres, migrated_template, tmp_path)
        WalletMachine.world = World(runner, runner.run(opened.__aenter__()))
        try:
            run_state_machine_as_test(
                WalletMachine,
                settings=settings(
                    max_examples=15,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
