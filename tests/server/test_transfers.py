"""Transfer, as an app sees it: paid at once and once, or refused for a reason it can act on, with nothing changed."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from domain.limits import DAILY_LIMIT_MICROS
from domain.money import MAX_MICROS
from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1.consumer_pb2 import GetLimitsRequest
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, Transaction
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest
from sandbox.postgres import Postgres
from storage import rates
from storage.rates import EUR_USD, Rate
from tests.books import DOLLAR, FEE, books_of

from .conftest import Metadata, consumer, fill_pool, refused, service, serving, wallet_settings
from .people import Person, Town, new_town, transfer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob")


async def test_a_transfer_answers_with_all_an_app_shows(town: Town, ann: Person, bob: Person) -> None:
    """The app needs no second call: transaction, fee, and the balance after it with its version."""
    request = transfer(bob.id, 5 * DOLLAR, memo="lunch ☕")
    answer = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    shown: Transaction = answer.transaction
    assert uuid.UUID(shown.id).version == 7
    assert shown.kind == transaction_pb2.TRANSACTION_KIND_TRANSFER
    assert shown.state == transaction_pb2.TRANSACTION_STATE_COMPLETED
    assert shown.direction == transaction_pb2.DIRECTION_OUT
    assert (shown.amount.asset, shown.amount.micros) == ("USDC", 5 * DOLLAR)
    assert (shown.fee.asset, shown.fee.micros) == ("USDC", FEE)
    assert (shown.memo, shown.request_id) == ("lunch ☕", request.request_id)
    assert shown.counterparty.consumer_id == str(bob.id)
    assert shown.settlement_state == transaction_pb2.SETTLEMENT_STATE_PENDING
    (settlement,) = shown.settlements
    assert (settlement.state, settlement.amount.micros, settlement.attempts) == (
        transaction_pb2.SETTLEMENT_STATE_PENDING,
        5 * DOLLAR,
        0,
    )
    assert abs(shown.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(seconds=30)
    assert (answer.balance.available_micros, answer.balance.version) == (95 * DOLLAR - FEE, 2)
    assert not answer.replayed


async def test_the_recipient_has_the_money_when_the_call_returns(town: Town, ann: Person, bob: Person) -> None:
    """That is what "instant" means: it can be spent before any chain has heard of it."""
    await town.pay(ann, bob, 5 * DOLLAR)
    assert (await town.balance(bob)).available_micros == 5 * DOLLAR
    await town.pay(bob, ann, 5 * DOLLAR - FEE)
    assert (await town.balance(ann)).available_micros == 100 * DOLLAR - 2 * FEE
    assert (await town.balance(bob)).available_micros == 0


@pytest.mark.parametrize(
    "named",
    [
        lambda bob: Recipient(email=bob.email),
        lambda bob: Recipient(email=bob.email.upper()),
        lambda bob: Recipient(phone=bob.phone),
        lambda bob: Recipient(phone=f"{bob.phone[:2]} ({bob.phone[2:5]}) {bob.phone[5:8]}-{bob.phone[8:]}"),
        lambda bob: Recipient(handle=f"@{bob.handle.title()}"),
        lambda bob: Recipient(handle=bob.handle),
        lambda bob: Recipient(consumer_id=str(bob.id).upper()),
    ],
)
async def test_a_recipient_is_found_by_whatever_the_sender_knows(
    town: Town, ann: Person, bob: Person, named: Callable[[Person], Recipient]
) -> None:
    """People know a friend's number or name, and write both in many ways."""
    await town.name(bob)
    await town.wallet.consumers.Transfer(transfer(named(bob), DOLLAR), metadata=ann.token)
    assert (await town.balance(bob)).available_micros == DOLLAR


# --- refusals ---------------------------------------------------------------------------------------------------------


async def _frozen(town: Town, person: Person) -> None:
    await town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=person.id)


Request = Callable[[Person, Person], TransferRequest]

