"""Withdraw, as an app sees it: held at once, paid as a transfer where nothing has to leave, or refused."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from eth_utils.address import to_checksum_address

from domain.bank_accounts import BankAccountState, BankDetails
from domain.clock import SystemClock
from domain.identity import ConsumerId
from domain.limits import DAILY_LIMIT_MICROS
from monay.wallet.v1 import provider_pb2, transaction_pb2
from monay.wallet.v1.consumer_pb2 import GetLimitsRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, ListTransactionsRequest
from monay.wallet.v1.transfer_pb2 import TransferRequest, WithdrawRequest, WithdrawResponse
from providers.simulated import SimulatedConfig, SimulatedRail, connect
from sandbox.postgres import Postgres
from server.services.destinations import CHECK_JOB
from server.workers.jobs import JobWorker, destination_handler
from storage.bank_accounts import BankAccount, BankAccounts
from storage.schema import bank_accounts
from storage.sealing import KeyRing
from tests.books import DOLLAR, ENTROPY, FEE

from .conftest import refused, unpacked
from .people import Person, Town, new_town, transfer

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUTSIDE = "0x" + "ab" * 20


@dataclass
class Border:
    """The town's way out: what workers know of Tempo, and a chain whose policies a test decides."""

    town: Town
    rail: SimulatedRail

    async def set_health(
        self, provider: str = "tempo", *, healthy: bool = True, paused: bool = False, age_seconds: int = 0
    ) -> None:
        await self.town.books.execute(
            "INSERT INTO provider_health VALUES (:provider, :healthy, 'closed', :paused, 5, 1000000, '', :at)"
            " ON CONFLICT (provider) DO UPDATE SET healthy = :healthy, paused = :paused, checked_at = :at",
            provider=provider,
            healthy=healthy,
            paused=paused,
            at=datetime.now(UTC) - timedelta(seconds=age_seconds),
        )

    async def withdraw(
        self, person: Person, micros: int, to: str | uuid.UUID = OUTSIDE, **fields: Any
    ) -> WithdrawResponse:
        request = withdrawal(micros, to, **fields)
        answer: WithdrawResponse = await self.town.wallet.consumers.Withdraw(request, metadata=person.token)
        return answer

    async def forget_answers(self) -> None:
        """As if nobody had ever asked about any address."""
        await self.town.books.execute("DELETE FROM destination_checks")
        await self.town.books.execute("DELETE FROM provider_jobs")

    async def state(self, person: Person) -> list[Any]:
        """Everything of a person that a refusal must leave as it was."""
        return [
            await self.town.books.execute(statement, id=person.id)
            for statement in (
                "SELECT * FROM stablecoin_balances WHERE consumer_id = :id ORDER BY asset",
                "SELECT usage_day, usage_usd_micros FROM wallets WHERE consumer_id = :id",
                "SELECT id FROM withdrawals WHERE consumer_id = :id ORDER BY id",
                "SELECT id FROM settlement_items WHERE sender = :id ORDER BY id",
            )
        ]


def withdrawal(
    micros: int, to: str | uuid.UUID = OUTSIDE, *, asset: str = "USDC", request_id: str | None = None, **fields: Any
) -> WithdrawRequest:
    """What an app sends. A UUID as destination is a bank account."""
    request = WithdrawRequest(
        request_id=request_id or str(uuid.uuid4()), amount=Money(asset=asset, micros=micros), **fields
    )
    if isinstance(to, str):
        request.address = to
    else:
        request.bank_account_id = str(to)
    return request


def outsider() -> str:
    """An address nobody has asked about."""
    return "0x" + ENTROPY.token_bytes(20).hex()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    settings = {"provider_health_max_age_seconds": 3600}
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town"), **settings) as town:
        yield town


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def border_post(town: Town) -> AsyncIterator[Border]:
    """A worker that answers whether an address may be paid, on a chain of its own."""
    clock = SystemClock()
    rail = connect(SimulatedConfig(seed=b"border", name="tempo"), clock=clock, entropy=ENTROPY)
    handlers = {CHECK_JOB: destination_handler(town.books.engine, rail.reader, clock)}
    stop = asyncio.Event()
    worker = JobWorker(engine=town.books.engine, handlers=handlers, clock=clock, poll_seconds=0.01)
    running = asyncio.create_task(worker.run(stop))
    yield Border(town, rail)
    stop.set()
    await running


