"""BatchTransfer, as an app sees it: many are paid in one go for one fee, or nobody is and it says who is at fault."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1.consumer_pb2 import GetLimitsRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, ListTransactionsRequest
from monay.wallet.v1.transfer_pb2 import (
    BatchTransferItem,
    BatchTransferRequest,
    BatchTransferResponse,
    Recipient,
)
from sandbox.component import free_port
from sandbox.postgres import Postgres
from tests.books import DOLLAR, FEE

from .conftest import refused, service, serving
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCH_LIMIT = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    async with new_town(postgres, migrated_template, folder, consumer_batch_limit=BATCH_LIMIT) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def people(town: Town) -> list[Person]:
    """Three to be paid; the second has a handle."""
    bob, carol, dave = [await town.settle_in(name) for name in ("bob", "carol", "dave")]
    await town.name(carol)
    return [bob, carol, dave]


def item(recipient: Person | Recipient, micros: int, *, asset: str = "USDC", memo: str = "") -> BatchTransferItem:
    to = recipient if isinstance(recipient, Recipient) else Recipient(consumer_id=str(recipient.id))
    return BatchTransferItem(recipient=to, amount=Money(asset=asset, micros=micros), memo=memo)


def batch(*items: BatchTransferItem, **fields: Any) -> BatchTransferRequest:
    """What an app sends."""
    return BatchTransferRequest(**{"request_id": str(uuid.uuid4()), "items": items, **fields})


async def send(town: Town, sender: Person, request: BatchTransferRequest) -> BatchTransferResponse:
    answer: BatchTransferResponse = await town.wallet.consumers.BatchTransfer(request, metadata=sender.token)
    return answer


async def test_a_batch_pays_everybody_for_one_fee(town: Town, ann: Person, people: list[Person]) -> None:
    """Each part is a transaction of its own, in the items' order, and the first carries the one fee."""
    bob, carol, dave = people
    request = batch(
        item(bob, 1 * DOLLAR, memo="a"),
        item(Recipient(handle=carol.handle), 2 * DOLLAR, memo="b"),
        item(Recipient(email=dave.email), 3 * DOLLAR),
        item(Recipient(phone=bob.phone), 4 * DOLLAR, memo="again"),
    )
    answer = await send(town, ann, request)
    assert [part.amount.micros for part in answer.transactions] == [n * DOLLAR for n in (1, 2, 3, 4)]
    assert [part.memo for part in answer.transactions] == ["a", "b", "", "again"]
    assert [part.fee.micros for part in answer.transactions] == [FEE, 0, 0, 0]
    paid = [part.counterparty.consumer_id for part in answer.transactions]
    assert paid == [str(person.id) for person in (bob, carol, dave, bob)]
    assert {part.batch_id for part in answer.transactions} == {answer.batch_id}
    assert {part.kind for part in answer.transactions} == {transaction_pb2.TRANSACTION_KIND_BATCH_TRANSFER}
    assert [len(part.settlements) for part in answer.transactions] == [1, 1, 1, 1]
    assert (answer.total.micros, answer.fee.micros) == (10 * DOLLAR, FEE)
    assert (answer.balance.available_micros, answer.balance.version) == (90 * DOLLAR - FEE, 5)
    assert [(await town.balance(person)).available_micros for person in people] == [5 * DOLLAR, 2 * DOLLAR, 3 * DOLLAR]


async def test_a_batch_is_kept_as_a_record_and_found_in_the_history(
    town: Town, ann: Person, people: list[Person]
) -> None:
    """Support looks a batch up by its id, and either side finds its part."""
    answer = await send(town, ann, batch(*(item(person, DOLLAR) for person in people)))
    (record,) = await town.books.execute("SELECT * FROM batch_transfers WHERE id = :id", id=answer.batch_id)
    assert (record.consumer_id, record.micros, record.fee_micros, record.item_count) == (ann.id, 3 * DOLLAR, FEE, 3)
    listed = await town.wallet.consumers.ListTransactions(
        ListTransactionsRequest(batch_id=answer.batch_id), metadata=ann.token
    )
    assert {part.id for part in listed.transactions} == {part.id for part in answer.transactions}
    got = await town.wallet.consumers.GetTransaction(
        GetTransactionRequest(transaction_id=answer.transactions[2].id), metadata=people[2].token
    )
    assert got.transaction.direction == transaction_pb2.DIRECTION_IN
    assert (got.transaction.batch_id, got.transaction.request_id) == (answer.batch_id, "")


