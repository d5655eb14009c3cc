"""The bank rail as apps and operators see it: instructions, history, the stream, and what waits for a person."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain import money as domain_money
from domain.clock import SystemClock
from monay.wallet.v1 import consumer_pb2, operations_service_pb2, provider_pb2, transaction_pb2, transfer_pb2
from monay.wallet.v1.money_pb2 import Money
from providers.custodian import OrderState
from sandbox.postgres import Postgres
from server.services.bank_accounts import LINK_JOB
from server.workers.bank_links import link_handler
from server.workers.bank_rail import BankRailWorker
from server.workers.jobs import JobWorker
from storage.bank_accounts import BankAccounts
from storage.sealing import KeyRing
from tests.books import DOLLAR, ENTROPY, FEE
from tests.workers.simulated_bank import SimulatedBank

from .conftest import operator, refused, service
from .operators import acts_on
from .people import Person, Town, new_town
from .test_watch_transactions import watching

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOAT = 100_000 * DOLLAR
States = operations_service_pb2.BankTransferState
PENDING, UNKNOWN = States.BANK_TRANSFER_STATE_PENDING, States.BANK_TRANSFER_STATE_UNKNOWN


@dataclass
class Branch:
    """A town with a bank, and the worker that goes between them."""

    town: Town
    bank: SimulatedBank
    worker: BankRailWorker
    jobs: JobWorker

    async def round(self) -> None:
        """Everything there is to do, whatever was to wait for its time."""
        await self.town.books.execute("UPDATE bank_links SET not_before = NULL")
        await self.town.books.execute("UPDATE bank_payouts SET not_before = NULL WHERE not_before IS NOT NULL")
        while await self.jobs.step():
            pass
        await self.worker.step(woken=True)

    async def link(self, person: Person) -> str:
        """An account that is ready to be used."""
        request = consumer_pb2.LinkBankAccountRequest(
            request_id=str(uuid.uuid4()),
            holder_name="Ann Example",
            bank_name="First Bank",
            us=consumer_pb2.UsBankNumber(account_number="000123456789", routing_number="021000021"),
            holder_address=consumer_pb2.PostalAddress(
                line1="1 Main St", city="Boston", postal_code="02201", country="US"
            ),
        )
        answer = await self.town.wallet.consumers.LinkBankAccount(request, metadata=person.token)
        await self.round()
        self.bank.accept_links()
        await self.round()
        account: str = answer.bank_account.id
        return account

    async def instructions(self, person: Person, **fields: Any) -> transfer_pb2.DepositResponse:
        request = transfer_pb2.DepositRequest(
            request_id=str(uuid.uuid4()),
            amount=Money(asset="USDC", micros=0),
            source=transfer_pb2.DEPOSIT_SOURCE_BANK,
            **fields,
        )
        answer: transfer_pb2.DepositResponse = await self.town.wallet.consumers.Deposit(request, metadata=person.token)
        return answer

    async def withdraw(self, person: Person, account: str, micros: int) -> transfer_pb2.WithdrawResponse:
        request = transfer_pb2.WithdrawRequest(
            request_id=str(uuid.uuid4()), amount=Money(asset="USDC", micros=micros), bank_account_id=account
        )
        answer: transfer_pb2.WithdrawResponse = await self.town.wallet.consumers.Withdraw(
            request, metadata=person.token
        )
        return answer

    async def history(self, person: Person) -> list[transaction_pb2.Transaction]:
        request = transaction_pb2.ListTransactionsRequest()
        answer = await self.town.wallet.consumers.ListTransactions(request, metadata=person.token)
        return list(answer.transactions)

    async def listed(self, **filters: Any) -> list[operations_service_pb2.BankTransfer]:
        request = operations_service_pb2.ListBankTransfersRequest(**filters)
        answer = await self.town.wallet.operations.ListBankTransfers(request, metadata=operator())
        return list(answer.bank_transfers)

    async def lost_for_a_day(self, person: Person, account: str, micros: int) -> str:
        """A payout that nobody has heard of for more than a day; its id."""
        self.bank.faults.lose_orders = 1
        await self.withdraw(person, account, micros)
        await self.round()
        [[payout_id]] = await self.town.books.execute(
            "UPDATE bank_payouts SET ordered_at = ordered_at - interval '25 hours'"
            " WHERE micros = :micros AND state = 'STARTED' RETURNING id",
            micros=micros,
        )
        await self.round()
        return str(payout_id)

    async def resolve(self, payout_id: str, reference: str = "") -> operations_service_pb2.BankTransfer:
        request = operations_service_pb2.ResolvePayoutRequest(
            payout_id=payout_id, provider_reference=reference, reason="looked in the console"
        )
        answer = await self.town.wallet.operations.ResolvePayout(request, metadata=operator("maria"))
        found: operations_service_pb2.BankTransfer = answer.payout
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def branch(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Branch]:
    settings: dict[str, Any] = {"provider_health_max_age_seconds": 3600}
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town"), **settings) as town:
        clock = SystemClock()
        bank = SimulatedBank(clock, standing=FLOAT)
        accounts = BankAccounts(KeyRing.read(town.wallet.settings.sealing_keys(), entropy=ENTROPY))
        engine = town.books.engine
        worker = BankRailWorker(
            engine=engine, writer=town.books.writer, bank=bank, accounts=accounts, clock=clock, entropy=ENTROPY
        )
        handler = link_handler(engine=engine, accounts=accounts, clock=clock, entropy=ENTROPY)
        yield Branch(town, bank, worker, JobWorker(engine=engine, handlers={LINK_JOB: handler}, clock=clock))


@pytest_asyncio.fixture(loop_scope="module")
async def ann(branch: Branch) -> Person:
    await branch.town.books.execute("DELETE FROM provider_health")
    await branch.town.books.execute(
        "INSERT INTO provider_health VALUES ('circle', true, 'closed', false, 5, 1000000, '', :at)",
        at=datetime.now(UTC),
    )
    return await branch.town.settle_in("ann", usdc=500 * DOLLAR)


async def test_a_deposit_by_bank_says_where_to_send_it_and_what_it_has_to_say(branch: Branch, ann: Person) -> None:
    """The reference is the consumer's own, because it is the linked account's."""
    await branch.link(ann)
    bob = await branch.town.settle_in("bob")
    await branch.link(bob)
    told, others = await branch.instructions(ann), await branch.instructions(bob)
    assert told.WhichOneof("instructions") == "bank"
    assert (told.bank.beneficiary_name, told.bank.bank_name) == ("THE OPERATOR", "FIRST BANK")
    assert (told.bank.account_number, told.bank.routing_number) == ("11111111111", "121000248")
    assert told.bank.reference
    assert told.bank.reference != others.bank.reference
    assert (told.route.provider, told.route.rail) == ("circle", "mint")
    assert told.route.reasons == [provider_pb2.ROUTE_REASON_ONLY_ROUTE]


async def test_without_a_linked_account_only_the_chain_is_left(branch: Branch, ann: Person) -> None:
    """A bank that was asked for is refused by name; where anything goes, it is not even considered."""
    refusal = await refused(branch.instructions(ann))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "BANK_ACCOUNT_NOT_FOUND")
    request = transfer_pb2.DepositRequest(request_id=str(uuid.uuid4()), amount=Money(asset="USDC", micros=DOLLAR))
    assert (await refused(branch.town.wallet.consumers.Deposit(request, metadata=ann.token))).reason == "NO_ROUTE"


async def test_a_wire_shows_as_a_deposit_from_the_bank_account(branch: Branch, ann: Person) -> None:
    """Net of what the provider kept, which shows as its fee; in the stream as in the history."""
    account = await branch.link(ann)
    reference = (await branch.instructions(ann)).bank.reference
    async with watching(branch.town, ann) as stream:
        branch.bank.wire(80 * DOLLAR, tracking=reference, fee=2 * DOLLAR)
        await branch.round()
        event = await stream.event()
    [newest, *_] = await branch.history(ann)
    for shown in (newest, event):
        assert shown.kind == transaction_pb2.TRANSACTION_KIND_DEPOSIT
        assert shown.direction == transaction_pb2.DIRECTION_IN
        assert (shown.amount.micros, shown.fee.micros) == (78 * DOLLAR, 2 * DOLLAR)
        assert shown.counterparty.bank_account_id == account
        assert shown.settlement_state == transaction_pb2.SETTLEMENT_STATE_PENDING
    assert (await branch.town.balance(ann)).available_micros == 578 * DOLLAR


async def test_a_payout_and_its_return_are_told_step_by_step(branch: Branch, ann: Person) -> None:
    """PENDING, COMPLETED, and a REVERSAL that names what it undoes; read later, the withdrawal is REVERSED."""
    account = await branch.link(ann)
    async with watching(branch.town, ann) as stream:
        answer = await branch.withdraw(ann, account, 40 * DOLLAR)
        assert (answer.route.provider, answer.route.rail, answer.fee.micros) == ("circle", "mint", FEE)
        assert answer.transaction.counterparty.bank_account_id == account
        await branch.round()
        branch.bank.end_payouts(OrderState.COMPLETE)
        await branch.round()
        branch.bank.send_back()
        await branch.round()
        held, paid, reversal = [await stream.event() for _ in range(3)]
    states = transaction_pb2.TransactionState
    assert (held.id, held.state) == (answer.transaction.id, states.TRANSACTION_STATE_PENDING)
    assert (paid.id, paid.state) == (answer.transaction.id, states.TRANSACTION_STATE_COMPLETED)
    assert reversal.kind == transaction_pb2.TRANSACTION_KIND_REVERSAL
    assert (reversal.direction, reversal.amount.micros) == (transaction_pb2.DIRECTION_IN, 40 * DOLLAR)
    assert reversal.original_transaction_id == answer.transaction.id
    assert reversal.state == states.TRANSACTION_STATE_COMPLETED
    shown = {one.id: one.state for one in await branch.history(ann)}
    assert shown[answer.transaction.id] == states.TRANSACTION_STATE_REVERSED
    assert shown[reversal.id] == states.TRANSACTION_STATE_COMPLETED
    assert (await branch.town.balance(ann)).available_micros == 500 * DOLLAR - FEE


async def test_a_failed_payout_is_told_and_given_back(branch: Branch, ann: Person) -> None:
    """The hold is released, and the reason is the operators' to read."""
    account = await branch.link(ann)
    answer = await branch.withdraw(ann, account, 41 * DOLLAR)
    await branch.round()
    branch.bank.end_payouts(OrderState.FAILED, reason="invalid_bank_account_number")
    await branch.round()
    [newest, *_] = await branch.history(ann)
    assert (newest.id, newest.state) == (answer.transaction.id, transaction_pb2.TRANSACTION_STATE_FAILED)
    balance = await branch.town.balance(ann)
    assert (balance.available_micros, balance.held_micros) == (500 * DOLLAR, 0)
    [one, *_] = await branch.listed(states=[States.BANK_TRANSFER_STATE_FAILED])
    assert (one.transaction_id, one.reason) == (answer.transaction.id, "invalid_bank_account_number")
    assert one.direction == transaction_pb2.DIRECTION_OUT


