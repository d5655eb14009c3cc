"""The one door to the ledger, on a real Postgres: once each, in order, whoever else is there and whatever breaks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from domain.commands import Command, LimitReturn
from domain.errors import (
    ConsumerFrozen,
    DatabaseUnavailable,
    DeadlinePassed,
    IdempotencyKeyReused,
    InsufficientFunds,
    LimitExceeded,
    Overloaded,
    RecipientFrozen,
    RecipientNotFound,
)
from domain.identity import ConsumerId
from domain.ledger_state import Applied, Refused
from domain.limits import DAILY_LIMIT_MICROS
from domain.money import Asset
from domain.postings import Posting, available
from sandbox.component import free_port
from tests.books import CLOCK, DOLLAR, ENTROPY, FEE, Books, audit, books_of, deposit, new_request, payment


@pytest.fixture
async def books(database: str) -> AsyncIterator[Books]:
    async with books_of(database) as books:
        yield books
        await audit(books.engine)


# --- funds ------------------------------------------------------------------------------------------------------------


async def test_rule_20_an_account_that_can_pay_k_of_n_concurrent_transfers_pays_exactly_k(books: Books) -> None:
    """Funds are judged under the lock, so concurrency can neither overdraw an account nor leave money unspent."""
    (sender,) = await books.open(1, usdc=7 * (DOLLAR + FEE) + DOLLAR)
    recipients = await books.open(30)
    outcomes = await asyncio.gather(*(books.submit(payment(sender, to, DOLLAR)) for to in recipients))
    assert sum(isinstance(outcome, Applied) for outcome in outcomes) == 7
    refusals = [outcome.error for outcome in outcomes if isinstance(outcome, Refused)]
    assert all(isinstance(error, InsufficientFunds) for error in refusals)
    assert await books.available(sender) == [DOLLAR]


async def test_money_received_in_a_batch_can_be_spent_by_a_later_command_of_the_same_batch(books: Books) -> None:
    """Commands are decided in order, each on the effects of those before it, also inside one commit."""
    first, second, third = await books.open(3)
    await books.apply(deposit(first, DOLLAR + FEE))
    await books.apply(payment(first, second, DOLLAR), payment(second, third, DOLLAR - FEE))
    assert await books.available(first, second, third) == [0, 0, DOLLAR - FEE]


# --- request ids ------------------------------------------------------------------------------------------------------


async def test_rule_22_one_request_id_from_fifty_tasks_has_one_effect_and_one_answer(books: Books) -> None:
    """A client that retries in a hurry pays once, and is told the same each time."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    request = new_request(sender)
    commands = [payment(sender, recipient, DOLLAR, request=request) for _ in range(50)]
    outcomes = await asyncio.gather(*(books.submit(command) for command in commands))
    assert await books.available(sender, recipient) == [9 * DOLLAR - FEE, 11 * DOLLAR]
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    answers = {replace(outcome, replayed=True) for outcome in outcomes if isinstance(outcome, Applied)}
    assert len(answers) == 1


async def test_rule_22_one_request_id_at_two_processes_has_one_effect(books: Books) -> None:
    """A retry may well reach another server: the key is in the database, under the sender's lock."""
    sender, recipient = await books.open(2, usdc=100 * DOLLAR)
    async with books_of(books.url) as elsewhere:
        for _ in range(20):
            request = new_request(sender)
            commands = [payment(sender, recipient, DOLLAR, request=request) for _ in range(6)]
            doors = [books, elsewhere] * 3
            outcomes = await asyncio.gather(
                *(door.submit(command) for door, command in zip(doors, commands, strict=True))
            )
            assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert await books.available(sender) == [100 * DOLLAR - 20 * (DOLLAR + FEE)]


