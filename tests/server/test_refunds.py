"""RefundTransfer, as an app sees it: what was received can be given back, in parts or whole, and no more than that."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.commands import Command
from domain.identity import ConsumerId
from domain.ledger_state import Outcome
from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1.consumer_pb2 import GetLimitsRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, ListTransactionsRequest, Transaction
from monay.wallet.v1.transfer_pb2 import (
    BatchTransferItem,
    BatchTransferRequest,
    Recipient,
    RefundTransferRequest,
    RefundTransferResponse,
)
from sandbox.postgres import Postgres
from server.ledger_writer import LedgerWriter
from server.services.refunds import RefundOrder, RefundService
from tests.books import CLOCK, DOLLAR, ENTROPY, FEE

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
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def shop(town: Town) -> Person:
    return await town.settle_in("shop")


@pytest_asyncio.fixture(loop_scope="module")
async def bought(town: Town, ann: Person, shop: Person) -> Transaction:
    """Ann paid the shop ten dollars."""
    return (await town.pay(ann, shop, 10 * DOLLAR, memo="shoes")).transaction


def refund(
    transaction_id: str, micros: int | None = None, *, asset: str = "USDC", **fields: Any
) -> RefundTransferRequest:
    """What an app sends; without micros, for all that is left."""
    amount = Money(asset=asset, micros=micros) if micros is not None else None
    body = {"request_id": str(uuid.uuid4()), "transaction_id": transaction_id, "amount": amount, **fields}
    return RefundTransferRequest(**body)


async def give_back(town: Town, person: Person, request: RefundTransferRequest) -> RefundTransferResponse:
    answer: RefundTransferResponse = await town.wallet.consumers.RefundTransfer(request, metadata=person.token)
    return answer


async def shown(town: Town, person: Person, transaction_id: str) -> Transaction:
    answer = await town.wallet.consumers.GetTransaction(
        GetTransactionRequest(transaction_id=transaction_id), metadata=person.token
    )
    found: Transaction = answer.transaction
    return found


async def test_a_refund_gives_back_all_that_was_received(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """It costs neither fee nor limit; the fee of the transfer itself stays paid."""
    answer = await give_back(town, shop, refund(bought.id, memo="too small"))
    back = answer.transaction
    assert back.kind == transaction_pb2.TRANSACTION_KIND_REFUND
    assert back.direction == transaction_pb2.DIRECTION_OUT
    assert (back.original_transaction_id, back.memo) == (bought.id, "too small")
    assert (back.amount.micros, back.fee.micros) == (10 * DOLLAR, 0)
    assert back.counterparty.consumer_id == str(ann.id)
    assert len(back.settlements) == 1
    assert (answer.balance.available_micros, answer.balance.version) == (0, 2)
    assert (await town.balance(ann)).available_micros == 100 * DOLLAR - FEE
    limits = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=shop.token)
    assert limits.used_usd_micros == 0


async def test_both_sides_see_how_much_was_given_back(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """The receipt of a purchase says that part of it came back, wherever it is shown."""
    assert not (await shown(town, ann, bought.id)).HasField("refunded")
    for micros in (2 * DOLLAR, 3 * DOLLAR):
        await give_back(town, shop, refund(bought.id, micros))
    for person in (ann, shop):
        original = await shown(town, person, bought.id)
        assert (original.refunded.asset, original.refunded.micros) == ("USDC", 5 * DOLLAR)
        assert original.state == transaction_pb2.TRANSACTION_STATE_COMPLETED
        listed = await town.wallet.consumers.ListTransactions(ListTransactionsRequest(), metadata=person.token)
        assert [t.refunded.micros for t in listed.transactions if t.id == bought.id] == [5 * DOLLAR]
        assert [t.original_transaction_id for t in listed.transactions][:2] == [bought.id] * 2


async def test_refunds_follow_one_another_until_nothing_is_left(town: Town, shop: Person, bought: Transaction) -> None:
    """In parts, then the rest without naming it, then nothing more."""
    await give_back(town, shop, refund(bought.id, 4 * DOLLAR))
    too_much = await refused(give_back(town, shop, refund(bought.id, 6 * DOLLAR + 1)))
    assert (too_much.reason, too_much.metadata) == ("REFUND_TOO_LARGE", {"refundable_micros": str(6 * DOLLAR)})
    assert (await give_back(town, shop, refund(bought.id))).transaction.amount.micros == 6 * DOLLAR
    for request in (refund(bought.id), refund(bought.id, 1)):
        nothing = await refused(give_back(town, shop, request))
        assert (nothing.reason, nothing.metadata) == ("REFUND_TOO_LARGE", {"refundable_micros": "0"})
    assert (await town.balance(shop)).available_micros == 0


async def test_a_part_of_a_batch_can_be_given_back_like_any_transfer(town: Town, ann: Person, shop: Person) -> None:
    """Each part of a batch is a transaction of its own."""
    item = BatchTransferItem(
        recipient=Recipient(consumer_id=str(shop.id)), amount=Money(asset="USDC", micros=3 * DOLLAR)
    )
    request = BatchTransferRequest(request_id=str(uuid.uuid4()), items=[item, item])
    paid = await town.wallet.consumers.BatchTransfer(request, metadata=ann.token)
    await give_back(town, shop, refund(paid.transactions[1].id))
    assert (await shown(town, ann, paid.transactions[0].id)).refunded.micros == 0
    assert (await shown(town, ann, paid.transactions[1].id)).refunded.micros == 3 * DOLLAR


Build = Callable[[Person, Person, Transaction], tuple[Person, RefundTransferRequest]]

_REFUSALS: dict[str, tuple[Build, grpc.StatusCode, dict[str, str]]] = {
    "TRANSACTION_NOT_FOUND": (
        lambda _, shop, __: (shop, refund(str(uuid.uuid4()))),
        grpc.StatusCode.NOT_FOUND,
        {},
    ),
    "NOT_REFUNDABLE": (
        lambda ann, _, bought: (ann, refund(bought.id)),
        grpc.StatusCode.FAILED_PRECONDITION,
        {"kind": "TRANSFER"},
    ),
    "REFUND_TOO_LARGE": (
        lambda _, shop, bought: (shop, refund(bought.id, 11 * DOLLAR)),
        grpc.StatusCode.FAILED_PRECONDITION,
        {"refundable_micros": str(10 * DOLLAR)},
    ),
    "VALIDATION_FAILED": (
        lambda _, shop, bought: (shop, refund(bought.id, DOLLAR, asset="USDT")),
        grpc.StatusCode.INVALID_ARGUMENT,
        {},
    ),
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("reason", _REFUSALS)
async def test_what_cannot_be_given_back_is_refused_and_changes_nothing(
    town: Town, ann: Person, shop: Person, bought: Transaction, reason: str, validate_only: bool
) -> None:
    """Only a received transfer, only what is left of it, only in its own asset; a check tells the same (rule 25)."""
    build, code, facts = _REFUSALS[reason]
    person, request = build(ann, shop, bought)
    request.validate_only = validate_only
    before = await town.everything()
    refusal = await refused(give_back(town, person, request))
    assert (refusal.reason, refusal.code, refusal.metadata) == (reason, code, facts)
    assert await town.everything() == before


async def test_what_was_spent_cannot_be_given_back(town: Town, ann: Person, shop: Person, bought: Transaction) -> None:
    """A refund is paid out of what the wallet has now; nothing is taken from anybody else."""
    await town.pay(shop, ann, 5 * DOLLAR)
    refusal = await refused(give_back(town, shop, refund(bought.id)))
    assert refusal.reason == "INSUFFICIENT_FUNDS"
    assert refusal.metadata["required_micros"] == str(10 * DOLLAR)
    await give_back(town, shop, refund(bought.id, 5 * DOLLAR - FEE))


async def test_a_refund_can_not_be_given_back(town: Town, ann: Person, shop: Person, bought: Transaction) -> None:
    """Or money would go to and fro without a fee and past every limit."""
    back = (await give_back(town, shop, refund(bought.id))).transaction
    refusal = await refused(give_back(town, ann, refund(back.id)))
    assert (refusal.reason, refusal.metadata) == ("NOT_REFUNDABLE", {"kind": "REFUND"})


async def test_frozen_wallets_neither_give_back_nor_get_back(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """What an operator stopped does not move by another door."""
    await town.freeze(ann)
    assert (await refused(give_back(town, shop, refund(bought.id)))).reason == "RECIPIENT_FROZEN"
    await town.freeze(shop)
    assert (await refused(give_back(town, shop, refund(bought.id)))).reason == "CONSUMER_FROZEN"


async def test_nobody_takes_back_what_an_erased_wallet_sent(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """The wallet is closed for good; the shop keeps the money, and knows that it cannot be given back."""
    await town.books.execute("UPDATE wallets SET erased_at = now() WHERE consumer_id = :id", id=ann.id)
    assert (await refused(give_back(town, shop, refund(bought.id)))).reason == "NOT_REFUNDABLE"


async def test_the_money_goes_to_who_sent_it_whatever_became_of_the_handle(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """A handle that changed hands since must not turn a refund into a gift to a stranger."""
    stranger = await town.settle_in("stranger")
    await town.books.execute("UPDATE consumers SET handle = 'was_anns' WHERE id = :id", id=stranger.id)
    await give_back(town, shop, refund(bought.id))
    assert (await town.balance(ann)).available_micros == 100 * DOLLAR - FEE
    assert (await town.balance(stranger)).available_micros == 0


# --- request ids ------------------------------------------------------------------------------------------------------


async def test_rule_22_a_replayed_refund_gives_nothing_back_again(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """Also one for all that is left, which would find nothing left if it were made anew."""
    for request in (refund(bought.id, 4 * DOLLAR), refund(bought.id)):
        first = await give_back(town, shop, request)
        again = await give_back(town, shop, request)
        assert again.replayed
        again.replayed = False
        assert again == first
    assert (await shown(town, ann, bought.id)).refunded.micros == 10 * DOLLAR


@pytest.mark.parametrize("changed", [{"micros": 2 * DOLLAR}, {"micros": None}, {"memo": "another"}])
async def test_rule_22_the_same_id_for_another_refund_is_refused(
    town: Town, shop: Person, bought: Transaction, changed: dict[str, Any]
) -> None:
    """Among them: a part, and then all that is left."""
    request = refund(bought.id, DOLLAR)
    await give_back(town, shop, request)
    body = {"micros": DOLLAR, "request_id": request.request_id, **changed}
    refusal = await refused(give_back(town, shop, refund(bought.id, **body)))
    assert refusal.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_rule_22_a_refusal_of_a_refund_is_remembered(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """Too large once is too large for that id, though the sender pays again meanwhile."""
    request = refund(bought.id, 11 * DOLLAR)
    assert (await refused(give_back(town, shop, request))).reason == "REFUND_TOO_LARGE"
    await give_back(town, shop, refund(bought.id, 4 * DOLLAR))
    again = await refused(give_back(town, shop, request))
    assert (again.reason, again.metadata["refundable_micros"]) == ("REFUND_TOO_LARGE", str(10 * DOLLAR))


async def test_rule_25_a_check_of_a_refund_tells_what_it_would_give_back(
    town: Town, shop: Person, bought: Transaction
) -> None:
    """The rest of a transfer, without having to add up what was given back before."""
    await give_back(town, shop, refund(bought.id, 4 * DOLLAR))
    request = refund(bought.id, validate_only=True)
    told = await give_back(town, shop, request)
    assert (told.transaction.id, told.transaction.amount.micros) == ("", 6 * DOLLAR)
    request.validate_only = False
    done = await give_back(town, shop, request)
    assert not done.replayed
    assert done.balance.available_micros == told.balance.available_micros


# --- together with others ---------------------------------------------------------------------------------------------


async def test_concurrent_refunds_never_give_back_more_than_was_received(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """Parts and rests at once, and money enough for all of them: together they stop at the micro that was paid."""
    rich = await town.settle_in("rich", usdc=200 * DOLLAR)
    await town.pay(rich, shop, 100 * DOLLAR)
    requests = [refund(bought.id, 3 * DOLLAR) for _ in range(12)] + [refund(bought.id) for _ in range(4)]
    answers = await asyncio.gather(*(give_back(town, shop, r) for r in requests), return_exceptions=True)
    made = [answer for answer in answers if isinstance(answer, RefundTransferResponse)]
    total = sum(answer.transaction.amount.micros for answer in made)
    assert total <= 10 * DOLLAR
    assert (await shown(town, ann, bought.id)).refunded.micros == total
    assert (await town.balance(shop)).available_micros == 110 * DOLLAR - total
    rest = await refused(give_back(town, shop, refund(bought.id, 10 * DOLLAR - total + 1)))
    assert rest.reason == "REFUND_TOO_LARGE"


async def test_of_many_refunds_of_all_that_is_left_one_is_made(
    town: Town, ann: Person, shop: Person, bought: Transaction
) -> None:
    """A shop's two tills press the button at the same time."""
    calls = (give_back(town, shop, refund(bought.id)) for _ in range(12))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, RefundTransferResponse) for answer in answers) == 1
    assert (await town.balance(ann)).available_micros == 100 * DOLLAR - FEE


