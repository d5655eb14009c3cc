"""Payment requests, as both sides' apps see them: somebody asks, and it ends once, paid or not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1 import transfer_pb2 as pb
from monay.wallet.v1.consumer_pb2 import GetLimitsRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest
from sandbox.postgres import Postgres
from tests.books import DOLLAR, FEE

from .conftest import refused, service
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town"), ledger_committers=2) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    """Who is asked, and has the money."""
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    """Who asks, and has a handle."""
    bob = await town.settle_in("bob")
    await town.name(bob)
    return bob


@pytest_asyncio.fixture(loop_scope="module")
async def asked(town: Town, ann: Person, bob: Person) -> pb.PaymentRequest:
    """Bob asks Ann for ten dollars."""
    return (await ask(town, bob, demand(ann))).payment_request


def demand(payer: Person | pb.Recipient, micros: int = 10 * DOLLAR, **fields: Any) -> pb.CreatePaymentRequestRequest:
    """What the payee's app sends."""
    to = payer if isinstance(payer, pb.Recipient) else pb.Recipient(consumer_id=str(payer.id))
    asset = fields.pop("asset", "USDC")
    body = {"request_id": str(uuid.uuid4()), "payer": to, "amount": Money(asset=asset, micros=micros), **fields}
    return pb.CreatePaymentRequestRequest(**body)


def payment(asked: pb.PaymentRequest, **fields: Any) -> pb.PayPaymentRequestRequest:
    """What the payer's app sends."""
    return pb.PayPaymentRequestRequest(**{"request_id": str(uuid.uuid4()), "payment_request_id": asked.id, **fields})


async def ask(town: Town, payee: Person, request: pb.CreatePaymentRequestRequest) -> pb.CreatePaymentRequestResponse:
    answer: pb.CreatePaymentRequestResponse = await town.wallet.consumers.CreatePaymentRequest(
        request, metadata=payee.token
    )
    return answer


async def pay(town: Town, payer: Person, request: pb.PayPaymentRequestRequest) -> pb.PayPaymentRequestResponse:
    answer: pb.PayPaymentRequestResponse = await town.wallet.consumers.PayPaymentRequest(request, metadata=payer.token)
    return answer


async def decline(town: Town, person: Person, asked: pb.PaymentRequest) -> pb.PaymentRequest:
    request = pb.DeclinePaymentRequestRequest(payment_request_id=asked.id)
    answer = await town.wallet.consumers.DeclinePaymentRequest(request, metadata=person.token)
    closed: pb.PaymentRequest = answer.payment_request
    return closed


async def listed(town: Town, person: Person, **filters: Any) -> pb.ListPaymentRequestsResponse:
    answer: pb.ListPaymentRequestsResponse = await town.wallet.consumers.ListPaymentRequests(
        pb.ListPaymentRequestsRequest(**filters), metadata=person.token
    )
    return answer


async def expire(town: Town, asked: pb.PaymentRequest) -> None:
    """As if its time had passed."""
    await town.books.execute(
        "UPDATE payment_requests SET expires_at = now() - interval '1 second' WHERE id = :id", id=asked.id
    )


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_a_request_tells_who_asks_whom_for_what_until_when(town: Town, ann: Person, bob: Person) -> None:
    """Nothing is reserved: no balance changes, and it stays open for a week unless told otherwise."""
    before = await town.balance(ann)
    answer = await ask(town, bob, demand(pb.Recipient(email=ann.email), memo="dinner"))
    asked = answer.payment_request
    assert (asked.payee_id, asked.payer_id, asked.payee_handle) == (str(bob.id), str(ann.id), bob.handle)
    assert (asked.amount.micros, asked.memo, asked.transaction_id) == (10 * DOLLAR, "dinner", "")
    assert asked.state == pb.PAYMENT_REQUEST_STATE_OPEN
    assert asked.expire_time.ToDatetime() - asked.create_time.ToDatetime() == timedelta(days=7)
    assert not asked.HasField("close_time")
    assert not answer.replayed
    assert await town.balance(ann) == before


Build = Callable[[Person, Person], pb.CreatePaymentRequestRequest]

