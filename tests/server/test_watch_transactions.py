"""WatchTransactions: every event once and in order, across commits, reconnects, restores; settlement behind it."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.commands import Command, CustodyChange, ItemTransition
from domain.identity import ConsumerId, TransactionId
from domain.money import Asset, Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account
from domain.routing import RouteDecision, RouteReason
from domain.settlement import ItemState, Rail
from domain.withdrawals import Withdrawal, WithdrawalState, hold_posting, posted, released
from monay.wallet.v1 import transaction_pb2 as pb
from sandbox.postgres import Postgres
from storage import epochs, withdrawals
from tests.books import CLOCK, DOLLAR, ENTROPY, payment

from .conftest import Metadata, consumer, refused
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_SECONDS = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=1_000 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob", usdc=1_000 * DOLLAR)


class Stream:
    """An open stream, as a client keeps it: with the cursor of the last message it dealt with."""

    def __init__(self, call: Any, cursor: str) -> None:
        self._call = call
        self.cursor = cursor

    async def next(self, *, seconds: float = PATIENCE_SECONDS) -> pb.WatchTransactionsResponse:
        async with asyncio.timeout(seconds):
            message = await self._call.read()
        assert isinstance(message, pb.WatchTransactionsResponse), "the stream has ended"
        self.cursor = message.cursor
        return message

    async def event(self) -> pb.Transaction:
        """The next transaction, whatever is told in between."""
        while True:
            message = await self.next()
            if message.HasField("transaction"):
                return message.transaction

    async def update(self, state: pb.SettlementState.ValueType) -> pb.SettlementUpdate:
        """The next settlement update that says so."""
        while True:
            message = await self.next()
            if message.HasField("settlement") and message.settlement.settlement_state == state:
                return message.settlement

    async def silence(self, seconds: float = 1.5) -> None:
        """Nothing more is told for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                message = await self._call.read()
                raise AssertionError(f"unexpected: {message}")


@asynccontextmanager
async def watching(town: Town, person: Person | Metadata, cursor: str = "") -> AsyncIterator[Stream]:
    """An open stream; from now on if there is no cursor, past its first heartbeat."""
    token = person.token if isinstance(person, Person) else person
    call = town.wallet.consumers.WatchTransactions(pb.WatchTransactionsRequest(resume_cursor=cursor), metadata=token)
    stream = Stream(call, cursor)
    try:
        if not cursor:
            first = await stream.next()
            assert first.HasField("heartbeat"), "the first message of a stream without a cursor is its place"
        yield stream
    finally:
        call.cancel()


async def recorded(town: Town, person: Person) -> list[tuple[str, str]]:
    """What the ledger holds of a person: asset and transaction, in the order of versions."""
    rows = await town.books.execute(
        "SELECT asset, transaction_id FROM entries WHERE consumer_id = :id ORDER BY asset, version", id=person.id
    )
    return [(row.asset, str(row.transaction_id)) for row in rows]


def by_asset(events: list[pb.Transaction]) -> list[tuple[str, str]]:
    return sorted(((event.amount.asset, event.id) for event in events), key=lambda pair: pair[0])


# --- events -----------------------------------------------------------------------------------------------------------


async def test_both_sides_hear_of_a_transfer_as_it_happens(town: Town, ann: Person, bob: Person) -> None:
    """Each from their own side, in full, with the receipt of what is yet to settle."""
    async with watching(town, ann) as hers, watching(town, bob) as his:
        answer = await town.pay(ann, bob, 5 * DOLLAR, memo="lunch")
        sent, received = await hers.event(), await his.event()
        assert sent == answer.transaction
        assert (received.id, received.direction) == (sent.id, pb.DIRECTION_IN)
        assert received.counterparty.consumer_id == str(ann.id)
        assert received.fee.micros == 0
        assert [one.state for one in received.settlements] == [pb.SETTLEMENT_STATE_PENDING]


