"""Histories and receipts, as an app sees them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from domain.chain_events import LogOrigin
from domain.commands import Command, CustodyChange, ItemTransition
from domain.identity import ItemId
from domain.money import Asset
from domain.settlement import ItemState, Rail
from monay.wallet.v1 import transaction_pb2 as pb
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, ListTransactionsRequest, Transaction
from sandbox.postgres import Postgres
from storage import history
from tests.books import DOLLAR, FEE, deposit

from .conftest import refused, service
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
    return await town.settle_in("ann", usdc=100 * DOLLAR, USDT=100 * DOLLAR, USDB=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def cat(town: Town) -> Person:
    return await town.settle_in("cat")


async def page(town: Town, person: Person, **fields: Any) -> pb.ListTransactionsResponse:
    request = ListTransactionsRequest(**fields)
    answer: pb.ListTransactionsResponse = await town.wallet.consumers.ListTransactions(request, metadata=person.token)
    return answer


async def pages(town: Town, person: Person, **fields: Any) -> list[Transaction]:
    """The whole history, page after page."""
    shown: list[Transaction] = []
    token = ""
    while True:
        answer = await page(town, person, page_token=token, **fields)
        shown += answer.transactions
        token = answer.next_page_token
        if not token:
            return shown


async def busy_life(town: Town, ann: Person, bob: Person, cat: Person) -> list[str]:
    """Payments in and out over three assets; their ids in the order in which they were made."""
    made = []
    for number in range(1, 5):
        for sender, recipient, asset in [
            (ann, bob, "USDC"),
            (bob, ann, "USDC"),
            (ann, cat, "USDT"),
            (ann, bob, "USDB"),
        ]:
            answer = await town.pay(sender, recipient, number * 1_000, asset=asset, memo=f"no. {number}")
            made.append(answer.transaction.id)
    return made


async def test_a_history_is_newest_first_over_all_assets_and_complete(
    town: Town, ann: Person, bob: Person, cat: Person
) -> None:
    """Three deposits and sixteen payments, in pages of five, are what one page of fifty shows."""
    made = await busy_life(town, ann, bob, cat)
    shown = await pages(town, ann, page_size=5)
    assert [one.id for one in shown[:16]] == made[::-1]
    assert {one.kind for one in shown[16:]} == {pb.TRANSACTION_KIND_DEPOSIT}
    assert shown == await pages(town, ann)
    times = [one.create_time.ToDatetime(UTC) for one in shown]
    assert times == sorted(times, reverse=True)


async def test_what_arrives_meanwhile_neither_repeats_nor_hides_anything(
    town: Town, ann: Person, bob: Person, cat: Person
) -> None:
    """A token names a place in the history, not a number of lines to skip."""
    made = await busy_life(town, ann, bob, cat)
    first = await page(town, ann, page_size=6)
    for _ in range(3):
        await town.pay(ann, bob, DOLLAR)
    second = await page(town, ann, page_size=6, page_token=first.next_page_token)
    assert [one.id for one in [*first.transactions, *second.transactions]] == made[::-1][:12]


@pytest.mark.parametrize(
    "fields",
    [
        {"asset": "USDC"},
        {"asset": "EURC"},
        {"kinds": [pb.TRANSACTION_KIND_DEPOSIT]},
        {"kinds": [pb.TRANSACTION_KIND_TRANSFER, pb.TRANSACTION_KIND_DEPOSIT], "asset": "USDT"},
        {"kinds": [pb.TRANSACTION_KIND_REVERSAL]},
        {"counterparty_id": "cat"},
        {"counterparty_id": "cat", "asset": "USDC"},
        {"states": [pb.TRANSACTION_STATE_COMPLETED]},
        {"states": [pb.TRANSACTION_STATE_FAILED]},
        {"batch_id": str(uuid.uuid4())},
    ],
)
@pytest.mark.parametrize("look_back", [3, 10_000])
async def test_a_filter_shows_what_matches_and_nothing_else(
    town: Town,
    ann: Person,
    bob: Person,
    cat: Person,
    fields: dict[str, Any],
    look_back: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However rare: where a page may look back over few entries only, pages get short and the answer stays whole."""
    monkeypatch.setattr(history, "LOOK_BACK", look_back)
    await busy_life(town, ann, bob, cat)
    if "counterparty_id" in fields:
        fields = {**fields, "counterparty_id": str(cat.id)}
    wanted = [one for one in await pages(town, ann) if _matches(one, **fields)]
    assert await pages(town, ann, page_size=4, **fields) == wanted