async def test_rule_22_an_id_used_for_something_else_is_refused_and_named_as_it_was_sent(books: Books) -> None:
    """Two intents under one id are a fault of the client, who has to recognise the id to find it."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    request = new_request(sender, body="first", request_id="0190A0B0-0000-7000-8000-00000000000A")
    await books.apply(payment(sender, recipient, DOLLAR, request=request))
    other = replace(request, body_hash=new_request(sender, body="second").body_hash)
    refused = await books.refuse(payment(sender, recipient, 2 * DOLLAR, request=other))
    assert isinstance(refused.error, IdempotencyKeyReused)
    assert refused.error.request_id == "0190A0B0-0000-7000-8000-00000000000A"
    assert await books.available(sender) == [9 * DOLLAR - FEE]


async def test_rule_22_duplicates_in_flight_compare_their_hashes_too(books: Books) -> None:
    """The second of two different bodies under one id must not get the first one's answer, not even in one batch."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    request = new_request(sender, body="first")
    other = replace(request, body_hash=new_request(sender, body="second").body_hash)
    outcomes = await asyncio.gather(
        books.submit(payment(sender, recipient, DOLLAR, request=request)),
        books.submit(payment(sender, recipient, 2 * DOLLAR, request=other)),
    )
    assert isinstance(outcomes[0], Applied)
    assert isinstance(outcomes[1], Refused)
    assert isinstance(outcomes[1].error, IdempotencyKeyReused)


async def test_rule_22_a_definite_refusal_is_the_answer_for_its_id_for_ever(books: Books) -> None:
    """The app may have shown "refused" and moved on: a late retry that succeeds would pay behind its back."""
    sender, recipient = await books.open(2)
    request = new_request(sender)
    first = await books.refuse(payment(sender, recipient, DOLLAR, request=request))
    assert isinstance(first.error, InsufficientFunds)
    await books.apply(deposit(sender, 10 * DOLLAR))
    again = await books.refuse(payment(sender, recipient, DOLLAR, request=request))
    assert again.replayed
    assert again.error.facts() == first.error.facts()
    await books.apply(payment(sender, recipient, DOLLAR))


async def test_rule_22_a_refusal_that_is_not_definite_leaves_the_id_free(books: Books) -> None:
    """Somebody who joins tomorrow can be paid under the id that found nobody today."""
    (sender,) = await books.open(1, usdc=10 * DOLLAR)
    request = new_request(sender)
    nobody = ConsumerId(ENTROPY.uuid7())
    refused = await books.refuse(payment(sender, nobody, DOLLAR, request=request))
    assert isinstance(refused.error, RecipientNotFound)
    doomed = Command(request=request, sender=sender, doom=RecipientNotFound("recipient.handle"))
    assert (await books.refuse(doomed)).error is doomed.doom
    (recipient,) = await books.open(1)
    await books.apply(payment(sender, recipient, DOLLAR, request=request))


async def test_rule_22_a_replay_is_answered_before_anything_else_is_judged(books: Books) -> None:
    """What became of the handle, the rate, the flags or the funds since must not change what was answered."""
    sender, recipient = await books.open(2, usdc=DOLLAR + FEE)
    request = new_request(sender)
    (first,) = await books.apply(payment(sender, recipient, DOLLAR, request=request))
    await books.execute("UPDATE wallets SET frozen = true")
    doomed = Command(request=request, sender=sender, doom=RecipientNotFound("recipient.handle"))
    (again,) = await books.apply(doomed)
    assert again == replace(first, replayed=True)


# --- flags ------------------------------------------------------------------------------------------------------------


async def test_nothing_leaves_or_enters_a_frozen_wallet(books: Books) -> None:
    """Freezing is an operator's decision and is judged under the lock, so it holds from its commit on."""
    frozen, other = await books.open(2, usdc=10 * DOLLAR)
    await books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=frozen)
    out, into = await books.refuse(payment(frozen, other, DOLLAR)), await books.refuse(payment(other, frozen, DOLLAR))
    assert isinstance(out.error, ConsumerFrozen)
    assert isinstance(into.error, RecipientFrozen)
    assert await books.available(frozen, other) == [10 * DOLLAR, 10 * DOLLAR]
    await books.apply(deposit(frozen, DOLLAR))


# --- limits -----------------------------------------------------------------------------------------------------------

LIMIT = DAILY_LIMIT_MICROS[1]
NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)


