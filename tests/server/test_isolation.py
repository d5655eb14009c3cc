"""Every rpc, called by one consumer with everything of another's in its fields: nothing is seen, nothing is changed.

`test_access.py` shows that nobody names another's wallet. Here are all other ways to name what is another's: ids of
transactions, requests, schedules, bank accounts and quotes, by rpcs that are walked by their descriptors.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from monay.wallet.v1 import access_pb2
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transfer_pb2 import CreatePaymentRequestRequest, Recipient, ScheduleTransferRequest
from sandbox.postgres import Postgres
from server.api.server import CONSUMER_WALLET
from tests.fuzzing.messages import message
from tests.fuzzing.values import Values

from .people import Person, Town, new_town

UNIT = 1_000_000
METHODS = [
    method
    for method in CONSUMER_WALLET.methods
    if access_pb2.TOKEN_USE_CONSUMER in method.GetOptions().Extensions[access_pb2.access].callers
]
# What of a wallet only its owner may change.
OWNED = {
    "consumers": "id",
    "consumer_preferences": "consumer_id",
    "bank_accounts": "consumer_id",
    "kyc_cases": "consumer_id",
    "scheduled_transfers": "consumer_id",
    "payment_requests": "payee_id",
    "swap_quotes": "consumer_id",
}
PRIVATE = ("ann-private", "Annabel Privately", "DE89370400440532013000")


@pytest.fixture
async def town(postgres: Postgres, migrated_template: str, tmp_path: Any) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path) as town:
        yield town


@dataclass
class Belongings:
    """What Ann has: ids that Bob may have picked up somewhere, and words that he must not read."""

    ann: Person
    ids: list[str] = field(default_factory=list)
    words: list[bytes] = field(default_factory=list)


async def belongings_of(town: Town, ann: Person, cy: Person) -> Belongings:
    """One of each kind."""
    call, mine = town.wallet.consumers, {"metadata": ann.token}
    paid = await town.pay(ann, cy, UNIT, memo="ann-private rent")
    asked = await call.CreatePaymentRequest(
        CreatePaymentRequestRequest(
            request_id=str(uuid.uuid4()),
            payer=Recipient(consumer_id=str(cy.id)),
            amount=Money(asset="USDC", micros=UNIT),
            memo="ann-private request",
        ),
        **mine,
    )
    planned = ScheduleTransferRequest(
        request_id=str(uuid.uuid4()),
        recipient=Recipient(consumer_id=str(cy.id)),
        amount=Money(asset="USDC", micros=UNIT),
        memo="ann-private plan",
        recurrence="FREQ=MONTHLY",
    )
    planned.start_time.GetCurrentTime()
    planned.start_time.seconds += 86_400
    scheduled = await call.ScheduleTransfer(planned, **mine)
    linked = await call.LinkBankAccount(
        pb.LinkBankAccountRequest(
            request_id=str(uuid.uuid4()),
            holder_name="Annabel Privately",
            bank_name="First Bank",
            iban="DE89370400440532013000",
            holder_address=pb.PostalAddress(line1="1 Main Street", city="Berlin", postal_code="10115", country="DE"),
        ),
        **mine,
    )
    ids = [str(ann.id)]
    for answer in (paid, asked, scheduled, linked):
        ids += _ids_in(answer)
    words = [word.encode() for word in (ann.email, ann.phone, *PRIVATE)]
    return Belongings(ann, ids, words)


def _ids_in(answer: Message) -> list[str]:
    found = []
    for each, value in answer.ListFields():
        if each.message_type is not None and not each.is_repeated:
            found += _ids_in(value)
        elif (each.name == "id" or each.name.endswith("_id")) and isinstance(value, str):
            found.append(value)
    return found


async def owned(town: Town, ann: Person) -> dict[str, list[Any]]:
    return {
        table: await town.books.execute(f"SELECT * FROM {table} WHERE {column} = :id ORDER BY 1", id=ann.id)
        for table, column in OWNED.items()
    }


async def answer_to(town: Town, method: Any, request: Message, bob: Person) -> bytes:
    """What Bob gets to read: the first answer, or everything in the error."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    options: dict[str, Any] = {"metadata": bob.token, "timeout": 5}
    try:
        if method.server_streaming:
            watch: Any = town.wallet.channel.unary_stream(path)
            call = watch(request.SerializeToString(), **options)
            async for first in call:
                call.cancel()
                return bytes(first)
            return b""
        ask: Any = town.wallet.channel.unary_unary(path)
        return bytes(await ask(request.SerializeToString(), **options))
    except grpc.aio.AioRpcError as error:
        return repr((error.details(), error.trailing_metadata())).encode()


async def test_with_anothers_ids_in_every_field_nothing_is_seen_and_nothing_changed(town: Town) -> None:
    ann, bob, cy = [await town.settle_in(name, usdc=100 * UNIT) for name in ("ann", "bob", "cy")]
    theirs = await belongings_of(town, ann, cy)
    before, balance = await owned(town, ann), (await town.balance(ann)).available_micros
    values = Values(Random(5), known=theirs.ids)
    answered = set()
    for method in METHODS:
        for _ in range(25):
            request: Any = message(method.input_type, values)
            if "consumer_id" in method.input_type.fields_by_name:
                # Ann's own id is refused at once, and `test_access.py` has that.
                request.consumer_id = ""
            said = await answer_to(town, method, request, bob)
            assert [word for word in theirs.words if word in said] == [], f"{method.full_name}: {request}"
            if not said.startswith(b"("):
                answered.add(method.name)
                GetMessageClass(method.output_type).FromString(said)
    assert {"GetBalance", "ListTransactions", "Transfer", "WatchBalances", "ListBankAccounts"} <= answered
    assert await owned(town, ann) == before
    assert (await town.balance(ann)).available_micros >= balance, "Bob may pay her, and nobody else may pay from hers"


async def test_the_owner_sees_what_the_others_did_not(town: Town) -> None:
    """Else the test above would pass on a server that answers nothing."""
    ann, cy = [await town.settle_in(name, usdc=100 * UNIT) for name in ("ann", "cy")]
    theirs = await belongings_of(town, ann, cy)
    seen = b""
    for name in ("GetConsumer", "ListTransactions", "ListScheduledTransfers", "ListPaymentRequests"):
        method = CONSUMER_WALLET.methods_by_name[name]
        request: Any = GetMessageClass(method.input_type)()
        if name == "ListPaymentRequests":
            request.direction = 1
        seen += await answer_to(town, method, request, ann)
    assert all(word in seen for word in theirs.words[:3])