async def test_a_stream_goes_on_behind_its_cursor(town: Town, ann: Person, bob: Person) -> None:
    """The cursor is exclusive: what came while nobody watched, in order, and nothing that was told before."""
    async with watching(town, ann) as stream:
        await town.pay(ann, bob, DOLLAR)
        await stream.event()
        cursor = stream.cursor
        missed = [(await town.pay(ann, bob, DOLLAR)).transaction.id for _ in range(3)]
    async with watching(town, ann, cursor) as stream:
        assert [(await stream.event()).id for _ in missed] == missed


async def test_a_long_backlog_is_told_from_the_beginning(town: Town) -> None:
    """Page after page, however much it is."""
    [first, second] = await town.books.open(2, usdc=1_000 * DOLLAR)
    await town.books.apply(*(payment(first, second, 1) for _ in range(650)))
    ann = Person(first, "", "", "", _token(first))
    expected = await recorded(town, ann)
    assert len(expected) == 651
    async with watching(town, ann) as stream:
        cursor = stream.cursor
    async with watching(town, ann, _rewound(cursor)) as stream:
        events = [await stream.event() for _ in expected]
    assert [(event.amount.asset, event.id) for event in events] == expected


async def test_no_event_is_lost_or_told_twice_whatever_happens(town: Town) -> None:
    """Writers in several processes with random pauses, watchers that drop and come back: each event once, in order.

    Half of the commits are another process' and give this one no hint at all, so what is read decides, not what is
    heard.
    """
    people = [await town.settle_in(name, usdc=1_000 * DOLLAR, EURC=1_000 * DOLLAR) for name in ("ann", "bob", "cyd")]
    chance = random.Random(7)
    done = asyncio.Event()
    heard: dict[uuid.UUID, list[pb.Transaction]] = {person.id: [] for person in people}
    starts = {person.id: len(await recorded(town, person)) for person in people}
    cursors: dict[uuid.UUID, str] = {}
    for person in people:
        async with watching(town, person) as stream:
            cursors[person.id] = stream.cursor

    async def write(through_the_api: bool) -> None:
        for _ in range(40):
            await asyncio.sleep(chance.random() / 50)
            sender, recipient = chance.sample(people, 2)
            if through_the_api:
                await town.pay(sender, recipient, 1)
            else:
                asset = chance.choice([Asset.USDC, Asset.EURC])
                await town.books.apply(payment(sender.id, recipient.id, 1, asset=asset))

    async def watch(person: Person) -> None:
        while not done.is_set() or len(heard[person.id]) < len(await recorded(town, person)) - starts[person.id]:
            async with watching(town, person, cursors[person.id]) as stream:
                for _ in range(chance.randrange(1, 12)):
                    try:
                        message = await stream.next(seconds=0.5)
                    except TimeoutError:
                        break  # A read that was given up takes its stream with it.
                    if message.HasField("transaction"):
                        heard[person.id].append(message.transaction)
                    cursors[person.id] = message.cursor

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        watchers = [tasks.create_task(watch(person)) for person in people]
        await asyncio.gather(*(write(through_the_api) for through_the_api in (True, False, True, False)))
        done.set()
        await asyncio.gather(*watchers)
    for person in people:
        everything = await recorded(town, person)
        known = {event.id for event in heard[person.id]}
        assert by_asset(heard[person.id]) == [pair for pair in everything if pair[1] in known]
        assert len(known) == len(heard[person.id]) == len(everything) - starts[person.id]


async def test_a_transaction_in_two_assets_is_one_event(town: Town, ann: Person) -> None:
    """Its two entries are told together, and the cursor passes both."""
    async with watching(town, ann) as stream:
        command = _exchange(ann.id)
        await town.books.apply(command)
        event = await stream.event()
        assert event.id == str(command.transactions[0].id)
        await stream.silence()
        cursor = stream.cursor
    async with watching(town, ann, cursor) as stream:
        await stream.silence()