@pytest_asyncio.fixture(loop_scope="module")
async def border(border_post: Border) -> Border:
    """The way out, open."""
    border_post.rail.chain.faults.unreachable = False
    await border_post.set_health()
    return border_post


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


async def test_a_withdrawal_answers_with_the_hold_and_the_way_it_will_go(border: Border, ann: Person) -> None:
    """Amount and fee are held in one commit, and that is when it answers."""
    request = withdrawal(30 * DOLLAR, OUTSIDE, memo="rent")
    answer = await border.town.wallet.consumers.Withdraw(request, metadata=ann.token)
    shown = answer.transaction
    assert shown.kind == transaction_pb2.TRANSACTION_KIND_WITHDRAWAL
    assert shown.state == transaction_pb2.TRANSACTION_STATE_PENDING
    assert shown.direction == transaction_pb2.DIRECTION_OUT
    assert (shown.amount.micros, shown.fee.micros, answer.fee.micros) == (30 * DOLLAR, FEE, FEE)
    assert shown.counterparty.address == to_checksum_address(OUTSIDE)
    assert (shown.memo, shown.request_id) == ("rent", request.request_id)
    assert shown.settlement_state == transaction_pb2.SETTLEMENT_STATE_PENDING
    assert answer.balance.available_micros == 70 * DOLLAR - FEE
    assert answer.balance.held_micros == 30 * DOLLAR + FEE
    assert (answer.route.provider, answer.route.rail, answer.route.fee.micros) == ("tempo", "tempo", FEE)
    assert answer.route.reasons[0] == provider_pb2.ROUTE_REASON_ONLY_ROUTE
    assert [one.provider for one in answer.route.rejected] == ["circle"]
    assert not answer.replayed

    balance = await border.town.balance(ann)
    assert (balance.available_micros, balance.held_micros) == (70 * DOLLAR - FEE, 30 * DOLLAR + FEE)
    assert balance.settling_micros == 0, "nothing is on its way to her"
    found = await border.town.wallet.consumers.GetTransaction(
        GetTransactionRequest(transaction_id=shown.id), metadata=ann.token
    )
    assert found.transaction.route == answer.route
    assert found.transaction.counterparty == shown.counterparty


async def test_held_money_cannot_be_spent(border: Border, ann: Person) -> None:
    """The other half of a hold: what is on its way out is nobody's to send."""
    bob = await border.town.settle_in("bob")
    await border.withdraw(ann, 90 * DOLLAR)
    refusal = await refused(border.town.pay(ann, bob, 20 * DOLLAR))
    assert refusal.reason == "INSUFFICIENT_FUNDS"
    assert refusal.metadata["available_micros"] == str(10 * DOLLAR - FEE)


async def test_a_withdrawal_uses_the_days_limit(border: Border, ann: Person) -> None:
    """It counts like a transfer, without its fee."""
    await border.withdraw(ann, 30 * DOLLAR)
    limits = await border.town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    assert limits.used_usd_micros == 30 * DOLLAR


async def test_a_history_tells_pending_withdrawals_apart(border: Border, ann: Person) -> None:
    """What is still held is what a consumer asks support about."""
    pending = await border.withdraw(ann, 10 * DOLLAR)
    await border.town.pay(ann, await border.town.settle_in("bob"), DOLLAR)
    states = transaction_pb2.TransactionState
    listed = {}
    for state in (
        states.TRANSACTION_STATE_PENDING,
        states.TRANSACTION_STATE_COMPLETED,
        states.TRANSACTION_STATE_FAILED,
    ):
        request = ListTransactionsRequest(states=[state])
        page = await border.town.wallet.consumers.ListTransactions(request, metadata=ann.token)
        listed[state] = [found.kind for found in page.transactions]
        assert all(found.state == state for found in page.transactions)
    assert listed[states.TRANSACTION_STATE_PENDING] == [pending.transaction.kind]
    assert len(listed[states.TRANSACTION_STATE_COMPLETED]) == 2, "the transfer and the deposit"
    assert listed[states.TRANSACTION_STATE_FAILED] == []