def _matches(
    one: Transaction,
    *,
    asset: str = "",
    kinds: list[int] | None = None,
    states: list[int] | None = None,
    counterparty_id: str = "",
    batch_id: str = "",
) -> bool:
    return (
        asset in ("", one.amount.asset)
        and (not kinds or one.kind in kinds)
        and (not states or one.state in states)
        and counterparty_id in ("", one.counterparty.consumer_id)
        and batch_id in ("", one.batch_id)
    )


async def test_a_time_range_includes_its_start_and_not_its_end(
    town: Town, ann: Person, bob: Person, cat: Person
) -> None:
    """Two ranges that meet show everything once."""
    await busy_life(town, ann, bob, cat)
    shown = await pages(town, ann)
    middle = shown[9].create_time
    later = await pages(town, ann, start_time=middle, page_size=3)
    earlier = await pages(town, ann, end_time=middle, page_size=3)
    assert later + earlier == shown
    assert later[-1] == shown[9]
    day_ago = datetime.now(UTC) - timedelta(days=1)
    assert await pages(town, ann, end_time=day_ago) == []
    assert await pages(town, ann, start_time=day_ago) == shown


async def test_a_token_is_good_for_its_own_list_only(town: Town, ann: Person, bob: Person, cat: Person) -> None:
    """A place in one history means nothing in another, and a made-up one must not become a strange answer."""
    await busy_life(town, ann, bob, cat)
    token = (await page(town, ann, page_size=2, asset="USDC")).next_page_token
    assert (await page(town, ann, page_size=7, asset="USDC", page_token=token)).transactions
    attempts = [
        (ann, {"page_token": token}),
        (ann, {"page_token": token, "asset": "USDT"}),
        (bob, {"page_token": token, "asset": "USDC"}),
        (ann, {"page_token": token[:-3], "asset": "USDC"}),
        (ann, {"page_token": "§§§", "asset": "USDC"}),
        (ann, {"page_token": "bm8", "asset": "USDC"}),
    ]
    for person, fields in attempts:
        assert (await refused(page(town, person, **fields))).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(("asked", "given"), [(0, 12), (1, 1), (3, 3), (100_000, 12)])
async def test_a_page_is_as_large_as_asked_within_bounds(
    town: Town, bob: Person, cat: Person, asked: int, given: int
) -> None:
    """Nothing asked is a good default, too much is cut and not refused, less than nothing is an error."""
    for _ in range(11):
        await town.pay(bob, cat, 1_000)
    assert len((await page(town, bob, page_size=asked)).transactions) == given
    assert (await refused(page(town, bob, page_size=-1))).reason == "VALIDATION_FAILED"


async def test_a_list_names_the_other_side_by_its_handle_of_today(town: Town, ann: Person, bob: Person) -> None:
    """People know each other by names that may change; the id stays."""
    await town.pay(ann, bob, 1_000)
    await town.name(bob)
    (first, *_) = (await page(town, ann)).transactions
    assert (first.counterparty.consumer_id, first.counterparty.handle) == (str(bob.id), bob.handle)
    assert not first.settlements


async def test_money_that_came_in_has_nothing_to_settle(town: Town, bob: Person) -> None:
    """A deposit stands on its rail already: its settlement is not pending for ever."""
    (deposited,) = (await page(town, bob)).transactions
    assert deposited.direction == pb.DIRECTION_IN
    assert deposited.settlement_state == pb.SETTLEMENT_STATE_NOT_NEEDED
    assert deposited.fee.micros == 0
    assert not deposited.HasField("counterparty")