@pytest.mark.parametrize(
    ("end", "state"), [(posted, pb.TRANSACTION_STATE_COMPLETED), (released, pb.TRANSACTION_STATE_FAILED)]
)
async def test_a_withdrawal_is_told_when_it_is_held_and_when_it_ends(
    town: Town, ann: Person, end: Callable[..., Any], state: pb.TransactionState.ValueType
) -> None:
    """One transaction whose state changes: the ledger's steps are not shown as transactions of their own."""
    withdrawal = _withdrawal(ConsumerId(ann.id))
    async with watching(town, ann) as stream:
        cursor = stream.cursor
        await town.books.apply(_hold(withdrawal))
        held = await stream.event()
        assert (held.id, held.state) == (str(withdrawal.transaction_id), pb.TRANSACTION_STATE_PENDING)
        reason = {"reason": "PolicyForbids"} if end is released else {}
        last = end(withdrawal, transaction_id=TransactionId(ENTROPY.uuid7()), caller="", at=CLOCK.now(), **reason)
        await town.books.apply(
            Command(
                transactions=(last.transaction,),
                postings=(last.postings,),
                record_transitions=(last.transition,),
                custody=(CustodyChange(ann.id, Rail.TEMPO, Asset.USDC, -DOLLAR),) if end is posted else (),
            )
        )
        ended = await stream.event()
        assert (ended.id, ended.state) == (held.id, state)
    async with watching(town, ann, cursor) as stream:
        states = [(await stream.event()).state for _ in range(2)]
        assert states == [pb.TRANSACTION_STATE_PENDING, state], "told late, the steps are the same"


async def test_a_history_and_a_stream_join_without_a_gap(town: Town, ann: Person, bob: Person) -> None:
    """What a page did not see, the stream from its cursor tells, and nothing that the page showed."""
    await town.pay(ann, bob, 1)
    paying = asyncio.gather(*(town.pay(ann, bob, 1) for _ in range(20)))
    await asyncio.sleep(0.02)
    page = await town.wallet.consumers.ListTransactions(pb.ListTransactionsRequest(page_size=500), metadata=ann.token)
    await paying
    listed = [found.id for found in page.transactions]
    everything = [transaction_id for _, transaction_id in await recorded(town, ann)]
    async with watching(town, ann, page.resume_cursor) as stream:
        rest = [(await stream.event()).id for _ in range(len(everything) - len(listed))]
        assert [*reversed(listed), *rest] == everything


# --- settlement -------------------------------------------------------------------------------------------------------


async def settle(town: Town, transaction_id: str, state: ItemState) -> None:
    """What a worker observes; what is confirmed has moved from one position to the other."""
    [row] = await town.books.execute(
        "SELECT * FROM settlement_items WHERE transaction_id = :id", id=uuid.UUID(transaction_id)
    )
    transition = ItemTransition(item_id=row.id, expected=frozenset(ItemState), state=state)
    moved = [(row.sender, -row.micros), (row.recipient, row.micros)] if state is ItemState.CONFIRMED else []
    custody = tuple(CustodyChange(holder, Rail.TEMPO, Asset(row.asset), micros) for holder, micros in moved)
    await town.books.apply(Command(transitions=(transition,), custody=custody))


async def test_settlement_goes_on_behind_the_events(town: Town, ann: Person, bob: Person) -> None:
    """Each state that is seen is told once while the stream is open, to both sides, with the item's receipt."""
    async with watching(town, ann) as hers, watching(town, bob) as his:
        paid = (await town.pay(ann, bob, DOLLAR)).transaction
        await hers.event()
        await his.event()
        for stored, told in (
            (ItemState.SIGNED, pb.SETTLEMENT_STATE_SIGNED),
            (ItemState.INDETERMINATE, pb.SETTLEMENT_STATE_INDETERMINATE),
            (ItemState.CONFIRMED, pb.SETTLEMENT_STATE_CONFIRMED),
        ):
            await settle(town, paid.id, stored)
            for stream in (hers, his):
                update = await stream.update(told)
                assert (update.transaction_id, update.settlement.item_id) == (paid.id, paid.settlements[0].item_id)
                assert update.settlement.state == told
        await hers.silence()