# --- destinations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("0x" + "00" * 20, "zero_address"),
        ("0x" + "aB" * 20, "bad_checksum"),
        ("0x58e21090" + "fd" * 10 + "000000000001", "virtual_address"),
        ("0x20c000000000000000000000" + "b9537d11c60e8b50", "token_policy"),
        ("0x20c0000000000000000000000000000000000000", "token_policy"),
        ("0x403c000000000000000000000000000000000000", "token_policy"),
        ("0xfeec000000000000000000000000000000000000", "token_policy"),
        ("0x4e4f4e4345000000000000000000000000000000", "token_policy"),
        ("0x0000000000000000000000000000000000000009", "token_policy"),
        ("0xca11bde05977b3631167028862be2a173976ca11", "token_policy"),
    ],
)
async def test_money_never_goes_where_nobody_can_have_it(border: Border, ann: Person, address: str, cause: str) -> None:
    """Zero, mistyped, virtual, a token or a contract of the protocol: refused with nothing changed, and for ever."""
    before = await border.state(ann)
    request = withdrawal(DOLLAR, address)
    for _ in range(2):
        refusal = await refused(border.town.wallet.consumers.Withdraw(request, metadata=ann.token))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DESTINATION_REFUSED")
        assert refusal.metadata == {"cause": cause}
    assert await border.state(ann) == before


async def test_a_checksum_that_is_right_is_accepted(border: Border, ann: Person) -> None:
    """So is an address in one case only, which carries none."""
    for address in (to_checksum_address(OUTSIDE), OUTSIDE, "0x" + OUTSIDE[2:].upper()):
        await border.withdraw(ann, DOLLAR, address)


async def test_an_address_of_another_consumer_is_paid_as_a_transfer(border: Border, ann: Person) -> None:
    """Money rule 13: nothing has to leave, so it is instant, and no hold is ever left behind."""
    bob = await border.town.settle_in("bob")
    [[address]] = await border.town.books.execute(
        "SELECT tempo_address FROM wallets WHERE consumer_id = :id", id=bob.id
    )
    answer = await border.withdraw(ann, 5 * DOLLAR, to_checksum_address(address), memo="found you")
    assert answer.transaction.kind == transaction_pb2.TRANSACTION_KIND_TRANSFER
    assert answer.transaction.state == transaction_pb2.TRANSACTION_STATE_COMPLETED
    assert answer.transaction.counterparty.consumer_id == str(bob.id)
    assert not answer.HasField("route")
    assert (answer.balance.held_micros, answer.fee.micros) == (0, FEE)
    assert (await border.town.balance(bob)).available_micros == 5 * DOLLAR
    assert await border.town.books.execute("SELECT 1 FROM withdrawals WHERE consumer_id = :id", id=ann.id) == []


async def test_a_wallet_of_ours_at_circle_is_no_place_to_pay_to_on_tempo(border: Border, ann: Person) -> None:
    """Money rule 13: it is on another chain, so a payment there would stand where nobody signs for it."""
    bob = await border.town.settle_in("bob")
    wallets = {outsider(): bob.id, outsider(): ann.id, outsider(): uuid.UUID(int=0), outsider(): None}
    for address, holder in wallets.items():
        await border.town.books.execute(
            "INSERT INTO circle_wallets (reference, address, chain, own, holder_id, created_at, assigned_at)"
            " VALUES (:address, :address, 'ARC-TESTNET', false, :holder, now(),"
            " CASE WHEN CAST(:holder AS uuid) IS NULL THEN NULL ELSE now() END)",
            address=address,
            holder=holder,
        )
    bobs, *others = wallets
    answer = await border.withdraw(ann, 5 * DOLLAR, bobs)
    assert answer.transaction.kind == transaction_pb2.TRANSACTION_KIND_TRANSFER
    assert answer.transaction.counterparty.consumer_id == str(bob.id)
    for address in others:
        refusal = await refused(border.withdraw(ann, DOLLAR, address))
        assert (refusal.reason, refusal.metadata["cause"]) == ("DESTINATION_REFUSED", "own_address")


async def test_addresses_of_ours_that_are_nobodys_or_ones_own_are_refused(border: Border, ann: Person) -> None:
    """Money rule 13: the operator's, an unassigned one of the pool, and the sender's own."""
    execute = border.town.books.execute
    operators = outsider()
    await execute(
        "INSERT INTO tempo_addresses VALUES (:address, :holder, NULL, 'operator', now())",
        address=operators,
        holder=uuid.UUID(int=0),
    )
    [[free]] = await execute("SELECT address FROM tempo_addresses WHERE state = 'free' LIMIT 1")
    [[own]] = await execute("SELECT tempo_address FROM wallets WHERE consumer_id = :id", id=ann.id)
    before = await border.state(ann)
    for address in (operators, free, own):
        refusal = await refused(border.withdraw(ann, DOLLAR, address))
        assert (refusal.reason, refusal.metadata["cause"]) == ("DESTINATION_REFUSED", "own_address")
    assert await border.state(ann) == before


