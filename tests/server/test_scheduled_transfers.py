"""Scheduled transfers, as an app sees them: made now for later, listed, cancelled. How they run is in tests/workers."""

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

from monay.wallet.v1 import transfer_pb2 as pb
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.operations_service_pb2 import ErasePersonalDataRequest
from sandbox.postgres import Postgres
from tests.books import DOLLAR, FEE

from .conftest import operator, refused, service
from .people import Person, Town, new_town

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


def later(**delta: float) -> Timestamp:
    """A time from now."""
    time = Timestamp()
    time.FromDatetime((datetime.now(UTC) + timedelta(**(delta or {"days": 1}))).replace(microsecond=0))
    return time


def order(recipient: Person | pb.Recipient, micros: int = 5 * DOLLAR, **fields: Any) -> pb.ScheduleTransferRequest:
    """What an app sends; without more, for tomorrow and once."""
    to = recipient if isinstance(recipient, pb.Recipient) else pb.Recipient(consumer_id=str(recipient.id))
    amount = Money(asset=fields.pop("asset", "USDC"), micros=micros)
    body = {"request_id": str(uuid.uuid4()), "recipient": to, "amount": amount, "start_time": later(), **fields}
    return pb.ScheduleTransferRequest(**body)


async def schedule(town: Town, person: Person, request: pb.ScheduleTransferRequest) -> pb.ScheduleTransferResponse:
    answer: pb.ScheduleTransferResponse = await town.wallet.consumers.ScheduleTransfer(request, metadata=person.token)
    return answer


async def cancel(town: Town, person: Person, id: str) -> pb.ScheduledTransfer:
    request = pb.CancelScheduledTransferRequest(scheduled_transfer_id=id)
    answer = await town.wallet.consumers.CancelScheduledTransfer(request, metadata=person.token)
    cancelled: pb.ScheduledTransfer = answer.scheduled_transfer
    return cancelled


async def listed(town: Town, person: Person, **filters: Any) -> pb.ListScheduledTransfersResponse:
    answer: pb.ListScheduledTransfersResponse = await town.wallet.consumers.ListScheduledTransfers(
        pb.ListScheduledTransfersRequest(**filters), metadata=person.token
    )
    return answer


async def test_a_schedule_tells_what_will_be_paid_and_when(town: Town, ann: Person, bob: Person) -> None:
    """Nothing is reserved; funds and limit are judged when it runs."""
    before = await town.balance(ann)
    request = order(pb.Recipient(email=bob.email), memo="rent", recurrence="FREQ=MONTHLY;COUNT=12")
    answer = await schedule(town, ann, request)
    made = answer.scheduled_transfer
    assert made.recipient.consumer_id == str(bob.id)
    assert (made.amount.micros, made.memo, made.recurrence) == (5 * DOLLAR, "rent", "FREQ=MONTHLY;COUNT=12")
    assert made.state == pb.SCHEDULED_TRANSFER_STATE_ACTIVE
    assert made.start_time == made.next_run_time == request.start_time
    assert (made.run_count, made.last_error, made.last_transaction_id) == (0, 0, "")
    assert not made.HasField("last_run_time")
    assert (answer.fee.micros, answer.replayed) == (FEE, False)
    assert await town.balance(ann) == before
    assert list((await listed(town, ann)).scheduled_transfers) == [made]


async def test_what_costs_more_than_there_is_can_be_scheduled(town: Town, bob: Person) -> None:
    """The salary comes before the rent is due."""
    poor = await town.settle_in("poor")
    made = await schedule(town, poor, order(bob, 50_000 * DOLLAR))
    assert made.scheduled_transfer.state == pb.SCHEDULED_TRANSFER_STATE_ACTIVE