_REFUSALS: dict[str, tuple[Request, grpc.StatusCode]] = {
    "INSUFFICIENT_FUNDS": (lambda _, bob: transfer(bob.id, 100 * DOLLAR), grpc.StatusCode.FAILED_PRECONDITION),
    "LIMIT_EXCEEDED": (lambda _, bob: transfer(bob.id, 1_001 * DOLLAR), grpc.StatusCode.FAILED_PRECONDITION),
    "RECIPIENT_NOT_FOUND": (lambda *_: transfer(uuid.uuid4(), DOLLAR), grpc.StatusCode.NOT_FOUND),
    "SELF_TRANSFER": (lambda ann, _: transfer(ann.id, DOLLAR), grpc.StatusCode.INVALID_ARGUMENT),
    "RATE_TOO_OLD": (lambda _, bob: transfer(bob.id, DOLLAR, asset="EURC"), grpc.StatusCode.UNAVAILABLE),
    "ASSET_UNSUPPORTED": (lambda _, bob: transfer(bob.id, DOLLAR, asset="DOGE"), grpc.StatusCode.INVALID_ARGUMENT),
    "VALIDATION_FAILED": (lambda _, bob: transfer(bob.id, 0), grpc.StatusCode.INVALID_ARGUMENT),
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("reason", _REFUSALS)
async def test_a_refusal_has_its_own_reason_and_changes_nothing(
    town: Town, ann: Person, bob: Person, reason: str, validate_only: bool
) -> None:
    """An app acts on the reason; and a check without effect gives the same one (rule 25)."""
    build, code = _REFUSALS[reason]
    request = build(ann, bob)
    request.validate_only = validate_only
    before = await _everything(town)
    refusal = await refused(town.wallet.consumers.Transfer(request, metadata=ann.token))
    assert (refusal.reason, refusal.code) == (reason, code)
    assert await _everything(town) == before


async def _everything(town: Town) -> list[Any]:
    """All money and all usage, but not the requests: those remember definite refusals."""
    return [
        await town.books.execute("SELECT * FROM stablecoin_balances ORDER BY consumer_id, asset"),
        await town.books.execute("SELECT consumer_id, usage_usd_micros FROM wallets ORDER BY 1"),
        await town.books.execute("SELECT count(*) FROM transactions"),
        await town.books.execute("SELECT count(*) FROM settlement_items"),
    ]


@pytest.mark.parametrize(
    "named",
    [
        Recipient(email="nobody@example.com"),
        Recipient(phone="+14155550000"),
        Recipient(handle="nobody"),
        Recipient(consumer_id=str(uuid.UUID(int=0))),
        Recipient(consumer_id=str(uuid.UUID(int=1))),
    ],
)
async def test_nobody_is_found_by_what_nobody_has(town: Town, ann: Person, named: Recipient) -> None:
    """The operator's own ids are in the same column as consumers' and must not be payable like people."""
    refusal = await refused(town.wallet.consumers.Transfer(transfer(named, DOLLAR), metadata=ann.token))
    assert refusal.reason == "RECIPIENT_NOT_FOUND"
    assert refusal.metadata["field"] == f"recipient.{named.WhichOneof('by')}"


async def test_a_contact_that_is_none_is_an_error_of_its_field(town: Town, ann: Person) -> None:
    """Mistyped and unknown are two different things to tell a user."""
    request = transfer(Recipient(phone="+0 (000) 000"), DOLLAR)
    refusal = await refused(town.wallet.consumers.Transfer(request, metadata=ann.token))
    assert refusal.reason == "VALIDATION_FAILED"
    (violation,) = refusal.detail(error_details_pb2.BadRequest).field_violations
    assert violation.field == "recipient.phone"


async def test_frozen_wallets_neither_send_nor_receive(town: Town, ann: Person, bob: Person) -> None:
    """Each side is told in its own words: the sender's own wallet, or the recipient's."""
    await _frozen(town, bob)
    out = await refused(town.wallet.consumers.Transfer(transfer(ann.id, DOLLAR), metadata=bob.token))
    into = await refused(town.wallet.consumers.Transfer(transfer(bob.id, DOLLAR), metadata=ann.token))
    assert (out.reason, into.reason) == ("CONSUMER_FROZEN", "RECIPIENT_FROZEN")
    assert "consumer_id" not in into.metadata


async def test_a_refusal_for_want_of_funds_says_what_is_there_and_what_it_takes(
    town: Town, ann: Person, bob: Person
) -> None:
    """The fee counts: 100 dollars do not pay 100 dollars."""
    refusal = await refused(town.wallet.consumers.Transfer(transfer(bob.id, 100 * DOLLAR), metadata=ann.token))
    assert refusal.metadata == {
        "asset": "USDC",
        "available_micros": str(100 * DOLLAR),
        "required_micros": str(100 * DOLLAR + FEE),
    }


async def test_a_refusal_for_the_limit_carries_what_get_limits_says(town: Town, ann: Person, bob: Person) -> None:
    """Remaining and reset time stand in the error, so that the app need not ask again and be overtaken."""
    await town.pay(ann, bob, 10 * DOLLAR)
    refusal = await refused(town.wallet.consumers.Transfer(transfer(bob.id, 995 * DOLLAR), metadata=ann.token))
    assert refusal.reason == "LIMIT_EXCEEDED"
    limits = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    assert limits.used_usd_micros == 10 * DOLLAR
    assert refusal.metadata == {
        "kyc_level": str(limits.kyc_level),
        "daily_limit_usd_micros": str(limits.daily_limit_usd_micros),
        "used_usd_micros": str(limits.used_usd_micros),
        "remaining_usd_micros": str(limits.remaining_usd_micros),
        "requested_usd_micros": str(995 * DOLLAR),
        "reset_time": limits.reset_time.ToDatetime(UTC).isoformat(),
    }
    assert refusal.detail(error_details_pb2.QuotaFailure).violations


async def test_euros_count_at_the_reference_rate_and_only_while_it_is_fresh(
    town: Town, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit in dollars cannot judge euros by a rate of last week: it fails closed, with the rate's age."""
    monkeypatch.setattr("server.services.rates.REREAD_SECONDS", 0.0)
    eva = await town.settle_in("eva", EURC=2_000 * DOLLAR)
    now = datetime.now(UTC)
    await _set_rate(town, Rate(1_100_000, now - timedelta(days=2)))
    stale = await refused(town.pay(eva, bob, 10 * DOLLAR, asset="EURC"))
    assert stale.reason == "RATE_TOO_OLD"
    assert stale.metadata["rate_time"] == (now - timedelta(days=2)).isoformat()
    await _set_rate(town, Rate(1_100_000, now))
    await town.pay(eva, bob, 10 * DOLLAR, asset="EURC")
    limits = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=eva.token)
    assert limits.used_usd_micros == 11 * DOLLAR
    over = await refused(town.pay(eva, bob, 900 * DOLLAR, asset="EURC"))
    assert over.reason == "LIMIT_EXCEEDED"
    assert over.metadata["requested_usd_micros"] == str(990 * DOLLAR)


async def _set_rate(town: Town, rate: Rate) -> None:
    async with town.books.engine.begin() as tx:
        await rates.set_rate(tx, EUR_USD, rate, source="test", now=datetime.now(UTC))


# --- request ids ------------------------------------------------------------------------------------------------------


async def test_rule_22_a_replay_gets_the_first_answer_and_moves_nothing(town: Town, ann: Person, bob: Person) -> None:
    """A client that lost the answer asks again and cannot tell the difference, but for `replayed`."""
    request = transfer(bob.id, 5 * DOLLAR, memo="once")
    first = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    await town.pay(ann, bob, DOLLAR)
    again = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    assert again.replayed
    again.replayed = False
    assert again == first
    assert (await town.balance(bob)).available_micros == 6 * DOLLAR


async def test_rule_22_a_replay_is_answered_though_the_handle_is_gone(town: Town, ann: Person, bob: Person) -> None:
    """What the sender knew then may point at nobody now, or at a stranger: the money went where it went."""
    await town.name(bob)
    request = transfer(Recipient(handle=bob.handle), 5 * DOLLAR)
    await town.wallet.consumers.Transfer(request, metadata=ann.token)
    await town.books.execute("UPDATE consumers SET handle = NULL WHERE id = :id", id=bob.id)
    again = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    assert again.replayed
    assert again.transaction.counterparty.consumer_id == str(bob.id)
    carol = await town.settle_in("carol")
    await town.name(replace(carol, handle=bob.handle))
    again = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    assert again.transaction.counterparty.consumer_id == str(bob.id)
    assert (await town.balance(carol)).available_micros == 0


@pytest.mark.parametrize(
    "changed", [{"micros": 6 * DOLLAR}, {"memo": "another"}, {"asset": "USDT"}, {"recipient": "email"}]
)
async def test_rule_22_the_same_id_with_another_body_is_refused(
    town: Town, ann: Person, bob: Person, changed: dict[str, Any]
) -> None:
    """The fields as sent are compared: even the same person named in another way is another request."""
    request_id = str(uuid.uuid4()).upper()
    await town.wallet.consumers.Transfer(transfer(bob.id, 5 * DOLLAR, request_id=request_id), metadata=ann.token)
    body: dict[str, Any] = {"micros": 5 * DOLLAR, "request_id": request_id, **changed}
    to = Recipient(email=bob.email) if body.pop("recipient", None) else bob.id
    refusal = await refused(town.wallet.consumers.Transfer(transfer(to, **body), metadata=ann.token))
    assert (refusal.reason, refusal.code) == ("IDEMPOTENCY_KEY_REUSED", grpc.StatusCode.ALREADY_EXISTS)
    assert refusal.metadata == {"request_id": request_id}
    assert (await town.balance(bob)).available_micros == 5 * DOLLAR


async def test_rule_22_the_case_of_an_id_makes_no_difference(town: Town, ann: Person, bob: Person) -> None:
    """A UUID is a number, however a library writes it."""
    request = transfer(bob.id, DOLLAR, request_id="0190A0B0-0000-7000-8000-00000000000a")
    await town.wallet.consumers.Transfer(request, metadata=ann.token)
    request.request_id = request.request_id.lower()
    assert (await town.wallet.consumers.Transfer(request, metadata=ann.token)).replayed


async def test_rule_22_a_definite_refusal_is_remembered_and_others_are_not(
    town: Town, ann: Person, bob: Person
) -> None:
    """Funds and limits are decisions; an unknown recipient or a stale rate may be another story a minute later."""
    poor = transfer(ann.id, DOLLAR)
    assert (await refused(town.wallet.consumers.Transfer(poor, metadata=bob.token))).reason == "INSUFFICIENT_FUNDS"
    dora = await town.settle_in("dora")
    early = transfer(Recipient(handle=dora.handle), DOLLAR)
    assert (await refused(town.wallet.consumers.Transfer(early, metadata=ann.token))).reason == "RECIPIENT_NOT_FOUND"
    await town.pay(ann, bob, 10 * DOLLAR)
    await town.name(dora)
    again = await refused(town.wallet.consumers.Transfer(poor, metadata=bob.token))
    assert (again.reason, again.metadata["available_micros"]) == ("INSUFFICIENT_FUNDS", "0")
    await town.wallet.consumers.Transfer(early, metadata=ann.token)
    assert (await town.balance(dora)).available_micros == DOLLAR


async def test_rule_22_a_services_ids_are_apart_from_the_consumers_own(town: Town, ann: Person, bob: Person) -> None:
    """Two backends and an app may choose the same id for different things without knowing of each other."""
    request = transfer(bob.id, DOLLAR)
    callers: list[tuple[TransferRequest, Metadata]] = [(request, ann.token)]
    for name in ("payroll", "loyalty"):
        named = transfer(bob.id, DOLLAR, request_id=request.request_id, consumer_id=str(ann.id))
        callers.append((named, service(name)))
    for message, token in callers:
        assert not (await town.wallet.consumers.Transfer(message, metadata=token)).replayed
    for message, token in callers:
        assert (await town.wallet.consumers.Transfer(message, metadata=token)).replayed
    assert (await town.balance(bob)).available_micros == 3 * DOLLAR


async def test_rule_22_fifty_calls_with_one_id_pay_once(town: Town, ann: Person, bob: Person) -> None:
    """A retry storm over real gRPC is one payment."""
    request = transfer(bob.id, DOLLAR)
    answers = await asyncio.gather(*(town.wallet.consumers.Transfer(request, metadata=ann.token) for _ in range(50)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 49
    assert len({answer.transaction.id for answer in answers}) == 1
    assert (await town.balance(bob)).available_micros == DOLLAR


async def test_rule_21_a_call_that_ran_out_of_our_time_is_told_as_unknown(town: Town, ann: Person, bob: Person) -> None:
    """Its commit may be under way: told as dropped, the client would pay again under a new id."""
    folder = Path(town.wallet.settings.sealing_keys_file or "").parent
    settings = wallet_settings(town.books.url, folder, default_deadline_seconds=0.5)
    async with serving(settings) as wallet:
        await wallet.consumers.Transfer(transfer(bob.id, DOLLAR), metadata=ann.token)
        request = transfer(bob.id, DOLLAR)
        sessions = await town.books.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'monay-committer'"
            " AND datname = current_database()"
        )
        try:
            for (session,) in sessions:
                os.kill(session, signal.SIGSTOP)
            refusal = await refused(wallet.consumers.Transfer(request, metadata=ann.token))
        finally:
            for (session,) in sessions:
                os.kill(session, signal.SIGCONT)
        assert (refusal.reason, refusal.code) == ("STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
        await wallet.consumers.Transfer(request, metadata=ann.token)
        assert (await town.balance(bob)).available_micros == 2 * DOLLAR


# --- without effect ---------------------------------------------------------------------------------------------------


async def test_rule_25_a_check_tells_the_fee_and_the_balance_and_uses_no_id(
    town: Town, ann: Person, bob: Person
) -> None:
    """The confirmation screen shows what will happen; then the same id makes it happen."""
    request = transfer(bob.id, 5 * DOLLAR, validate_only=True)
    told = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    assert told.transaction.id == ""
    assert not told.transaction.HasField("create_time")
    assert (told.balance.version, (await town.balance(ann)).version) == (1, 1)
    request.validate_only = False
    done = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    assert not done.replayed
    assert told.fee == done.fee
    assert told.balance.available_micros == done.balance.available_micros
    request.validate_only = True
    assert (await town.wallet.consumers.Transfer(request, metadata=ann.token)).transaction == done.transaction


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_money_is_sent_from_ones_own_wallet_only(town: Town, ann: Person, bob: Person) -> None:
    """A consumer's token reaches that consumer's wallet, whatever the request says."""
    request = transfer(bob.id, DOLLAR, consumer_id=str(ann.id))
    assert (await refused(town.wallet.consumers.Transfer(request, metadata=bob.token))).reason == "NOT_YOUR_WALLET"
    read_only = consumer(ann.id, scope="wallet:read")
    assert (await refused(town.wallet.consumers.Transfer(request, metadata=read_only))).reason == "SCOPE_MISSING"
    await town.wallet.consumers.Transfer(request, metadata=service())


async def test_a_service_that_names_nobody_is_told_so(town: Town, bob: Person) -> None:
    """A backend with a wrong id in its database finds out, without a request id being used up."""
    request = transfer(bob.id, DOLLAR, consumer_id=str(uuid.uuid4()))
    assert (await refused(town.wallet.consumers.Transfer(request, metadata=service()))).reason == "CONSUMER_NOT_FOUND"


async def test_the_recipient_sees_the_same_transaction_from_its_own_side(town: Town, ann: Person, bob: Person) -> None:
    """The fee is shown to who pays it and the request id to who sent it; the rest is common."""
    sent = (await town.pay(ann, bob, DOLLAR, memo="for you")).transaction
    answer = await town.wallet.consumers.GetTransaction(
        GetTransactionRequest(transaction_id=sent.id), metadata=bob.token
    )
    got: Transaction = answer.transaction
    assert (got.id, got.memo, got.create_time) == (sent.id, sent.memo, sent.create_time)
    assert got.direction == transaction_pb2.DIRECTION_IN
    assert (got.fee.micros, got.request_id) == (0, "")
    assert got.counterparty.consumer_id == str(ann.id)


async def test_limits_tell_what_each_level_allows_and_takes(town: Town, ann: Person) -> None:
    """An app shows the next step of the ladder beside what is left of this one."""
    limits = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    assert (limits.kyc_level, limits.daily_limit_usd_micros) == (1, DAILY_LIMIT_MICROS[1])
    assert (limits.used_usd_micros, limits.remaining_usd_micros) == (0, DAILY_LIMIT_MICROS[1])
    assert {tier.kyc_level: tier.daily_limit_usd_micros for tier in limits.tiers} == DAILY_LIMIT_MICROS
    assert [bool(tier.required_evidence) for tier in limits.tiers] == [False, True, True]
    assert limits.reset_time.ToDatetime(UTC).time() == datetime.min.time()
    gone = await refused(
        town.wallet.consumers.GetLimits(GetLimitsRequest(consumer_id=str(uuid.uuid4())), metadata=service())
    )
    assert gone.reason == "CONSUMER_NOT_FOUND"


async def test_money_that_a_balance_cannot_hold_is_refused(database: str, tmp_path: Path) -> None:
    """64 bits end. Nobody will ever have so much, and nobody's money wraps around to a debt."""
    async with serving(wallet_settings(database, tmp_path)) as wallet, books_of(database) as books:
        await fill_pool(wallet.settings)
        town = Town(wallet, books)
        ann, bob = await town.settle_in("ann", usdc=100 * DOLLAR), await town.settle_in("bob", usdc=MAX_MICROS - 10)
        refusal = await refused(town.pay(ann, bob, 11))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BALANCE_OVERFLOW")
        assert (await town.balance(ann)).available_micros == 100 * DOLLAR