async def test_an_address_that_the_token_forbids_is_refused_before_anything_is_held(
    border: Border, ann: Person
) -> None:
    """The chain's own policy (TIP-403), asked of a worker. It is remembered, also after the policy has changed."""
    forbidden = outsider()
    border.rail.chain.state.forbidden.add(forbidden)
    before = await border.state(ann)
    request = withdrawal(DOLLAR, forbidden)
    refusal = await refused(border.town.wallet.consumers.Withdraw(request, metadata=ann.token))
    assert (refusal.reason, refusal.metadata["cause"]) == ("DESTINATION_REFUSED", "token_policy")
    assert await border.state(ann) == before

    border.rail.chain.state.forbidden.discard(forbidden)
    await border.forget_answers()
    again = await refused(border.town.wallet.consumers.Withdraw(request, metadata=ann.token))
    assert again.metadata["cause"] == "token_policy"
    await border.withdraw(ann, DOLLAR, forbidden)


async def test_an_old_answer_about_an_address_is_asked_anew(border: Border, ann: Person) -> None:
    """Policies change; an answer of yesterday must not let money be held for what can no longer be paid."""
    address = outsider()
    await border.withdraw(ann, DOLLAR, address)
    border.rail.chain.state.forbidden.add(address)
    await border.withdraw(ann, DOLLAR, address)
    await border.town.books.execute(
        "UPDATE destination_checks SET checked_at = checked_at - interval '1 hour' WHERE address = :address",
        address=address,
    )
    await border.town.books.execute("DELETE FROM provider_jobs")
    assert (await refused(border.withdraw(ann, DOLLAR, address))).metadata["cause"] == "token_policy"


async def test_questions_about_addresses_are_not_kept_for_ever(border: Border, ann: Person) -> None:
    """The answer is kept with the address; the job that brought it goes with the next one that finds it old."""
    await border.withdraw(ann, DOLLAR, outsider())
    execute = border.town.books.execute
    [[old]] = await execute(
        "UPDATE provider_jobs SET finished_at = finished_at - interval '2 hours' WHERE kind = :kind"
        " AND id = (SELECT max(id::text)::uuid FROM provider_jobs) RETURNING id",
        kind=CHECK_JOB,
    )
    await border.withdraw(ann, DOLLAR, outsider())
    assert await execute("SELECT 1 FROM provider_jobs WHERE id = :id", id=old) == []


async def test_nobody_who_could_tell_about_an_address_means_try_again(border: Border, ann: Person) -> None:
    """Held money must never wait for an address nobody has looked at; the same id is tried again later."""
    border.rail.chain.faults.unreachable = True
    before = await border.state(ann)
    request = withdrawal(DOLLAR, outsider())
    refusal = await refused(border.town.wallet.consumers.Withdraw(request, metadata=ann.token, timeout=5))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert refusal.metadata == {"provider": "tempo"}
    assert await border.state(ann) == before

    border.rail.chain.faults.unreachable = False
    await border.town.books.execute("DELETE FROM provider_jobs")
    answer = await border.town.wallet.consumers.Withdraw(request, metadata=ann.token)
    assert answer.transaction.state == transaction_pb2.TRANSACTION_STATE_PENDING


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("health", [{"healthy": False}, {"paused": True}, {"age_seconds": 3700}])
async def test_without_a_healthy_way_out_nothing_is_held(border: Border, ann: Person, health: Any) -> None:
    """Down, paused, or nobody watching: NO_ROUTE, which is not remembered, so the same id works once it is back."""
    await border.set_health(**health)
    before = await border.state(ann)
    request = withdrawal(DOLLAR)
    refusal = await refused(border.town.wallet.consumers.Withdraw(request, metadata=ann.token))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_ROUTE")
    assert refusal.metadata == {"asset": "USDC"}
    assert await border.state(ann) == before
    await border.set_health()
    answer = await border.town.wallet.consumers.Withdraw(request, metadata=ann.token)
    assert not answer.replayed


async def test_funds_must_cover_amount_and_fee(border: Border, ann: Person) -> None:
    """The fee is held with the amount, so it has to be there."""
    before = await border.state(ann)
    refusal = await refused(border.withdraw(ann, 100 * DOLLAR))
    assert refusal.reason == "INSUFFICIENT_FUNDS"
    assert refusal.metadata["required_micros"] == str(100 * DOLLAR + FEE)
    assert await border.state(ann) == before
    await border.withdraw(ann, 100 * DOLLAR - FEE)


