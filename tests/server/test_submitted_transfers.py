"""SubmitTransfers, as a backend sees it: many transfers in one message, and every one of them on its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.limits import DAILY_LIMIT_MICROS
from monay.wallet.v1 import error_reason_pb2
from monay.wallet.v1.transfer_pb2 import (
    Recipient,
    SubmittedTransfer,
    SubmitTransfersRequest,
    SubmitTransfersResponse,
    TransferRequest,
)
from sandbox.postgres import Postgres
from tests.books import DOLLAR, FEE

from .conftest import Metadata, refused, service
from .people import Person, Town, new_town, transfer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    # More than one committer, so that two of them could overtake each other if they were let.
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town"), ledger_committers=3) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob", usdc=100 * DOLLAR)


def one(sender: Person | uuid.UUID, recipient: Person | Recipient, micros: int, **fields: Any) -> TransferRequest:
    """One of the transfers of a message."""
    to = recipient if isinstance(recipient, Recipient) else recipient.id
    consumer_id = str(sender.id if isinstance(sender, Person) else sender)
    return transfer(to, micros, **{"consumer_id": consumer_id, **fields})


async def submit(town: Town, *transfers: TransferRequest, token: Metadata | None = None) -> list[SubmittedTransfer]:
    request = SubmitTransfersRequest(transfers=transfers)
    answer: SubmitTransfersResponse = await town.wallet.consumers.SubmitTransfers(request, metadata=token or service())
    assert len(answer.results) == len(transfers)
    return list(answer.results)


def reasons(results: list[SubmittedTransfer]) -> list[str]:
    """What became of each: a reason, or nothing for one that was made."""
    names = [error_reason_pb2.ErrorReason.Name(result.error.reason) for result in results]
    return [
        "" if result.HasField("transfer") else name.removeprefix("ERROR_REASON_")
        for result, name in zip(results, names, strict=True)
    ]


async def test_each_transfer_of_a_message_is_answered_like_transfer(town: Town, ann: Person, bob: Person) -> None:
    """A backend needs no second way to read answers: each has transaction, fee and balance."""
    first, second = await submit(town, one(ann, bob, 5 * DOLLAR, memo="a"), one(bob, ann, 7 * DOLLAR))
    assert (first.transfer.transaction.memo, first.transfer.fee.micros) == ("a", FEE)
    assert first.transfer.transaction.counterparty.consumer_id == str(bob.id)
    assert len(first.transfer.transaction.settlements) == 1
    assert second.transfer.balance.available_micros in (93 * DOLLAR - FEE, 98 * DOLLAR - FEE)
    assert (await town.balance(ann)).available_micros == 102 * DOLLAR - FEE


async def test_a_bad_transfer_leaves_the_others_alone(town: Town, ann: Person, bob: Person) -> None:
    """Each is validated, found, judged and refused by itself, with what Transfer would have said."""
    poor, frozen = await town.settle_in("poor"), await town.settle_in("frozen")
    await town.freeze(frozen)
    results = await submit(
        town,
        one(ann, bob, DOLLAR),
        one(ann, bob, 0),
        one(ann, bob, DOLLAR, request_id="no uuid"),
        one(ann, bob, DOLLAR, consumer_id=""),
        one(uuid.uuid4(), bob, DOLLAR),
        one(uuid.UUID(int=0), bob, DOLLAR),
        one(ann, Recipient(handle="nobody"), DOLLAR),
        one(ann, Recipient(phone="+0 (000) 000"), DOLLAR),
        one(ann, ann, DOLLAR),
        one(poor, bob, DOLLAR),
        one(frozen, bob, DOLLAR),
        one(ann, frozen, DOLLAR),
        one(ann, bob, DAILY_LIMIT_MICROS[1] + 1),
        one(ann, bob, DOLLAR, asset="EURC"),
        one(ann, bob, DOLLAR, asset="GOLD"),
        one(ann, bob, DOLLAR),
    )
    assert reasons(results) == [
        "",
        "VALIDATION_FAILED",
        "VALIDATION_FAILED",
        "CONSUMER_ID_REQUIRED",
        "CONSUMER_NOT_FOUND",
        "CONSUMER_NOT_FOUND",
        "RECIPIENT_NOT_FOUND",
        "VALIDATION_FAILED",
        "SELF_TRANSFER",
        "INSUFFICIENT_FUNDS",
        "CONSUMER_FROZEN",
        "RECIPIENT_FROZEN",
        "LIMIT_EXCEEDED",
        "RATE_TOO_OLD",
        "ASSET_UNSUPPORTED",
        "",
    ]
    assert [results[n].error.field for n in (1, 2, 7)] == ["amount", "request_id", "recipient.phone"]
    assert results[9].error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert results[9].error.metadata["required_micros"] == str(DOLLAR + FEE)
    assert results[9].error.message
    assert (await town.balance(ann)).available_micros == 98 * DOLLAR - 2 * FEE


async def test_the_error_of_a_transfer_is_what_transfer_says(town: Town, ann: Person, bob: Person) -> None:
    """Reason, code, facts and words: a backend may change from one call to the other without a change of mind."""
    request = one(ann, bob, 500 * DOLLAR)
    (told,) = await submit(town, request)
    refusal = await refused(town.wallet.consumers.Transfer(request, metadata=service()))
    assert (told.error.code, told.error.message) == (refusal.code.value[0], refusal.message)
    assert reasons([told]) == [refusal.reason]
    assert dict(told.error.metadata) == refusal.metadata


async def test_rule_22_transfers_of_one_sender_are_decided_in_the_order_given(town: Town) -> None:
    """Rent before sweets: what is paid out of too little money is what stands first, however large the message."""
    ann, bob, shop = [await town.settle_in(name) for name in ("ann", "bob", "shop")]
    await town.pay(await town.settle_in("giver", usdc=950 * DOLLAR), ann, 600 * DOLLAR)
    results = await submit(town, *(one(ann, bob if n < 400 else shop, DOLLAR - FEE, memo=f"{n}") for n in range(1_000)))
    assert reasons(results) == [""] * 600 + ["INSUFFICIENT_FUNDS"] * 400
    versions = [result.transfer.balance.version for result in results[:600]]
    assert versions == list(range(2, 602))
    assert (await town.balance(bob)).available_micros == 400 * (DOLLAR - FEE)
    assert (await town.balance(shop)).available_micros == 200 * (DOLLAR - FEE)


async def test_rule_22_a_message_that_is_sent_again_moves_nothing(town: Town, ann: Person, bob: Person) -> None:
    """When the call as a whole fails, sending the same message again is right: it answers what was done."""
    transfers = [one(ann, bob, DOLLAR, memo=f"{n}") for n in range(30)] + [one(ann, bob, 500 * DOLLAR)]
    first = await submit(town, *transfers[:10], transfers[-1])
    await town.pay(ann, bob, DOLLAR)
    again = await submit(town, *transfers)
    assert [result.transfer.replayed for result in again] == [True] * 10 + [False] * 21
    for result, before in zip(again[:10], first, strict=False):
        result.transfer.replayed = False
        assert result == before
    assert reasons(again)[30] == "INSUFFICIENT_FUNDS"
    assert (await town.balance(bob)).available_micros == 131 * DOLLAR


async def test_rule_22_one_id_twice_in_a_message_pays_once(town: Town, ann: Person, bob: Person) -> None:
    """The same transfer is a replay; another one under the same id is refused; another sender's id is its own."""
    request_id = str(uuid.uuid4())
    results = await submit(
        town,
        one(ann, bob, DOLLAR, request_id=request_id),
        one(ann, bob, DOLLAR, request_id=request_id),
        one(ann, bob, 2 * DOLLAR, request_id=request_id),
        one(bob, ann, 2 * DOLLAR, request_id=request_id),
    )
    assert reasons(results) == ["", "", "IDEMPOTENCY_KEY_REUSED", ""]
    assert [result.transfer.replayed for result in results[:2]] == [False, True]
    assert (await town.balance(bob)).available_micros == 99 * DOLLAR - FEE