async def test_rule_24_concurrent_transfers_pass_the_limit_by_not_one_micro(books: Books) -> None:
    """The counter lies in the locked row: a limit that is read first and written later lets two through."""
    (sender,) = await books.open(1, usdc=5_000 * DOLLAR, kyc_level=1)
    recipients = await books.open(25)
    outcomes = await asyncio.gather(*(books.submit(payment(sender, to, 100 * DOLLAR)) for to in recipients))
    assert sum(isinstance(outcome, Applied) for outcome in outcomes) == LIMIT // (100 * DOLLAR)
    error = next(outcome.error for outcome in outcomes if isinstance(outcome, Refused))
    assert isinstance(error, LimitExceeded)
    assert (error.used_usd_micros, error.remaining_usd_micros) == (LIMIT, 0)


async def test_rule_24_the_limit_starts_anew_at_midnight_utc(database: str) -> None:
    """And the refusal says when, so that an app can tell its user."""
    now = NOON.replace(hour=23, minute=59)
    async with books_of(database, batch_time=lambda: now) as books:
        sender, recipient = await books.open(2, usdc=5_000 * DOLLAR, kyc_level=1)
        await books.apply(payment(sender, recipient, LIMIT))
        refused = await books.refuse(payment(sender, recipient, 1))
        assert isinstance(refused.error, LimitExceeded)
        assert refused.error.reset_time == datetime(2027, 3, 11, tzinfo=UTC)
        now += timedelta(minutes=1)
        await books.apply(payment(sender, recipient, LIMIT))
        await audit(books.engine)


async def test_rule_24_a_clock_that_goes_back_gives_no_second_limit(database: str) -> None:
    """A failover to a machine whose clock is behind must not open yesterday's counter again."""
    now = NOON
    async with books_of(database, batch_time=lambda: now) as books:
        sender, recipient = await books.open(2, usdc=5_000 * DOLLAR, kyc_level=1)
        await books.apply(payment(sender, recipient, LIMIT))
        now -= timedelta(days=1)
        refused = await books.refuse(payment(sender, recipient, 1))
        assert isinstance(refused.error, LimitExceeded)


async def test_rule_24_a_reservation_is_given_back_to_its_own_day_only(database: str) -> None:
    """A withdrawal that fails after midnight must not enlarge the new day's limit."""
    now = NOON
    async with books_of(database, batch_time=lambda: now) as books:
        sender, recipient = await books.open(2, usdc=5_000 * DOLLAR, kyc_level=1)
        await books.apply(payment(sender, recipient, LIMIT))
        back = Command(limit_return=LimitReturn(sender, NOON.date(), 300 * DOLLAR))
        await books.apply(back)
        await books.apply(payment(sender, recipient, 300 * DOLLAR))
        now += timedelta(days=1)
        await books.apply(payment(sender, recipient, LIMIT))
        await books.apply(back)
        refused = await books.refuse(payment(sender, recipient, 1))
        assert isinstance(refused.error, LimitExceeded)
        assert refused.error.used_usd_micros == LIMIT


# --- several processes, strangers, poison ---------------------------------------------------------------------------


async def test_rule_20_two_processes_on_the_same_few_accounts_meet_no_deadlock(books: Books) -> None:
    """Everybody locks in one global order, so two batches over the same rows wait for each other and go on."""
    accounts = await books.open(6, usdc=20 * DOLLAR)
    chance = random.Random(7)
    async with books_of(books.url, committers=2) as elsewhere:

        async def pay(door: Books) -> None:
            sender, recipient = chance.sample(accounts, 2)
            outcome = await door.submit(payment(sender, recipient, chance.randrange(1, 3 * DOLLAR)))
            assert isinstance(outcome, Applied) or isinstance(outcome.error, InsufficientFunds), outcome

        await asyncio.gather(*(pay(door) for door in [books, elsewhere] * 300))
    assert sum(await books.available(*accounts)) <= 6 * 20 * DOLLAR