async def test_a_deposit_from_the_chain_names_the_address_that_paid_it(town: Town, bob: Person) -> None:
    """The consumer knows the exchange or the friend by it; both ways of reading say the same."""
    sender = "0x" + "5a" * 20
    origin = LogOrigin("0x" + "11" * 32, 3, sender)
    await town.books.apply(deposit(bob.id, DOLLAR, name=str(origin)))
    deposited = (await page(town, bob)).transactions[0]
    request = GetTransactionRequest(transaction_id=deposited.id)
    alone = (await town.wallet.consumers.GetTransaction(request, metadata=bob.token)).transaction
    for shown in (deposited, alone):
        assert shown.kind == pb.TRANSACTION_KIND_DEPOSIT
        assert shown.counterparty.address.lower() == sender


async def test_a_stranger_finds_no_transaction(town: Town, ann: Person, bob: Person, cat: Person) -> None:
    """Whether it exists is nobody's business but the two parties'."""
    made = (await town.pay(ann, bob, 1_000)).transaction
    for transaction_id in (made.id, str(uuid.uuid4())):
        request = GetTransactionRequest(transaction_id=transaction_id)
        refusal = await refused(town.wallet.consumers.GetTransaction(request, metadata=cat.token))
        assert refusal.reason == "TRANSACTION_NOT_FOUND"
    for person in (ann, bob):
        request = GetTransactionRequest(transaction_id=made.id, consumer_id=str(person.id))
        assert (await town.wallet.consumers.GetTransaction(request, metadata=service())).transaction.id == made.id


# --- receipts ---------------------------------------------------------------------------------------------------------


async def receipt(town: Town, person: Person, transaction_id: str) -> tuple[Transaction, pb.Settlement]:
    request = GetTransactionRequest(transaction_id=transaction_id)
    found = (await town.wallet.consumers.GetTransaction(request, metadata=person.token)).transaction
    (settlement,) = found.settlements
    return found, settlement


_ATTEMPT = """
    INSERT INTO settlement_attempts (id, kind, rail, provider, reference, payload, state, valid_before, signed_at,
                                     broadcast_at, fee_asset, fee_micros)
    VALUES (:id, 'transfer', 'tempo', 'tempo', :reference, '', :state, :at, :at, :at, :fee_asset, :fee_micros)
"""


async def attempt(town: Town, items: list[str], *, state: str, at: datetime, fee: int | None = None) -> str:
    """An attempt that carries these items, as the settlement worker leaves it; its chain transaction's hash."""
    attempt_id, reference = uuid.uuid4(), f"0x{uuid.uuid4().hex * 2}"
    await town.books.execute(
        _ATTEMPT,
        id=attempt_id,
        reference=reference,
        state=state,
        at=at,
        fee_asset=None if fee is None else "USDC",
        fee_micros=fee,
    )
    for index, item in enumerate(items):
        carried = {"item": item, "attempt": attempt_id, "index": index}
        await town.books.execute("INSERT INTO attempt_items VALUES (:item, :attempt, :index)", **carried)
        await town.books.execute("UPDATE settlement_items SET attempt_id = :attempt WHERE id = :item", **carried)
    return reference


async def confirm(
    town: Town, sender: Person, made: Transaction, reference: str, *, log_index: int, at: datetime
) -> None:
    """What the watcher submits when it sees the item's event in a final block."""
    recipient, micros = uuid.UUID(made.counterparty.consumer_id), made.amount.micros
    transition = ItemTransition(
        item_id=ItemId(uuid.UUID(made.settlements[0].item_id)),
        expected=frozenset({ItemState.PENDING}),
        state=ItemState.CONFIRMED,
        transaction_hash=reference,
        block_number=77,
        log_index=log_index,
        at=at,
    )
    custody = (
        CustodyChange(sender.id, Rail.TEMPO, Asset.USDC, -micros),
        CustodyChange(recipient, Rail.TEMPO, Asset.USDC, micros),
    )
    await town.books.apply(Command(transitions=(transition,), custody=custody))