async def test_rule_25_a_check_in_a_message_sees_what_stands_before_it(town: Town, ann: Person, bob: Person) -> None:
    """A check among transfers is judged where it stands, uses no id and moves nothing."""
    check = one(ann, bob, 60 * DOLLAR, validate_only=True)
    before, paid, after = await submit(town, check, one(ann, bob, 50 * DOLLAR), check)
    assert reasons([before, paid, after]) == ["", "", "INSUFFICIENT_FUNDS"]
    assert before.transfer.transaction.id == ""
    assert before.transfer.balance.available_micros == 40 * DOLLAR - FEE
    assert (await town.balance(ann)).available_micros == 50 * DOLLAR - FEE


async def test_only_services_move_money_in_bulk(town: Town, ann: Person, bob: Person) -> None:
    """A consumer's token reaches one wallet; a message reaches many."""
    request = SubmitTransfersRequest(transfers=[one(ann, bob, DOLLAR)])
    refusal = await refused(town.wallet.consumers.SubmitTransfers(request, metadata=ann.token))
    assert refusal.reason == "CALLER_NOT_ALLOWED"
    unscoped = service(scope="wallet:read")
    assert (await refused(town.wallet.consumers.SubmitTransfers(request, metadata=unscoped))).reason == "SCOPE_MISSING"


async def test_a_message_is_bounded(town: Town, ann: Person, bob: Person) -> None:
    """A thousand transfers are a message, none or more are a mistake."""
    for transfers in ([], [one(ann, bob, 1)] * 1_001):
        request = SubmitTransfersRequest(transfers=transfers)
        refusal = await refused(town.wallet.consumers.SubmitTransfers(request, metadata=service()))
        assert refusal.reason == "VALIDATION_FAILED"


async def test_what_finds_the_queue_full_is_told_so_and_may_come_again(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The queue is bounded for messages, too: those at the front go through, in order, and the rest can be resent."""
    folder = tmp_path_factory.mktemp("narrow")
    async with new_town(postgres, migrated_template, folder, ledger_queue_limit=10) as town:
        ann, bob = await town.settle_in("ann", usdc=100 * DOLLAR), await town.settle_in("bob")
        transfers = [one(ann, bob, DOLLAR) for _ in range(25)]
        results = await submit(town, *transfers)
        assert reasons(results) == [""] * 10 + ["OVERLOADED"] * 15
        assert results[-1].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        again = await submit(town, *transfers[:15])
        assert [result.transfer.replayed for result in again[:10]] == [True] * 10
        assert reasons(again)[:10] == [""] * 10