async def test_a_poisonous_command_fails_alone(books: Books) -> None:
    """A bug in one use case must not take the others' transfers with it."""
    sender, recipient = await books.open(2, usdc=100 * DOLLAR)
    nothing = Posting(available(sender), available(recipient), Asset.USDC, 0)
    poison = replace(payment(sender, recipient, DOLLAR), postings=((nothing,),))
    good = [books.submit(payment(sender, recipient, DOLLAR)) for _ in range(20)]
    answers = await asyncio.gather(*good[:10], books.submit(poison), *good[10:], return_exceptions=True)
    assert isinstance(answers.pop(10), ValueError)
    assert all(isinstance(answer, Applied) for answer in answers)
    assert await books.available(sender) == [100 * DOLLAR - 20 * (DOLLAR + FEE)]


async def test_what_the_database_itself_refuses_fails_alone_too(books: Books) -> None:
    """The same for a fault that only a constraint finds: here an item's id that exists already."""
    sender, recipient = await books.open(2, usdc=100 * DOLLAR)
    first = payment(sender, recipient, DOLLAR)
    await books.apply(first)
    twice = replace(payment(sender, recipient, DOLLAR), items=first.items)
    good = [books.submit(payment(sender, recipient, DOLLAR)) for _ in range(6)]
    answers = await asyncio.gather(*good[:3], books.submit(twice), *good[3:], return_exceptions=True)
    assert isinstance(answers.pop(3), psycopg.errors.UniqueViolation)
    assert all(isinstance(answer, Applied) for answer in answers)


async def test_rule_23_a_strangers_lock_holds_up_only_those_it_concerns(books: Books) -> None:
    """A person at psql, or a stuck job, locks one wallet: its payments are told to come back, all others go on.

    The first time costs a moment of waiting, for the whole batch. After that nobody waits for the wallet any more,
    however many payments keep coming for it.
    """
    locked, *others = await books.open(9, usdc=100 * DOLLAR)
    async with await psycopg.AsyncConnection.connect(books.url) as stranger:
        await stranger.execute("SELECT 1 FROM wallets WHERE consumer_id = %s FOR UPDATE", (locked,))
        started = time.monotonic()
        for _ in range(5):
            held_up = [asyncio.create_task(books.submit(payment(other, locked, DOLLAR))) for other in others]
            await books.apply(*(payment(a, b, DOLLAR) for a in others for b in others if a != b))
            answers = await asyncio.gather(*held_up, return_exceptions=True)
            assert all(isinstance(answer, Overloaded) for answer in answers)
        assert time.monotonic() - started < 3
        await stranger.rollback()
    await books.apply(payment(locked, others[0], DOLLAR))


async def test_rule_23_a_wallet_that_is_held_for_a_moment_is_waited_for_while_others_go_on(books: Books) -> None:
    """As by the long batch of another process: nobody is turned away for it, and the queue does not stand still."""
    locked, *others = await books.open(5, usdc=100 * DOLLAR)
    async with await psycopg.AsyncConnection.connect(books.url) as other_process:
        await other_process.execute("SELECT 1 FROM wallets WHERE consumer_id = %s FOR UPDATE", (locked,))
        held_up = [asyncio.create_task(books.submit(payment(other, locked, DOLLAR))) for other in others[:2]]
        await books.apply(payment(others[2], others[3], DOLLAR))
        await books.apply(payment(others[3], others[0], DOLLAR))
        assert not any(task.done() for task in held_up)
        await other_process.rollback()
    assert all(isinstance(answer, Applied) for answer in await asyncio.gather(*held_up))


async def test_rule_22_what_is_set_aside_is_not_overtaken_by_later_payments_of_its_sender(books: Books) -> None:
    """A backend that sends a payment and then one with the rest of the money means that order."""
    locked, sender, free = await books.open(3, usdc=100 * DOLLAR)
    async with await psycopg.AsyncConnection.connect(books.url) as other_process:
        await other_process.execute("SELECT 1 FROM wallets WHERE consumer_id = %s FOR UPDATE", (locked,))
        first = payment(sender, locked, 80 * DOLLAR)
        second = payment(sender, free, 80 * DOLLAR)
        both = asyncio.create_task(books.writer.submit_all([first, second]))
        await asyncio.sleep(0.4)
        third = asyncio.create_task(books.submit(payment(sender, free, 10 * DOLLAR)))
        await asyncio.sleep(0.1)
        assert not both.done()
        assert not third.done()
        await other_process.rollback()
    paid, refused = await both
    assert isinstance(paid, Applied)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, InsufficientFunds)
    assert isinstance(await third, Applied)