_ASK_REFUSALS: dict[str, tuple[Build, grpc.StatusCode, dict[str, str]]] = {
    "RECIPIENT_NOT_FOUND": (
        lambda *_: demand(pb.Recipient(consumer_id=str(uuid.uuid4()))),
        grpc.StatusCode.NOT_FOUND,
        {"field": "payer.consumer_id"},
    ),
    "SELF_TRANSFER": (lambda _, bob: demand(bob), grpc.StatusCode.INVALID_ARGUMENT, {"field": "payer"}),
    "VALIDATION_FAILED": (lambda ann, _: demand(ann, 0), grpc.StatusCode.INVALID_ARGUMENT, {}),
}


@pytest.mark.parametrize("reason", _ASK_REFUSALS)
async def test_what_cannot_be_asked_is_refused_and_nothing_is_kept(
    town: Town, ann: Person, bob: Person, reason: str
) -> None:
    """A request that nobody could ever pay is of no use to anybody."""
    build, code, facts = _ASK_REFUSALS[reason]
    before = await town.everything()
    refusal = await refused(ask(town, bob, build(ann, bob)))
    assert (refusal.reason, refusal.code, refusal.metadata) == (reason, code, facts)
    assert await town.everything() == before


@pytest.mark.parametrize("days", [-1, 91])
async def test_a_request_expires_in_the_future_and_not_too_far_from_now(
    town: Town, ann: Person, bob: Person, days: int
) -> None:
    """Ninety days at most: nobody remembers what an older one was for."""
    until = Timestamp()
    until.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    refusal = await refused(ask(town, bob, demand(ann, expire_time=until)))
    assert refusal.reason == "VALIDATION_FAILED"
    (violation,) = refusal.detail(error_details_pb2.BadRequest).field_violations
    assert violation.field == "expire_time"


async def test_a_time_that_no_calendar_has_is_an_error_of_its_field(town: Town, ann: Person, bob: Person) -> None:
    """A client's overflow is the client's fault, and no failure of ours."""
    refusal = await refused(ask(town, bob, demand(ann, expire_time=Timestamp(seconds=2**60))))
    assert refusal.reason == "VALIDATION_FAILED"


async def test_a_frozen_wallet_asks_nobody(town: Town, ann: Person, bob: Person) -> None:
    """What an operator stopped does not collect money either."""
    await town.freeze(bob)
    assert (await refused(ask(town, bob, demand(ann)))).reason == "CONSUMER_FROZEN"


async def test_rule_22_asking_again_with_the_same_id_asks_once(town: Town, ann: Person, bob: Person) -> None:
    """A retry gets the same request as it stands now; another body under the id is refused, for every method."""
    request = demand(ann, memo="once")
    first = await ask(town, bob, request)
    again = await ask(town, bob, request)
    assert again.replayed
    assert again.payment_request == first.payment_request
    fixed: dict[str, Any] = {"request_id": request.request_id, "memo": "once"}
    for changed in ({"micros": DOLLAR}, {"memo": "other"}, {"expire_time": Timestamp(seconds=4_000_000_000)}):
        other = demand(ann, **{**fixed, **changed})
        assert (await refused(ask(town, bob, other))).reason == "IDEMPOTENCY_KEY_REUSED"
    transfer = await refused(town.pay(bob, ann, 1, request_id=request.request_id))
    assert transfer.reason == "IDEMPOTENCY_KEY_REUSED"
    assert len((await listed(town, bob)).payment_requests) == 1