async def test_the_limit_of_the_level_holds(border: Border) -> None:
    """Level 1 lets a thousand dollars out in a day, whichever way."""
    rich = await border.town.settle_in("rich", usdc=5_000 * DOLLAR)
    await border.withdraw(rich, DAILY_LIMIT_MICROS[1])
    before = await border.state(rich)
    refusal = await refused(border.withdraw(rich, 1))
    assert (refusal.reason, refusal.metadata["remaining_usd_micros"]) == ("LIMIT_EXCEEDED", "0")
    assert await border.state(rich) == before


async def test_a_frozen_wallet_lets_nothing_out(border: Border, ann: Person) -> None:
    """Whatever the way."""
    await border.town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=ann.id)
    before = await border.state(ann)
    assert (await refused(border.withdraw(ann, DOLLAR))).reason == "CONSUMER_FROZEN"
    assert await border.state(ann) == before


async def test_euros_need_a_rate_to_be_counted(border: Border) -> None:
    """Limits fail closed: without a rate nobody knows how much a euro is of a thousand dollars."""
    emma = await border.town.settle_in("emma", EURC=10 * DOLLAR)
    request = withdrawal(DOLLAR, asset="EURC")
    assert (await refused(border.town.wallet.consumers.Withdraw(request, metadata=emma.token))).reason == "RATE_TOO_OLD"
    before = await border.state(emma)
    assert before[2:] == [[], []]


async def test_a_bank_account_has_to_be_the_consumers_and_active(border: Border, ann: Person) -> None:
    """And while no provider reaches banks, none is promised: nothing is held for it."""
    bob = await border.town.settle_in("bob")
    before = await border.state(ann)
    assert (await refused(border.withdraw(ann, DOLLAR, uuid.uuid4()))).reason == "BANK_ACCOUNT_NOT_FOUND"
    pending, active, bobs = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    for account, owner, state in ((pending, ann, "PENDING"), (active, ann, "ACTIVE"), (bobs, bob, "ACTIVE")):
        await _link(border, account, owner, state)
    assert (await refused(border.withdraw(ann, DOLLAR, bobs))).reason == "BANK_ACCOUNT_NOT_FOUND"
    refusal = await refused(border.withdraw(ann, DOLLAR, pending))
    assert (refusal.reason, refusal.metadata) == ("BANK_ACCOUNT_NOT_ACTIVE", {"state": "PENDING"})
    refusal = await refused(border.withdraw(ann, DOLLAR, active))
    assert (refusal.reason, refusal.metadata) == ("NO_ROUTE", {"asset": "USDC"})
    await border.set_health("circle")
    refusal = await refused(border.withdraw(ann, DOLLAR, active))
    assert (refusal.reason, refusal.metadata) == ("NO_ROUTE", {"asset": "USDC"}), "the operator has no float there"
    execute = border.town.books.execute
    await execute(
        "INSERT INTO custody_positions (holder_id, rail, asset, micros) VALUES (:operator, 'mint', 'USDC', 1000000000)",
        operator=uuid.UUID(int=0),
    )
    refusal = await refused(border.withdraw(ann, DOLLAR, active))
    assert (refusal.reason, refusal.metadata) == ("PROVIDER_UNAVAILABLE", {"provider": "circle"}), "it knows no account"
    await execute("DELETE FROM custody_positions WHERE rail = 'mint'")
    await execute("DELETE FROM provider_health WHERE provider = 'circle'")
    assert await border.state(ann) == before


async def _link(border: Border, account: uuid.UUID, owner: Person, state: str) -> None:
    details = BankDetails(
        holder_name="Ann", bank_name="Bank", line1="1", line2="", city="C", district="", postal_code="1", country="US"
    )
    linked = BankAccount(account, ConsumerId(owner.id), details, BankAccountState(state), datetime.now(UTC))
    ring = KeyRing.read(border.town.wallet.settings.sealing_keys(), entropy=ENTROPY)
    values = BankAccounts(ring).sealed(linked, request_key=uuid.uuid4())
    async with border.town.books.engine.begin() as tx:
        await tx.execute(bank_accounts.insert().values(id=account, **values))


# --- once, and as foretold --------------------------------------------------------------------------------------------