async def test_banks_take_whole_cents_and_reasonable_amounts(branch: Branch, ann: Person) -> None:
    """What no bank would pay is refused before anything is held."""
    account = await branch.link(ann)
    refusal = await refused(branch.withdraw(ann, account, 10 * DOLLAR + 1))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    refusal = await refused(branch.withdraw(ann, account, DOLLAR // 2))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_ROUTE")
    assert (await branch.town.balance(ann)).held_micros == 0


async def test_operators_see_wires_of_nobody_and_what_is_under_way(branch: Branch, ann: Person) -> None:
    """The newest first, in pages; only operators."""
    account = await branch.link(ann)
    branch.bank.wire(9 * DOLLAR, tracking="CIR-UNKNOWN")
    await branch.withdraw(ann, account, 42 * DOLLAR)
    await branch.round()
    [suspended, *_] = await branch.listed(states=[States.BANK_TRANSFER_STATE_SUSPENDED])
    assert (suspended.amount.micros, suspended.tracking_reference) == (9 * DOLLAR, "CIR-UNKNOWN")
    assert (suspended.consumer_id, suspended.needs_operator) == ("", True)
    assert suspended.transaction_id
    [pending, *_] = await branch.listed(states=[PENDING])
    assert (pending.amount.micros, pending.consumer_id, pending.needs_operator) == (42 * DOLLAR, str(ann.id), False)
    assert pending.provider_reference.startswith("payout-")

    every, token = [], ""
    while True:
        request = operations_service_pb2.ListBankTransfersRequest(page_size=2, page_token=token)
        answer = await branch.town.wallet.operations.ListBankTransfers(request, metadata=operator())
        every += [one.id for one in answer.bank_transfers]
        token = answer.next_page_token
        if not token:
            break
    assert every == [one.id for one in await branch.listed()]
    listing = branch.town.wallet.operations.ListBankTransfers
    request = operations_service_pb2.ListBankTransfersRequest()
    assert (await refused(listing(request, metadata=service()))).code == grpc.StatusCode.PERMISSION_DENIED


async def test_rule_4_a_payout_unknown_for_a_day_waits_for_a_person(branch: Branch, ann: Person) -> None:
    """Until then it is nobody's to say; then it is said once, with a name and a reason under it."""
    account = await branch.link(ann)
    branch.bank.faults.lose_orders = 1
    await branch.withdraw(ann, account, 43 * DOLLAR)
    await branch.round()
    [young] = [one for one in await branch.listed(states=[UNKNOWN]) if one.amount.micros == 43 * DOLLAR]
    refusal = await refused(branch.resolve(young.id))
    assert (refusal.reason, refusal.metadata) == ("PAYOUT_NOT_RESOLVABLE", {"state": "STARTED"})
    await branch.round()
    branch.bank.end_payouts(OrderState.COMPLETE)
    await branch.round()

    payout_id = await branch.lost_for_a_day(ann, account, 44 * DOLLAR)
    [waits] = await branch.listed(needs_operator=True, states=[UNKNOWN])
    assert waits.id == payout_id
    assert "a person" in waits.reason
    before = (await branch.town.balance(ann)).available_micros
    for _ in range(2):
        await branch.resolve(payout_id)
    await branch.round()
    assert (await branch.town.balance(ann)).available_micros == before + 44 * DOLLAR + FEE
    [act] = await acts_on(branch.town, payout_id)
    assert (act.action, act.actor, act.facts["reference"]) == ("payout.resolve", "maria", "none")
    assert (await refused(branch.resolve(payout_id, "payout-77"))).reason == "PAYOUT_NOT_RESOLVABLE"
    assert (await refused(branch.resolve(str(uuid.uuid4())))).reason == "PAYOUT_NOT_FOUND"


async def test_rule_4_a_payout_that_was_made_goes_on_under_its_id(branch: Branch, ann: Person) -> None:
    """Two alike, one of them paid by hand: only a person can tell which is ours. Another's id is refused."""
    account = await branch.link(ann)
    payout_id = await branch.lost_for_a_day(ann, account, 45 * DOLLAR)
    [[bank_reference]] = await branch.town.books.execute(
        "SELECT bank_reference FROM bank_payouts WHERE id = :id", id=uuid.UUID(payout_id)
    )
    amount = domain_money.Money(domain_money.Asset.USDC, 45 * DOLLAR)
    taken = (await branch.listed(states=[States.BANK_TRANSFER_STATE_COMPLETED]))[0].provider_reference
    assert (await refused(branch.resolve(payout_id, taken))).reason == "PAYOUT_NOT_RESOLVABLE"
    made = branch.bank.pay_by_hand(bank_reference, amount)
    other = branch.bank.pay_by_hand(bank_reference, amount)
    await branch.round()
    [waits] = await branch.listed(needs_operator=True, states=[UNKNOWN])
    assert "2 payouts" in waits.reason
    shown = await branch.resolve(payout_id, made)
    assert (shown.state, shown.provider_reference) == (PENDING, made)
    branch.bank.end_payouts(OrderState.COMPLETE)
    await branch.round()
    [done] = [one for one in await branch.listed() if one.id == payout_id]
    assert done.state == States.BANK_TRANSFER_STATE_COMPLETED
    assert other != made