async def test_a_workers_claim_is_nobodys_business(town: Town, ann: Person, bob: Person) -> None:
    """It may be given back, and nothing has happened yet."""
    async with watching(town, ann) as stream:
        paid = (await town.pay(ann, bob, DOLLAR)).transaction
        await stream.event()
        await settle(town, paid.id, ItemState.CLAIMED)
        await stream.silence()


async def test_settlement_that_nobody_watched_is_told_after_a_reconnect(town: Town, ann: Person, bob: Person) -> None:
    """At least once, the latest state: of more transactions than a cursor can name, too."""
    async with watching(town, ann) as stream:
        paid = [(await town.pay(ann, bob, 1)).transaction.id for _ in range(40)]
        for _ in paid:
            await stream.event()
        cursor = stream.cursor
    assert len(cursor) <= 1024
    for transaction_id in paid:
        await settle(town, transaction_id, ItemState.CONFIRMED)
    async with watching(town, ann, cursor) as stream:
        told = [(await stream.update(pb.SETTLEMENT_STATE_CONFIRMED)).transaction_id for _ in paid]
        assert sorted(told) == sorted(paid)
        cursor = stream.cursor
    async with watching(town, ann, cursor) as stream:
        await stream.silence()


async def test_a_page_hands_its_unsettled_transactions_on(town: Town, ann: Person, bob: Person) -> None:
    """From the page's cursor the stream tells how what the page showed as pending goes on."""
    paid = (await town.pay(ann, bob, DOLLAR)).transaction
    page = await town.wallet.consumers.ListTransactions(pb.ListTransactionsRequest(page_size=5), metadata=ann.token)
    await settle(town, paid.id, ItemState.CONFIRMED)
    async with watching(town, ann, page.resume_cursor) as stream:
        assert (await stream.update(pb.SETTLEMENT_STATE_CONFIRMED)).transaction_id == paid.id


# --- cursors and time -------------------------------------------------------------------------------------------------