async def test_the_items_of_a_batch_stand_behind_each_other_in_the_senders_queue(
    town: Town, ann: Person, people: list[Person]
) -> None:
    """That is what lets one chain transaction carry as many of them as the chain allows (rule 7)."""
    await town.pay(ann, people[0], DOLLAR)
    answer = await send(town, ann, batch(*(item(person, DOLLAR) for person in people)))
    await town.pay(ann, people[0], DOLLAR)
    rows = await town.books.execute(
        "SELECT transaction_id FROM settlement_items WHERE sender = :id ORDER BY sender_seq, position, id", id=ann.id
    )
    queue = [str(row.transaction_id) for row in rows]
    assert queue[1:4] == [part.id for part in answer.transactions]
    assert len(queue) == 5


Build = Callable[[Person, list[Person]], BatchTransferRequest]

_UNKNOWN = uuid.uuid4()

_REFUSALS: dict[str, tuple[Build, grpc.StatusCode, dict[str, str]]] = {
    "INSUFFICIENT_FUNDS": (
        lambda _, people: batch(*(item(person, 40 * DOLLAR) for person in people)),
        grpc.StatusCode.FAILED_PRECONDITION,
        {"asset": "USDC", "available_micros": str(100 * DOLLAR), "required_micros": str(120 * DOLLAR + FEE)},
    ),
    "LIMIT_EXCEEDED": (
        lambda _, people: batch(*(item(person, 400 * DOLLAR) for person in people)),
        grpc.StatusCode.FAILED_PRECONDITION,
        {"requested_usd_micros": str(1_200 * DOLLAR)},
    ),
    "RECIPIENT_NOT_FOUND": (
        lambda _, people: batch(item(people[0], DOLLAR), item(Recipient(consumer_id=str(_UNKNOWN)), DOLLAR)),
        grpc.StatusCode.NOT_FOUND,
        {"field": "items[1].recipient.consumer_id"},
    ),
    "SELF_TRANSFER": (
        lambda ann, people: batch(item(people[0], DOLLAR), item(people[1], DOLLAR), item(ann, DOLLAR)),
        grpc.StatusCode.INVALID_ARGUMENT,
        {"field": "items[2].recipient"},
    ),
    "RATE_TOO_OLD": (
        lambda _, people: batch(item(people[0], DOLLAR, asset="EURC")),
        grpc.StatusCode.UNAVAILABLE,
        {},
    ),
    "BATCH_TOO_LARGE": (
        lambda _, people: batch(*(item(people[0], 1) for _ in range(BATCH_LIMIT + 1))),
        grpc.StatusCode.INVALID_ARGUMENT,
        {"count": str(BATCH_LIMIT + 1), "max_count": str(BATCH_LIMIT)},
    ),
    "VALIDATION_FAILED": (
        lambda _, people: batch(item(people[0], DOLLAR), item(people[1], 0)),
        grpc.StatusCode.INVALID_ARGUMENT,
        {},
    ),
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("reason", _REFUSALS)
async def test_one_bad_item_refuses_the_batch_and_nothing_moves(
    town: Town, ann: Person, people: list[Person], reason: str, validate_only: bool
) -> None:
    """All or none: those before the bad one are not paid either; and a check tells the same (rule 25)."""
    build, code, facts = _REFUSALS[reason]
    request = build(ann, people)
    request.validate_only = validate_only
    before = await town.everything()
    refusal = await refused(town.wallet.consumers.BatchTransfer(request, metadata=ann.token))
    assert (refusal.reason, refusal.code) == (reason, code)
    assert facts.items() <= refusal.metadata.items()
    assert await town.everything() == before


async def test_the_first_item_at_fault_is_named_by_its_path(town: Town, ann: Person, people: list[Person]) -> None:
    """An app marks the line of its form that is wrong, whatever is wrong with it and however it was found out."""
    bob, carol, _ = people
    await town.freeze(carol)
    frozen = batch(item(bob, 1), item(Recipient(email=carol.email), 1), item(carol, 1))
    refusal = await refused(town.wallet.consumers.BatchTransfer(frozen, metadata=ann.token))
    assert (refusal.reason, refusal.metadata) == ("RECIPIENT_FROZEN", {"field": "items[1].recipient.email"})
    unknown = batch(item(bob, 1), item(Recipient(handle="nobody"), 1), item(Recipient(email="no@example.com"), 1))
    refusal = await refused(town.wallet.consumers.BatchTransfer(unknown, metadata=ann.token))
    assert refusal.metadata == {"field": "items[1].recipient.handle"}
    zero = batch(item(bob, 1), item(bob, 1), item(bob, 1), item(bob, 0))
    refusal = await refused(town.wallet.consumers.BatchTransfer(zero, metadata=ann.token))
    (violation,) = refusal.detail(error_details_pb2.BadRequest).field_violations
    assert violation.field == "items[3].amount"


async def test_the_items_of_a_batch_have_one_asset(town: Town, ann: Person, people: list[Person]) -> None:
    """One fee in one asset, one balance to pay from."""
    mixed = batch(item(people[0], 1), item(people[1], 1, asset="USDT"))
    assert (await refused(town.wallet.consumers.BatchTransfer(mixed, metadata=ann.token))).reason == "VALIDATION_FAILED"


async def test_the_sum_of_a_batch_counts_towards_the_limit(town: Town, ann: Person, people: list[Person]) -> None:
    """Splitting a payment does not make it smaller; the fee is not counted."""
    await send(town, ann, batch(*(item(person, 7 * DOLLAR) for person in people)))
    limits = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    assert limits.used_usd_micros == 21 * DOLLAR


# --- request ids ------------------------------------------------------------------------------------------------------


async def test_rule_22_a_replay_gets_every_items_answer_again(town: Town, ann: Person, people: list[Person]) -> None:
    """A client that lost the answer learns each recipient's part, in order, also after other payments."""
    request = batch(*(item(person, (n + 1) * DOLLAR, memo=f"{n}") for n, person in enumerate(people)))
    first = await send(town, ann, request)
    await town.pay(ann, people[0], DOLLAR)
    again = await send(town, ann, request)
    assert again.replayed
    again.replayed = False
    assert again == first


async def test_rule_22_the_id_of_a_batch_stands_for_all_its_items(
    town: Town, ann: Person, people: list[Person]
) -> None:
    """Another amount, order or memo in any item is another batch; and the id is used up for every other method."""
    first, second = item(people[0], DOLLAR), item(people[1], DOLLAR)
    request = batch(first, second)
    await send(town, ann, request)
    for items in ([second, first], [first], [first, second, first], [first, item(people[1], DOLLAR, memo="x")]):
        changed = batch(*items, request_id=request.request_id)
        refusal = await refused(town.wallet.consumers.BatchTransfer(changed, metadata=ann.token))
        assert refusal.reason == "IDEMPOTENCY_KEY_REUSED"
    reused = await refused(town.pay(ann, people[0], DOLLAR, request_id=request.request_id))
    assert reused.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_rule_22_a_replay_is_answered_though_the_batch_is_too_large_by_now(
    town: Town, ann: Person, people: list[Person]
) -> None:
    """Whoever lowers the limit cannot make payments unknown that were made before."""
    request = batch(*(item(people[0], 1) for _ in range(3)))
    first = await send(town, ann, request)
    stricter = {"consumer_batch_limit": 2, "grpc_listen": f"127.0.0.1:{free_port()}"}
    async with serving(town.wallet.settings.model_copy(update=stricter)) as wallet:
        again = await wallet.consumers.BatchTransfer(request, metadata=ann.token)
        assert again.transactions == first.transactions
        request.request_id = str(uuid.uuid4())
        refusal = await refused(wallet.consumers.BatchTransfer(request, metadata=ann.token))
    assert refusal.reason == "BATCH_TOO_LARGE"


async def test_rule_22_ten_calls_with_one_id_are_one_batch(town: Town, ann: Person, people: list[Person]) -> None:
    """A retry storm pays everybody once."""
    request = batch(*(item(person, DOLLAR) for person in people))
    answers = await asyncio.gather(*(send(town, ann, request) for _ in range(10)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 9
    assert len({answer.batch_id for answer in answers}) == 1
    assert [(await town.balance(person)).available_micros for person in people] == [DOLLAR] * 3


async def test_rule_25_a_check_of_a_batch_tells_its_cost_and_uses_no_id(
    town: Town, ann: Person, people: list[Person]
) -> None:
    """The confirmation screen shows the total, the one fee and the balance to be."""
    request = batch(*(item(person, DOLLAR) for person in people), validate_only=True)
    told = await send(town, ann, request)
    assert (told.batch_id, told.balance.version) == ("", 1)
    assert [part.id for part in told.transactions] == ["", "", ""]
    request.validate_only = False
    done = await send(town, ann, request)
    assert not done.replayed
    assert (told.fee, told.total) == (done.fee, done.total)
    assert told.balance.available_micros == done.balance.available_micros
    request.validate_only = True
    assert (await send(town, ann, request)).transactions == done.transactions


# --- together with others ---------------------------------------------------------------------------------------------


async def test_of_concurrent_batches_only_those_that_are_covered_are_paid(
    town: Town, ann: Person, people: list[Person]
) -> None:
    """100 dollars pay three batches of 30, each as a whole, however many ask at once."""
    requests = [batch(*(item(person, 10 * DOLLAR) for person in people)) for _ in range(8)]
    calls = (town.wallet.consumers.BatchTransfer(request, metadata=ann.token) for request in requests)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, BatchTransferResponse) for answer in answers) == 3
    assert [(await town.balance(person)).available_micros for person in people] == [30 * DOLLAR] * 3
    assert (await town.balance(ann)).available_micros == 10 * DOLLAR - 3 * FEE


async def test_batches_in_a_circle_neither_lock_each_other_out_nor_lose_money(town: Town) -> None:
    """Everybody pays everybody at once: locks are taken in one order, whoever pays."""
    crowd = [await town.settle_in(f"crowd{n}", usdc=10 * DOLLAR) for n in range(6)]
    requests = [
        (person, batch(*(item(other, DOLLAR) for other in crowd if other is not person))) for person in crowd * 2
    ]
    await asyncio.gather(*(send(town, person, request) for person, request in requests))
    assert {(await town.balance(person)).available_micros for person in crowd} == {10 * DOLLAR - 2 * FEE}


async def test_a_batch_is_sent_from_ones_own_wallet_only(town: Town, ann: Person, people: list[Person]) -> None:
    """A consumer's token reaches that consumer's wallet, whatever the request says."""
    request = batch(item(people[1], DOLLAR), consumer_id=str(ann.id))
    refusal = await refused(town.wallet.consumers.BatchTransfer(request, metadata=people[0].token))
    assert refusal.reason == "NOT_YOUR_WALLET"
    answer = await town.wallet.consumers.BatchTransfer(request, metadata=service())
    assert answer.transactions[0].counterparty.consumer_id == str(people[1].id)
    unknown = batch(item(people[1], DOLLAR), consumer_id=str(uuid.uuid4()))
    assert (
        await refused(town.wallet.consumers.BatchTransfer(unknown, metadata=service()))
    ).reason == "CONSUMER_NOT_FOUND"


async def test_a_hundred_recipients_are_paid_in_one_commit(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The size that CONSUMER_BATCH_LIMIT allows by default: one database transaction wrote all of it."""
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("hundred")) as town:
        ann = await town.settle_in("ann", usdc=1_000 * DOLLAR)
        crowd = await town.books.open(100)
        items = [item(Recipient(consumer_id=str(id)), DOLLAR) for id in crowd]
        await send(town, ann, batch(*items))
        commits = await town.books.execute("SELECT DISTINCT xmin::text FROM transactions WHERE batch_id IS NOT NULL")
        assert len(commits) == 1
        assert set(await town.books.available(*crowd)) == {DOLLAR}
        fees = await town.books.execute("SELECT delta_micros FROM system_entries WHERE kind = 'fees'")
        assert [row.delta_micros for row in fees] == [FEE]
        too_many = await refused(town.wallet.consumers.BatchTransfer(batch(*items, items[0]), metadata=ann.token))
        assert too_many.reason == "BATCH_TOO_LARGE"