async def test_rule_22_a_storm_of_one_id_asks_once(town: Town, ann: Person, bob: Person) -> None:
    """However many of the payee's calls arrive together, the payer sees one line."""
    request = demand(ann)
    answers = await asyncio.gather(*(ask(town, bob, request) for _ in range(10)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 9
    assert len((await listed(town, ann)).payment_requests) == 1


# --- paying -----------------------------------------------------------------------------------------------------------


async def test_paying_is_a_transfer_that_closes_the_request(
    town: Town, ann: Person, bob: Person, asked: pb.PaymentRequest
) -> None:
    """The amount goes to who asked, the fee is the payer's, and it counts towards the payer's limit."""
    answer = await pay(town, ann, payment(asked))
    assert answer.transaction.kind == transaction_pb2.TRANSACTION_KIND_TRANSFER
    assert answer.transaction.payment_request_id == asked.id
    assert (answer.transaction.amount.micros, answer.fee.micros) == (10 * DOLLAR, FEE)
    assert answer.balance.available_micros == 90 * DOLLAR - FEE
    closed = answer.payment_request
    assert (closed.state, closed.transaction_id) == (pb.PAYMENT_REQUEST_STATE_PAID, answer.transaction.id)
    assert closed.HasField("close_time")
    assert (await town.balance(bob)).available_micros == 10 * DOLLAR
    limits = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    assert limits.used_usd_micros == 10 * DOLLAR
    got = await town.wallet.consumers.GetTransaction(
        GetTransactionRequest(transaction_id=answer.transaction.id), metadata=bob.token
    )
    assert got.transaction.payment_request_id == asked.id


async def test_a_request_is_paid_once_however_many_ids_are_used(
    town: Town, ann: Person, bob: Person, asked: pb.PaymentRequest
) -> None:
    """Twenty taps with twenty ids: one pays, the others learn that it is paid."""
    calls = (pay(town, ann, payment(asked)) for _ in range(20))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, pb.PayPaymentRequestResponse) for answer in answers) == 1
    assert (await town.balance(bob)).available_micros == 10 * DOLLAR
    late = await refused(pay(town, ann, payment(asked)))
    assert (late.reason, late.metadata) == ("PAYMENT_REQUEST_CLOSED", {"state": "PAID"})


async def test_rule_22_a_replayed_payment_pays_nothing_again(
    town: Town, ann: Person, bob: Person, asked: pb.PaymentRequest
) -> None:
    """The same id gets the same answer, not that the request is closed: it was this call that closed it."""
    request = payment(asked)
    first = await pay(town, ann, request)
    again = await pay(town, ann, request)
    assert again.replayed
    again.replayed = False
    assert again == first
    other = (await ask(town, bob, demand(ann))).payment_request
    reused = await refused(pay(town, ann, payment(other, request_id=request.request_id)))
    assert reused.reason == "IDEMPOTENCY_KEY_REUSED"


async def _declined(town: Town, ann: Person, _: Person, asked: pb.PaymentRequest) -> None:
    await decline(town, ann, asked)


async def _cancelled(town: Town, _: Person, bob: Person, asked: pb.PaymentRequest) -> None:
    await decline(town, bob, asked)


async def _expired(town: Town, _: Person, __: Person, asked: pb.PaymentRequest) -> None:
    await expire(town, asked)


_ENDS = {"DECLINED": _declined, "CANCELLED": _cancelled, "EXPIRED": _expired}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("state", _ENDS)
async def test_what_has_ended_cannot_be_paid(
    town: Town, ann: Person, bob: Person, asked: pb.PaymentRequest, state: str, validate_only: bool
) -> None:
    """It ends once; the refusal says how it ended, and nothing moves."""
    await _ENDS[state](town, ann, bob, asked)
    before = await town.everything()
    refusal = await refused(pay(town, ann, payment(asked, validate_only=validate_only)))
    assert (refusal.reason, refusal.code) == ("PAYMENT_REQUEST_CLOSED", grpc.StatusCode.FAILED_PRECONDITION)
    assert refusal.metadata == {"state": state}
    assert await town.everything() == before