class Overtaken:
    """A ledger writer in front of which something else always comes first, until it does not any more."""

    def __init__(self, writer: LedgerWriter, before: list[Callable[[], Awaitable[Any]]]) -> None:
        self._writer = writer
        self._before = before

    async def submit(self, command: Command, *, deadline: float | None = None) -> Outcome:
        if self._before:
            await self._before.pop(0)()
        return await self._writer.submit(command, deadline=deadline)


async def test_a_refund_of_the_rest_that_was_overtaken_gives_back_what_is_left_then(
    town: Town, shop: Person, bought: Transaction
) -> None:
    """The caller asked for all that is left, so that others took some of it meanwhile is no reason to refuse."""
    parts = [lambda: give_back(town, shop, refund(bought.id, 2 * DOLLAR)) for _ in range(3)]
    writer: Any = Overtaken(town.books.writer, [*parts])
    rest = RefundOrder(
        refunder=ConsumerId(shop.id),
        transaction_id=uuid.UUID(bought.id),
        amount=None,
        memo="",
        caller="consumer",
        request_id=str(uuid.uuid4()),
    )
    service = RefundService(engine=town.books.engine, writer=writer, entropy=ENTROPY)
    done = await service.refund(rest, deadline=CLOCK.monotonic() + 30)
    assert done.recorded.transaction.micros == 4 * DOLLAR


async def test_only_who_received_a_transfer_gives_it_back(town: Town, shop: Person, bought: Transaction) -> None:
    """A stranger does not even learn that there is such a transfer."""
    stranger = await town.settle_in("stranger", usdc=50 * DOLLAR)
    assert (await refused(give_back(town, stranger, refund(bought.id)))).reason == "TRANSACTION_NOT_FOUND"
    others = refund(bought.id, consumer_id=str(shop.id))
    assert (await refused(give_back(town, stranger, others))).reason == "NOT_YOUR_WALLET"
    answer = await town.wallet.consumers.RefundTransfer(others, metadata=service())
    assert answer.transaction.amount.micros == 10 * DOLLAR