async def test_a_receipt_tells_how_a_transfer_became_true_on_the_chain(town: Town, ann: Person, bob: Person) -> None:
    """Provider, chain transaction, block, log, times, and its part of the network fee of the shared transaction."""
    made = [(await town.pay(ann, bob, 1_000)).transaction for _ in range(3)]
    items = [one.settlements[0].item_id for one in made]
    early, late = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, 0, 1, tzinfo=UTC)
    dead = await attempt(town, items[:1], state="DEAD", at=early)
    reference = await attempt(town, items, state="CONFIRMED", at=late, fee=100)
    assert dead != reference
    for index, one in enumerate(made):
        await confirm(town, ann, one, reference, log_index=index, at=late)
    receipts = [await receipt(town, ann, one.id) for one in made]
    assert {whole.settlement_state for whole, _ in receipts} == {pb.SETTLEMENT_STATE_CONFIRMED}
    first, second, third = (settlement for _, settlement in receipts)
    assert (first.provider, first.rail, first.chain_transaction_hash) == ("tempo", "tempo", reference)
    assert (first.block_number, second.log_index) == (77, 1)
    assert [first.attempts, second.attempts] == [2, 1]
    assert first.submit_time.ToDatetime(UTC) == early
    assert second.submit_time.ToDatetime(UTC) == first.confirm_time.ToDatetime(UTC) == late
    assert [one.network_fee.micros for one in (first, second, third)] == [34, 33, 33]
    listed = {one.id: one for one in (await page(town, bob)).transactions}
    assert listed[made[0].id].settlement_state == pb.SETTLEMENT_STATE_CONFIRMED


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("PENDING", pb.SETTLEMENT_STATE_PENDING),
        ("CLAIMED", pb.SETTLEMENT_STATE_PENDING),
        ("SIGNED", pb.SETTLEMENT_STATE_SIGNED),
        ("BROADCAST", pb.SETTLEMENT_STATE_BROADCAST),
        ("INDETERMINATE", pb.SETTLEMENT_STATE_INDETERMINATE),
        ("BLOCKED", pb.SETTLEMENT_STATE_BLOCKED),
        ("FAILED", pb.SETTLEMENT_STATE_FAILED),
    ],
)
async def test_a_settlement_under_way_says_what_was_observed(
    town: Town, ann: Person, bob: Person, state: str, shown: int
) -> None:
    """No more and no less; and a claim is a worker's own affair that may be given back."""
    made = (await town.pay(ann, bob, 1_000)).transaction
    item = made.settlements[0].item_id
    reference = await attempt(town, [item], state="BROADCAST", at=datetime.now(UTC))
    await town.books.execute(
        "UPDATE settlement_items SET state = :state, reason = 'because' WHERE id = :item", state=state, item=item
    )
    whole, settlement = await receipt(town, bob, made.id)
    assert whole.settlement_state == settlement.state == shown
    assert settlement.reason == "because"
    assert settlement.chain_transaction_hash == reference
    assert not settlement.HasField("block_number")
    assert not settlement.HasField("confirm_time")
    assert not settlement.HasField("network_fee")
    # The books' equation counts what is open. An operator follows up a failed item; here it is opened again.
    await town.books.execute("UPDATE settlement_items SET state = 'PENDING' WHERE id = :item", item=item)


async def test_the_fee_is_shown_to_who_pays_it(town: Town, ann: Person, bob: Person) -> None:
    """The recipient pays nothing and is told so."""
    made = (await town.pay(ann, bob, 1_000)).transaction
    theirs = {one.id: one for one in (await page(town, bob)).transactions}[made.id]
    assert (made.fee.micros, theirs.fee.micros) == (FEE, 0)