async def test_a_quiet_stream_gives_signs_of_life_with_its_place(
    town: Town, ann: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while something waits to settle for long; the cursor of a heartbeat is as good as any."""
    monkeypatch.setattr("server.api.transaction_streams.HEARTBEAT_SECONDS", 0.2)
    await town.pay(ann, bob, DOLLAR)
    async with watching(town, ann) as stream:
        await town.pay(ann, bob, DOLLAR)
        await stream.event()
        beats = [await stream.next() for _ in range(4)]
        assert all(beat.HasField("heartbeat") for beat in beats)
        assert beats[0].heartbeat.time.ToDatetime(UTC) <= datetime.now(UTC)
        cursor = stream.cursor
    missed = (await town.pay(ann, bob, DOLLAR)).transaction.id
    async with watching(town, ann, cursor) as stream:
        assert (await stream.event()).id == missed


async def test_a_cursor_that_is_none_of_ours_is_refused(town: Town, ann: Person, bob: Person) -> None:
    """Nonsense, another wallet's, and one that somebody wrote by hand."""
    async with watching(town, bob) as stream:
        his = stream.cursor
    async with watching(town, ann) as stream:
        binding, epoch, told, settled, named = _opened(stream.cursor)
    forged = [
        [binding, epoch, told[:-1], settled, named],
        [binding, epoch, told, [version + 1 for version in settled], named],
        [binding, epoch, [-1, *told[1:]], settled, named],
        [binding, epoch, [True, *told[1:]], settled, named],
        [binding, epoch, told, settled, [[9, 1]]],
        [binding, epoch, told, settled, [[0, 1]] * 17],
        [binding, epoch, told],
        {},
    ]
    for cursor in ("nonsense", "####", his, *(_closed(one) for one in forged)):
        assert (await refused(_first(town, ann, cursor))).reason == "CURSOR_INVALID", cursor


async def test_a_cursor_of_another_time_line_is_too_old(town: Town, bob: Person) -> None:
    """After a restore versions mean other transactions. The oldest cursor tells the whole history that there is now."""
    ann = await town.settle_in("ann", usdc=10 * DOLLAR)
    await town.pay(ann, bob, DOLLAR)
    async with watching(town, ann) as stream:
        cursor = stream.cursor
    beyond = _opened(cursor)
    beyond[2] = [version + 1 for version in beyond[2]]
    assert (await refused(_first(town, ann, _closed(beyond)))).reason == "CURSOR_TOO_OLD"
    async with town.books.engine.begin() as tx:
        await epochs.begin(tx, ENTROPY.uuid7(), now=CLOCK.now())
    refusal = await refused(_first(town, ann, cursor))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_TOO_OLD")
    expected = await recorded(town, ann)
    async with watching(town, ann, refusal.metadata["oldest_cursor"]) as stream:
        assert [(await stream.event()).id for _ in expected] == [transaction_id for _, transaction_id in expected]


async def test_a_stranger_has_no_stream(town: Town) -> None:
    """A token of somebody without a wallet ends it at once."""
    assert (await refused(_first(town, _token(uuid.uuid4()), ""))).reason == "CONSUMER_NOT_FOUND"


# --- the parts --------------------------------------------------------------------------------------------------------


async def _first(town: Town, person: Person | Metadata, cursor: str) -> Any:
    token = person.token if isinstance(person, Person) else person
    call = town.wallet.consumers.WatchTransactions(
        pb.WatchTransactionsRequest(resume_cursor=cursor), metadata=token, timeout=10
    )
    return await call.read()


def _token(consumer_id: uuid.UUID) -> Metadata:
    return consumer(consumer_id)


def _opened(cursor: str) -> list[Any]:
    found: list[Any] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return found


def _closed(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _rewound(cursor: str) -> str:
    """The same wallet and epoch, at the very beginning."""
    binding, epoch, told, *_ = _opened(cursor)
    return _closed([binding, epoch, [0] * len(told), [0] * len(told), []])


def _exchange(owner: uuid.UUID) -> Command:
    """Out in one asset and in with another, as a swap books it."""
    transaction = Transaction(
        id=TransactionId(ENTROPY.uuid7()),
        kind=TransactionKind.SWAP,
        consumer_id=owner,
        counterparty_id=None,
        asset=Asset.USDC,
        micros=DOLLAR,
    )
    treasury = operator_account(AccountKind.TREASURY)
    postings = (
        Posting(available(owner), treasury, Asset.USDC, DOLLAR),
        Posting(treasury, available(owner), Asset.USDT, DOLLAR),
    )
    custody = (
        CustodyChange(owner, Rail.TEMPO, Asset.USDC, -DOLLAR),
        CustodyChange(owner, Rail.TEMPO, Asset.USDT, DOLLAR),
    )
    return Command(transactions=(transaction,), postings=(postings,), custody=custody)


def _withdrawal(owner: ConsumerId) -> Withdrawal:
    amount, fee = Money(Asset.USDC, DOLLAR), Money(Asset.USDC, 100)
    return Withdrawal(
        id=ENTROPY.uuid7(),
        transaction_id=TransactionId(ENTROPY.uuid7()),
        consumer_id=owner,
        amount=amount,
        fee=fee,
        route=RouteDecision("tempo", Rail.TEMPO, fee, CLOCK.now() - CLOCK.now(), (RouteReason.PREFERRED,)),
        state=WithdrawalState.HELD,
        address="0x" + "ab" * 20,
        limit_day=date.today(),
        limit_usd_micros=DOLLAR,
    )


def _hold(withdrawal: Withdrawal) -> Command:
    header = Transaction(
        id=withdrawal.transaction_id,
        kind=TransactionKind.WITHDRAWAL,
        consumer_id=withdrawal.consumer_id,
        counterparty_id=None,
        asset=Asset.USDC,
        micros=DOLLAR,
        fee_micros=100,
    )
    return Command(
        transactions=(header,),
        postings=((hold_posting(withdrawal.consumer_id, withdrawal.amount, withdrawal.fee),),),
        sender=withdrawal.consumer_id,
        limit_usd_micros=DOLLAR,
        new_records=(withdrawals.new_record(withdrawal, now=CLOCK.now()),),
    )