Build = Callable[[Person, Person], pb.ScheduleTransferRequest]

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_REFUSALS: dict[str, tuple[Build, grpc.StatusCode, dict[str, str]]] = {
    "SCHEDULE_INVALID": (
        lambda _, bob: order(bob, start_time=later(seconds=-1)),
        _INVALID,
        {"cause": "start_in_past"},
    ),
    "SCHEDULE_INVALID too often": (
        lambda _, bob: order(bob, recurrence="FREQ=HOURLY"),
        _INVALID,
        {"cause": "frequency"},
    ),
    "SCHEDULE_INVALID no rule": (
        lambda _, bob: order(bob, recurrence="every month"),
        _INVALID,
        {"cause": "recurrence_form"},
    ),
    "RECIPIENT_NOT_FOUND": (
        lambda *_: order(pb.Recipient(consumer_id=str(uuid.uuid4()))),
        grpc.StatusCode.NOT_FOUND,
        {"field": "recipient.consumer_id"},
    ),
    "RECIPIENT_NOT_FOUND handle": (
        lambda *_: order(pb.Recipient(handle="nobody")),
        grpc.StatusCode.NOT_FOUND,
        {"field": "recipient.handle"},
    ),
    "SELF_TRANSFER": (lambda ann, _: order(ann), _INVALID, {"field": "recipient"}),
    "VALIDATION_FAILED": (lambda _, bob: order(bob, 0), _INVALID, {}),
    "VALIDATION_FAILED time": (lambda _, bob: order(bob, start_time=Timestamp(seconds=2**60)), _INVALID, {}),
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("reason", _REFUSALS)
async def test_what_could_never_run_is_refused_at_once(
    town: Town, ann: Person, bob: Person, reason: str, validate_only: bool
) -> None:
    """And not a month later, when nobody looks; a check tells the same (rule 25)."""
    build, code, facts = _REFUSALS[reason]
    request = build(ann, bob)
    request.validate_only = validate_only
    before = await town.everything()
    refusal = await refused(schedule(town, ann, request))
    assert (refusal.reason, refusal.code, refusal.metadata) == (reason.split()[0], code, facts)
    assert await town.everything() == before


async def test_a_frozen_wallet_schedules_nothing(town: Town, ann: Person, bob: Person) -> None:
    """What an operator stopped makes no plans either."""
    await town.freeze(ann)
    assert (await refused(schedule(town, ann, order(bob)))).reason == "CONSUMER_FROZEN"


async def test_rule_22_the_same_id_schedules_once(town: Town, ann: Person, bob: Person) -> None:
    """A retry gets the schedule as it stands now; another body under the id is refused."""
    request = order(bob, memo="rent", recurrence="FREQ=DAILY")
    first = await schedule(town, ann, request)
    answers = await asyncio.gather(*(schedule(town, ann, request) for _ in range(5)))
    assert {answer.replayed for answer in answers} == {True}
    assert {answer.scheduled_transfer.id for answer in answers} == {first.scheduled_transfer.id}
    await cancel(town, ann, first.scheduled_transfer.id)
    again = await schedule(town, ann, request)
    assert again.scheduled_transfer.state == pb.SCHEDULED_TRANSFER_STATE_CANCELLED
    fixed: dict[str, Any] = {"request_id": request.request_id, "start_time": request.start_time}
    for changed in ({"micros": 1}, {"memo": "x"}, {"recurrence": ""}, {"start_time": later(days=2)}):
        other = order(bob, **{"memo": "rent", "recurrence": "FREQ=DAILY", **fixed, **changed})
        assert (await refused(schedule(town, ann, other))).reason == "IDEMPOTENCY_KEY_REUSED"


async def test_rule_22_a_replay_is_answered_when_its_start_is_past(town: Town, ann: Person, bob: Person) -> None:
    """A client that comes back after the first run learns that it was scheduled, not that it is too late."""
    request = order(bob, start_time=later(seconds=2))
    await schedule(town, ann, request)
    await asyncio.sleep(2.1)
    assert (await schedule(town, ann, request)).replayed


async def test_rule_25_a_check_of_a_schedule_makes_none(town: Town, ann: Person, bob: Person) -> None:
    """The confirmation screen shows the fee of each run; then the same id makes it."""
    request = order(bob, validate_only=True)
    told = await schedule(town, ann, request)
    assert (told.scheduled_transfer.id, told.fee.micros) == ("", FEE)
    assert not (await listed(town, ann)).scheduled_transfers
    request.validate_only = False
    done = await schedule(town, ann, request)
    assert not done.replayed
    assert done.scheduled_transfer.next_run_time == told.scheduled_transfer.next_run_time


async def test_the_recipient_is_fixed_when_it_is_scheduled(town: Town, ann: Person, bob: Person) -> None:
    """A handle that changes hands later changes nothing: the rent goes on going to the landlord."""
    await town.name(bob)
    request = order(pb.Recipient(handle=bob.handle))
    await schedule(town, ann, request)
    await town.books.execute("UPDATE consumers SET handle = NULL WHERE id = :id", id=bob.id)
    assert (await schedule(town, ann, request)).scheduled_transfer.recipient.consumer_id == str(bob.id)


async def test_cancelling_stops_it_and_may_be_said_again(town: Town, ann: Person, bob: Person) -> None:
    """Idempotent by nature; what is over cannot be cancelled any more."""
    made = (await schedule(town, ann, order(bob, recurrence="FREQ=DAILY"))).scheduled_transfer
    cancelled = await cancel(town, ann, made.id)
    assert cancelled.state == pb.SCHEDULED_TRANSFER_STATE_CANCELLED
    assert not cancelled.HasField("next_run_time")
    assert await cancel(town, ann, made.id) == cancelled
    over = (await schedule(town, ann, order(bob))).scheduled_transfer
    await town.books.execute(
        "UPDATE scheduled_transfers SET state = 'COMPLETED', next_run_at = NULL WHERE id = :id", id=over.id
    )
    late = await refused(cancel(town, ann, over.id))
    assert (late.reason, late.code) == ("SCHEDULED_TRANSFER_COMPLETED", grpc.StatusCode.FAILED_PRECONDITION)


async def test_only_its_owner_sees_and_cancels_a_schedule(town: Town, ann: Person, bob: Person) -> None:
    """Not the recipient, who learns of it when it pays; a stranger cannot tell it from one that is not there."""
    made = (await schedule(town, ann, order(bob))).scheduled_transfer
    assert not (await listed(town, bob)).scheduled_transfers
    for id in (made.id, str(uuid.uuid4())):
        refusal = await refused(cancel(town, bob, id))
        assert (refusal.reason, refusal.code) == ("SCHEDULED_TRANSFER_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    foreign = order(bob, consumer_id=str(ann.id))
    assert (await refused(schedule(town, bob, foreign))).reason == "NOT_YOUR_WALLET"
    answer = await town.wallet.consumers.ScheduleTransfer(foreign, metadata=service())
    assert answer.scheduled_transfer.state == pb.SCHEDULED_TRANSFER_STATE_ACTIVE
    nobody = pb.ListScheduledTransfersRequest(consumer_id=str(uuid.uuid4()))
    refusal = await refused(town.wallet.consumers.ListScheduledTransfers(nobody, metadata=service()))
    assert refusal.reason == "CONSUMER_NOT_FOUND"


async def test_a_list_of_schedules_comes_in_pages_and_by_state(town: Town, ann: Person, bob: Person) -> None:
    """Newest first, those that are over included unless the filter leaves them out."""
    made = [(await schedule(town, ann, order(bob))).scheduled_transfer.id for _ in range(5)]
    await cancel(town, ann, made[1])
    first = await listed(town, ann, page_size=3)
    rest = await listed(town, ann, page_size=3, page_token=first.next_page_token)
    assert [line.id for page in (first, rest) for line in page.scheduled_transfers] == made[::-1]
    assert rest.next_page_token == ""
    active = await listed(town, ann, states=[pb.SCHEDULED_TRANSFER_STATE_ACTIVE])
    assert [line.id for line in active.scheduled_transfers] == [id for id in made[::-1] if id != made[1]]
    refusal = await refused(listed(town, bob, page_token=first.next_page_token))
    assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_an_erased_consumer_leaves_no_plans_and_no_questions(town: Town, bob: Person) -> None:
    """Nothing would ever come of them, and what was written about them is about a person."""
    gone = await town.settle_in("gone")
    await schedule(town, gone, order(bob, memo="to my landlord", recurrence="FREQ=DAILY"))
    for payee, payer in ((gone, bob), (bob, gone)):
        asked = pb.CreatePaymentRequestRequest(
            request_id=str(uuid.uuid4()),
            payer=pb.Recipient(consumer_id=str(payer.id)),
            amount=Money(asset="USDC", micros=DOLLAR),
            memo="dinner",
        )
        await town.wallet.consumers.CreatePaymentRequest(asked, metadata=payee.token)
    erasure = ErasePersonalDataRequest(consumer_id=str(gone.id), reason="asked for it")
    await town.wallet.operations.ErasePersonalData(erasure, metadata=operator())
    (plan,) = (await listed(town, gone)).scheduled_transfers
    assert (plan.state, plan.memo) == (pb.SCHEDULED_TRANSFER_STATE_CANCELLED, "")
    answer = await town.wallet.consumers.ListPaymentRequests(pb.ListPaymentRequestsRequest(), metadata=bob.token)
    assert [(line.state, line.memo) for line in answer.payment_requests] == [
        (pb.PAYMENT_REQUEST_STATE_DECLINED, "dinner"),
        (pb.PAYMENT_REQUEST_STATE_CANCELLED, ""),
    ]