async def test_the_same_request_is_held_once(border: Border, ann: Person) -> None:
    """However often it is sent, and from however many places at once."""
    request = withdrawal(10 * DOLLAR)
    stub = border.town.wallet.consumers
    answers = await asyncio.gather(*(stub.Withdraw(request, metadata=ann.token) for _ in range(8)))
    assert len({answer.transaction.id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
    assert len({answer.balance.version for answer in answers}) == 1
    assert (await border.town.balance(ann)).held_micros == 10 * DOLLAR + FEE


async def test_a_replay_asks_nobody_anything(border: Border, ann: Person) -> None:
    """Money rule 22: the stored answer comes first, whatever has become of provider, policy and funds since."""
    address = outsider()
    request = withdrawal(10 * DOLLAR, address)
    first = await border.town.wallet.consumers.Withdraw(request, metadata=ann.token)
    await border.set_health(healthy=False)
    border.rail.chain.state.forbidden.add(address)
    await border.forget_answers()
    again = await border.town.wallet.consumers.Withdraw(request, metadata=ann.token, timeout=5)
    assert again.replayed
    assert again.transaction == first.transaction
    assert (again.balance, again.route, again.fee) == (first.balance, first.route, first.fee)


async def test_a_request_id_is_good_for_one_thing(border: Border, ann: Person) -> None:
    """Also across rpcs: an id that a transfer used cannot withdraw."""
    bob = await border.town.settle_in("bob")
    paid: TransferRequest = transfer(bob.id, DOLLAR)
    await border.town.wallet.consumers.Transfer(paid, metadata=ann.token)
    before = await border.state(ann)
    refusal = await refused(border.withdraw(ann, DOLLAR, request_id=paid.request_id))
    assert refusal.reason == "IDEMPOTENCY_KEY_REUSED"
    first = await border.withdraw(ann, DOLLAR)
    for changed in (2 * DOLLAR, DOLLAR):
        to = OUTSIDE if changed != DOLLAR else outsider()
        refusal = await refused(border.withdraw(ann, changed, to, request_id=first.transaction.request_id))
        assert refusal.reason == "IDEMPOTENCY_KEY_REUSED"
    assert len((await border.state(ann))[2]) == len(before[2]) + 1


@pytest.mark.parametrize("seed", range(40))
async def test_validate_only_answers_what_the_call_would(border: Border, seed: int) -> None:
    """Money rule 25: same fee, route, balance or error, and nothing written, whatever the circumstances."""
    chance = random.Random(seed)
    person = await border.town.settle_in("pat", usdc=chance.choice([0, 50, 2_000]) * DOLLAR)
    if chance.random() < 0.1:
        await border.town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=person.id)
    await border.set_health(healthy=chance.random() < 0.8, paused=chance.random() < 0.1)
    forbidden = outsider()
    border.rail.chain.state.forbidden.add(forbidden)
    bob = await border.town.settle_in("bob")
    [[of_bob]] = await border.town.books.execute("SELECT tempo_address FROM wallets WHERE consumer_id = :id", id=bob.id)
    to = chance.choice([OUTSIDE, OUTSIDE, OUTSIDE, outsider(), forbidden, of_bob, "0x" + "00" * 20, uuid.uuid4()])
    asset = chance.choice(["USDC", "USDC", "USDC", "EURC", "USDT"])
    request = withdrawal(chance.choice([1, 10, 49, 50, 1_001]) * DOLLAR, to, asset=asset)
    if chance.random() < 0.2 and not isinstance(to, uuid.UUID):
        await _outcome(border, person, request)

    before = await border.state(person)
    request.validate_only = True
    foretold = await _outcome(border, person, request)
    assert await border.state(person) == before
    request.validate_only = False
    assert await _outcome(border, person, request) == foretold


async def _outcome(border: Border, person: Person, request: WithdrawRequest) -> Any:
    """What a caller learns, without what only exists once something was written."""
    try:
        answer = await border.town.wallet.consumers.Withdraw(request, metadata=person.token)
    except grpc.aio.AioRpcError as error:
        refusal = unpacked(error)
        return refusal.code, refusal.reason, refusal.metadata
    balance, shown = answer.balance, answer.transaction
    if not answer.replayed:
        for field in ("id", "create_time", "effective_time", "settlements"):
            shown.ClearField(field)
    return (
        (balance.available_micros, balance.held_micros, answer.replayed),
        answer.fee.micros,
        answer.route,
        shown,
    )