async def test_rule_23_a_lock_elsewhere_is_found_by_halving_the_batch(books: Books) -> None:
    """Not only wallets can be held: whatever it is, it is narrowed down until only its own command waits."""
    held, *others = await books.open(5, usdc=100 * DOLLAR)
    async with await psycopg.AsyncConnection.connect(books.url) as stranger:
        await stranger.execute("SELECT 1 FROM stablecoin_balances WHERE consumer_id = %s FOR UPDATE", (held,))
        held_up = asyncio.create_task(books.submit(payment(held, others[0], DOLLAR)))
        await books.apply(*(payment(a, b, DOLLAR) for a in others for b in others if a != b))
        with pytest.raises(Overloaded):
            await held_up
        await stranger.rollback()
    await books.apply(payment(held, others[0], DOLLAR))


# --- the queue --------------------------------------------------------------------------------------------------------


async def test_a_full_queue_turns_callers_away_at_once_and_says_when_to_come_back(database: str) -> None:
    """Work that cannot be done in time is refused before it costs anything: the queue has a bound."""
    async with books_of(database, queue_limit=5) as books:
        sender, recipient = await books.open(2, usdc=100 * DOLLAR)
        calls = [books.submit(payment(sender, recipient, DOLLAR)) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        turned_away = [answer for answer in answers if isinstance(answer, Overloaded)]
        assert len(turned_away) == 7
        assert all(error.retry_after_ms > 0 for error in turned_away)
        assert await books.available(sender) == [100 * DOLLAR - 5 * (DOLLAR + FEE)]
        await audit(books.engine)


async def test_rule_23_a_command_whose_deadline_has_passed_is_dropped_undecided(books: Books) -> None:
    """Nobody waits for its answer any more, and "it was dropped" must be true for certain."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    late = payment(sender, recipient, DOLLAR)
    outcome = await books.writer.submit(late, deadline=CLOCK.monotonic() - 0.001)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, DeadlinePassed)
    assert await books.available(sender) == [10 * DOLLAR]
    await books.apply(late)


async def test_a_caller_who_left_before_the_decision_pays_nothing(books: Books) -> None:
    """A cancelled call is dropped while it waits; once it is being committed it is committed."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    call = asyncio.create_task(books.submit(payment(sender, recipient, DOLLAR)))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await books.apply(payment(sender, recipient, 2 * DOLLAR))
    assert await books.available(sender) == [8 * DOLLAR - FEE]


async def test_everything_submitted_before_the_stop_is_answered(database: str) -> None:
    """A drain ends with an empty queue: no caller is left without an answer."""
    async with books_of(database) as books:
        sender, recipient = await books.open(2, usdc=100 * DOLLAR)
        calls = [asyncio.create_task(books.submit(payment(sender, recipient, DOLLAR))) for _ in range(40)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*calls)
    assert all(isinstance(answer, Applied) for answer in answers)


async def test_each_commit_announces_the_balances_it_changed(books: Books) -> None:
    """Streams are woken by this; what changed nothing wakes nobody."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    books.announced.clear()
    await books.apply(payment(sender, recipient, DOLLAR))
    assert set(books.announced) == {(sender, Asset.USDC), (recipient, Asset.USDC)}
    books.announced.clear()
    await books.refuse(payment(sender, recipient, 100 * DOLLAR))
    assert books.announced == []


# --- lost connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 24])
async def test_rule_21_callers_notice_nothing_of_lost_connections(books: Books, in_flight: int) -> None:
    """The same batch is sent again: whether its commit had been written or not, each command takes effect once."""
    accounts = await books.open(8, usdc=1_000 * DOLLAR)
    stop = asyncio.Event()
    done: list[Applied] = []

    async def pay(chance: random.Random) -> None:
        while not stop.is_set():
            sender, recipient = chance.sample(accounts, 2)
            outcome = await books.submit(payment(sender, recipient, 1_000))
            assert isinstance(outcome, Applied), outcome
            assert not outcome.replayed
            done.append(outcome)

    async with asyncio.TaskGroup() as tasks, await psycopg.AsyncConnection.connect(books.url, autocommit=True) as admin:
        for seed in range(in_flight):
            tasks.create_task(pay(random.Random(seed)))
        for _ in range(12):
            await asyncio.sleep(0.12)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'monay-committer'"
                " AND datname = current_database()"
            )
        stop.set()
    assert len({outcome.transaction_id for outcome in done}) == len(done) > 10
    ((recorded,),) = await books.execute("SELECT count(*) FROM transactions WHERE kind = 'transfer'")
    assert recorded == len(done)


async def test_rule_21_a_batch_that_was_committed_and_is_sent_again_finds_itself(books: Books) -> None:
    """The answer of a commit can be lost after the commit. Then the second answer is the first one, and no replay."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    command = payment(sender, recipient, DOLLAR)
    (first,) = await books.apply(command)
    (again,) = await books.apply(command)
    assert again == first
    assert not again.replayed
    assert await books.available(sender) == [9 * DOLLAR - FEE]


async def test_a_database_that_stays_away_is_told_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller must not take it for a refusal: only the same request id tells what became of it."""
    monkeypatch.setattr("server.ledger_writer.RECONNECT_SECONDS", (0.01, 0.01))
    async with books_of(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing") as books:
        sender, recipient = ConsumerId(ENTROPY.uuid7()), ConsumerId(ENTROPY.uuid7())
        with pytest.raises(DatabaseUnavailable):
            await books.submit(payment(sender, recipient, DOLLAR))
        with pytest.raises(DatabaseUnavailable):
            await books.writer.preview(payment(sender, recipient, DOLLAR))


# --- preview ----------------------------------------------------------------------------------------------------------


async def test_rule_25_a_preview_answers_what_the_command_would_and_writes_nothing(books: Books) -> None:
    """`validate_only` is worth something only if it cannot differ from the real call."""
    chance = random.Random(3)
    accounts = await books.open(4, usdc=3 * DOLLAR, kyc_level=1)
    await books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=accounts[3])
    requests = [new_request(account) for account in accounts]
    for _ in range(60):
        sender, recipient = chance.sample(accounts, 2)
        request = chance.choice([None, requests[accounts.index(sender)]])
        limit = chance.choice([None, DAILY_LIMIT_MICROS[1] + 1])
        command = payment(sender, recipient, chance.randrange(1, DOLLAR), request=request, limit=limit)
        before = await books.execute("SELECT (SELECT count(*) FROM requests), (SELECT sum(version) FROM entries)")
        told = await books.writer.preview(command)
        assert before == await books.execute(
            "SELECT (SELECT count(*) FROM requests), (SELECT sum(version) FROM entries)"
        )
        found = await books.submit(command)
        assert _without_time(told) == _without_time(found)


def _without_time(outcome: Applied | Refused) -> object:
    if isinstance(outcome, Refused):
        return outcome.error.reason, outcome.error.facts()
    return replace(outcome, at=NOON)


async def test_rule_25_a_preview_waits_for_no_lock(books: Books) -> None:
    """It only reads, so a row that somebody holds is no reason to wait."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    async with await psycopg.AsyncConnection.connect(books.url) as stranger:
        await stranger.execute("SELECT 1 FROM wallets FOR UPDATE")
        told = await asyncio.wait_for(books.writer.preview(payment(sender, recipient, DOLLAR)), 2)
    assert isinstance(told, Applied)


async def test_a_preview_survives_the_loss_of_its_connection(books: Books) -> None:
    """It has no effect that could be doubled, so it simply asks again."""
    sender, recipient = await books.open(2, usdc=10 * DOLLAR)
    command = payment(sender, recipient, DOLLAR)
    await books.writer.preview(command)
    await books.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'monay-committer'"
        " AND datname = current_database()"
    )
    assert isinstance(await books.writer.preview(command), Applied)