async def test_only_who_was_asked_can_pay(town: Town, bob: Person, asked: pb.PaymentRequest) -> None:
    """Who asked is told so; a stranger does not learn that there is such a request."""
    stranger = await town.settle_in("stranger", usdc=50 * DOLLAR)
    own = await refused(pay(town, bob, payment(asked)))
    assert (own.reason, own.code) == ("NOT_THE_PAYER", grpc.StatusCode.PERMISSION_DENIED)
    for request in (payment(asked), payment(pb.PaymentRequest(id=str(uuid.uuid4())))):
        refusal = await refused(pay(town, stranger, request))
        assert (refusal.reason, refusal.code) == ("PAYMENT_REQUEST_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


async def test_a_payment_that_is_refused_leaves_the_request_open(town: Town, ann: Person, bob: Person) -> None:
    """Too little money today is no answer to the question; with a new id it can be paid tomorrow."""
    asked = (await ask(town, bob, demand(ann, 150 * DOLLAR))).payment_request
    before = await town.everything()
    assert (await refused(pay(town, ann, payment(asked)))).reason == "INSUFFICIENT_FUNDS"
    assert await town.everything() == before
    await town.pay(await town.settle_in("giver", usdc=100 * DOLLAR), ann, 60 * DOLLAR)
    await pay(town, ann, payment(asked))
    assert (await town.balance(bob)).available_micros == 150 * DOLLAR


async def test_a_payment_is_held_to_the_limit_and_to_flags(town: Town, ann: Person, bob: Person) -> None:
    """Being asked is no way around what holds for every transfer."""
    asked = (await ask(town, bob, demand(ann, 1_001 * DOLLAR))).payment_request
    assert (await refused(pay(town, ann, payment(asked)))).reason == "LIMIT_EXCEEDED"
    euros = (await ask(town, bob, demand(ann, asset="EURC"))).payment_request
    assert (await refused(pay(town, ann, payment(euros)))).reason == "RATE_TOO_OLD"
    await town.freeze(bob)
    assert (await refused(pay(town, ann, payment(asked)))).reason == "RECIPIENT_FROZEN"
    await town.freeze(ann)
    assert (await refused(pay(town, ann, payment(asked)))).reason == "CONSUMER_FROZEN"


async def test_rule_25_a_check_of_a_payment_closes_nothing(town: Town, ann: Person, asked: pb.PaymentRequest) -> None:
    """The confirmation screen shows the fee; then the same id pays."""
    request = payment(asked, validate_only=True)
    told = await pay(town, ann, request)
    assert (told.transaction.id, told.payment_request.state) == ("", pb.PAYMENT_REQUEST_STATE_OPEN)
    request.validate_only = False
    done = await pay(town, ann, request)
    assert not done.replayed
    assert (told.fee, told.balance.available_micros) == (done.fee, done.balance.available_micros)


# --- ending without payment -------------------------------------------------------------------------------------------


async def test_the_payer_declines_and_the_payee_cancels(town: Town, ann: Person, bob: Person) -> None:
    """One rpc, two words for it; saying it again answers the same, and the other side's word comes too late."""
    for person, other, state in (
        (ann, bob, pb.PAYMENT_REQUEST_STATE_DECLINED),
        (bob, ann, pb.PAYMENT_REQUEST_STATE_CANCELLED),
    ):
        asked = (await ask(town, bob, demand(ann))).payment_request
        closed = await decline(town, person, asked)
        assert closed.state == state
        assert closed.HasField("close_time")
        assert await decline(town, person, asked) == closed
        late = await refused(decline(town, other, asked))
        name = pb.PaymentRequestState.Name(state).removeprefix("PAYMENT_REQUEST_STATE_")
        assert (late.reason, late.metadata) == ("PAYMENT_REQUEST_CLOSED", {"state": name})


async def test_what_is_paid_or_expired_is_not_declined(
    town: Town, ann: Person, bob: Person, asked: pb.PaymentRequest
) -> None:
    """It ends once."""
    await pay(town, ann, payment(asked))
    assert (await refused(decline(town, ann, asked))).metadata == {"state": "PAID"}
    other = (await ask(town, bob, demand(ann))).payment_request
    await expire(town, other)
    assert (await refused(decline(town, bob, other))).metadata == {"state": "EXPIRED"}


async def test_of_paying_and_declining_at_once_one_wins(town: Town, ann: Person, bob: Person) -> None:
    """Two devices of one payer, or payer and payee: money moves exactly if the request is shown as paid."""
    for _ in range(10):
        asked = (await ask(town, bob, demand(ann, DOLLAR))).payment_request
        before = (await town.balance(bob)).available_micros
        await asyncio.gather(
            pay(town, ann, payment(asked)),
            decline(town, ann, asked),
            decline(town, bob, asked),
            return_exceptions=True,
        )
        (line,) = (await listed(town, bob, page_size=1)).payment_requests
        paid = line.state == pb.PAYMENT_REQUEST_STATE_PAID
        assert line.id == asked.id
        assert line.state != pb.PAYMENT_REQUEST_STATE_OPEN
        assert (await town.balance(bob)).available_micros - before == (DOLLAR if paid else 0)


async def test_a_stranger_cannot_end_a_request(town: Town, asked: pb.PaymentRequest) -> None:
    """Nor learn that there is one."""
    stranger = await town.settle_in("stranger")
    for id in (asked.id, str(uuid.uuid4())):
        refusal = await refused(decline(town, stranger, pb.PaymentRequest(id=id)))
        assert refusal.reason == "PAYMENT_REQUEST_NOT_FOUND"


# --- listing ----------------------------------------------------------------------------------------------------------


async def test_both_sides_list_a_request_and_nobody_else(town: Town, ann: Person, bob: Person) -> None:
    """Seen from the wallet, what it is asked for comes in and what it asks for goes out."""
    of_ann = (await ask(town, bob, demand(ann))).payment_request
    of_bob = (await ask(town, ann, demand(bob))).payment_request
    stranger = await town.settle_in("stranger")
    everything = [of_bob.id, of_ann.id]
    assert [line.id for line in (await listed(town, ann)).payment_requests] == everything
    assert [line.id for line in (await listed(town, bob)).payment_requests] == everything
    came = await listed(town, ann, direction=transaction_pb2.DIRECTION_IN)
    went = await listed(town, ann, direction=transaction_pb2.DIRECTION_OUT)
    assert [line.id for line in came.payment_requests] == [of_ann.id]
    assert [line.id for line in went.payment_requests] == [of_bob.id]
    assert not (await listed(town, stranger)).payment_requests


async def test_a_list_is_filtered_by_the_state_at_the_time_of_reading(town: Town, ann: Person, bob: Person) -> None:
    """What expired a moment ago is expired, though nobody was there to write it down."""
    made = {name: (await ask(town, bob, demand(ann))).payment_request for name in ("open", *_ENDS, "PAID")}
    for name, end in _ENDS.items():
        await end(town, ann, bob, made[name])
    await pay(town, ann, payment(made["PAID"]))
    for name in made:
        state = pb.PaymentRequestState.Value(f"PAYMENT_REQUEST_STATE_{name.upper()}")
        (line,) = (await listed(town, ann, states=[state])).payment_requests
        assert (line.id, line.state) == (made[name].id, state)
    both = [pb.PAYMENT_REQUEST_STATE_OPEN, pb.PAYMENT_REQUEST_STATE_EXPIRED]
    assert len((await listed(town, ann, states=both)).payment_requests) == 2
    (expired,) = (await listed(town, ann, states=[pb.PAYMENT_REQUEST_STATE_EXPIRED])).payment_requests
    assert expired.close_time == expired.expire_time


async def test_a_list_comes_in_pages_that_neither_repeat_nor_hide(town: Town, ann: Person, bob: Person) -> None:
    """What is asked meanwhile stands before the first page, and a token belongs to its own list."""
    sides = [(bob, ann), (ann, bob)] * 4
    made = [(await ask(town, payee, demand(payer))).payment_request.id for payee, payer in sides]
    first = await listed(town, ann, page_size=3)
    await ask(town, bob, demand(ann))
    second = await listed(town, ann, page_size=3, page_token=first.next_page_token)
    third = await listed(town, ann, page_size=3, page_token=second.next_page_token)
    seen = [line.id for page in (first, second, third) for line in page.payment_requests]
    assert seen == made[::-1]
    assert third.next_page_token == ""
    for person, filters in (
        (bob, {"page_size": 3}),
        (ann, {"direction": transaction_pb2.DIRECTION_IN}),
    ):
        refusal = await refused(listed(town, person, page_token=first.next_page_token, **filters))
        assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_a_service_acts_for_whom_it_names(town: Town, ann: Person, bob: Person) -> None:
    """And is told when nobody has that id."""
    nobody = str(uuid.uuid4())
    consumers = town.wallet.consumers
    made = await consumers.CreatePaymentRequest(demand(ann, consumer_id=str(bob.id)), metadata=service())
    paid = await consumers.PayPaymentRequest(payment(made.payment_request, consumer_id=str(ann.id)), metadata=service())
    assert paid.payment_request.state == pb.PAYMENT_REQUEST_STATE_PAID
    for call in (
        consumers.CreatePaymentRequest(demand(ann, consumer_id=nobody), metadata=service()),
        consumers.ListPaymentRequests(pb.ListPaymentRequestsRequest(consumer_id=nobody), metadata=service()),
    ):
        assert (await refused(call)).reason == "CONSUMER_NOT_FOUND"
