"""The ledger's two round trips on a real Postgres: what is locked when, what is read, and by which plans."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import psycopg

from domain.commands import Command
from domain.errors import ConsumerFrozen, IdempotencyKeyReused, LimitExceeded
from domain.ledger_state import Applied, Refused
from domain.limits import DAILY_LIMIT_MICROS
from domain.money import Asset
from storage import balances, committer
from storage.database import reading
from storage.ledger import reads, writes
from storage.ledger.statements import Statement
from tests.books import DOLLAR, FEE, Books, deposit, new_request, payment
from tests.plans import explained

STATEMENTS = {
    name: value._text
    for module in (reads, writes)
    for name, value in vars(module).items()
    if isinstance(value, Statement)
}


# --- plans ------------------------------------------------------------------------------------------------------------


async def test_no_statement_of_a_committer_reads_a_table_from_end_to_end(database: str) -> None:
    """A plan made while the tables were empty and analysed is kept for the life of the connection.

    Left to itself, Postgres then scans tables that have grown meanwhile, and a transfer becomes fifty times dearer.
    """
    wrong = {}
    async with await psycopg.AsyncConnection.connect(database, options=committer._OPTIONS, autocommit=True) as session:
        await session.execute("ANALYZE")
        for name, text in STATEMENTS.items():
            # As bytes and without parameters it goes out by itself, which a generic plan has to be asked for.
            cursor = await session.execute(b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + text)
            ((plan,),) = await cursor.fetchall()
            wrong[name] = _kinds(plan[0]["Plan"]) & {"Seq Scan", "Hash Join", "Merge Join"}
    assert len(wrong) > 20
    assert not any(wrong.values()), wrong


def _kinds(plan: dict[str, Any]) -> set[str]:
    return {plan["Node Type"]}.union(*(_kinds(part) for part in plan.get("Plans", [])))


async def test_a_ledger_that_was_empty_when_its_plans_were_made_reads_little_when_it_is_full(books: Books) -> None:
    """The same, by what is really read: rows are touched for the two parties and for nobody else."""
    sender, recipient = await books.open(2, usdc=1_000 * DOLLAR)
    await books.execute("ANALYZE")
    await books.apply(payment(sender, recipient, DOLLAR))
    many = await books.open(2_000)
    for start in range(0, 2_000, 200):
        await books.apply(*(deposit(consumer, DOLLAR) for consumer in many[start : start + 200]))
    one_more = payment(sender, recipient, DOLLAR)
    before = await _touched(books, one_more)
    for _ in range(50):
        await books.apply(payment(sender, recipient, DOLLAR))
    after = await _touched(books, one_more)
    assert after["seq"] == before["seq"]
    assert after["tuples"] - before["tuples"] < 50 * 40


async def _touched(books: Books, anything: Command) -> dict[str, int]:
    """What has been read of the hot tables so far. A session reports it with its next commit, once a second at most."""
    await asyncio.sleep(1.1)
    await books.apply(anything)
    ((seq, tuples),) = await books.execute(
        "SELECT sum(seq_scan)::bigint, sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint FROM pg_stat_user_tables"
        " WHERE relname IN ('wallets', 'stablecoin_balances', 'requests', 'settlement_items', 'transactions')"
    )
    return {"seq": seq, "tuples": tuples}


# --- lock first, read second ------------------------------------------------------------------------------------------


async def _while_locked(books: Books, sender: UUID, change: str, **values: Any) -> Any:
    """Submit a payment while a stranger holds the sender's wallet, change something, and let go."""
    (recipient,) = await books.open(1)
    request = new_request(sender, body="ours")
    async with await psycopg.AsyncConnection.connect(books.url) as stranger:
        await stranger.execute("SELECT 1 FROM wallets WHERE consumer_id = %s FOR UPDATE", (sender,))
        waiting = asyncio.create_task(books.submit(payment(sender, recipient, DOLLAR, request=request)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await stranger.execute(change.encode(), {"sender": sender, "key": request.key, **values})
        await stranger.commit()
        return await waiting


async def test_rule_20_a_limit_is_read_as_it_stands_once_the_lock_is_held(books: Books) -> None:
    """One statement that locks and joins returns a fresh balance beside a limit of before it waited."""
    (sender,) = await books.open(1, usdc=10 * DOLLAR, kyc_level=1)
    outcome = await _while_locked(
        books,
        sender,
        "UPDATE wallets SET usage_usd_micros = %(used)s, usage_day = (clock_timestamp() AT TIME ZONE 'UTC')::date"
        " WHERE consumer_id = %(sender)s",
        used=DAILY_LIMIT_MICROS[1],
    )
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, LimitExceeded)


async def test_rule_20_a_freeze_holds_from_its_commit_on(books: Books) -> None:
    """Also for a payment that was under way when it was decided."""
    (sender,) = await books.open(1, usdc=10 * DOLLAR)
    outcome = await _while_locked(books, sender, "UPDATE wallets SET frozen = true WHERE consumer_id = %(sender)s")
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, ConsumerFrozen)


async def test_rule_20_a_request_id_used_while_we_waited_is_found(books: Books) -> None:
    """Request ids are read by a later statement, whose snapshot is younger than the lock on their owner."""
    (sender,) = await books.open(1, usdc=10 * DOLLAR)
    outcome = await _while_locked(
        books,
        sender,
        "INSERT INTO requests (owner_id, key, body_hash, available_after, held_after, version_after, created_at)"
        " VALUES (%(sender)s, %(key)s, 'theirs', 0, 0, 0, clock_timestamp())",
    )
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, IdempotencyKeyReused)


async def test_rule_20_committers_work_in_read_committed_whatever_the_server_says(books: Books) -> None:
    """In a stricter level the second statement would see the snapshot of the first, from before the lock."""
    await books.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation TO ''repeatable read''',"
        " current_database()); END $$"
    )
    async with await psycopg.AsyncConnection.connect(books.url, options=committer._OPTIONS) as session:
        ((level,),) = await (await session.execute("SHOW transaction_isolation")).fetchall()
    assert level == "read committed"


async def test_rule_23_committers_wait_for_nothing_longer_than_a_moment(books: Books) -> None:
    """Locks, statements, idle transactions and dead peers each have a bound, or one of them fills the queue."""
    async with await psycopg.AsyncConnection.connect(books.url, options=committer._OPTIONS) as session:
        bounds = {}
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout"):
            ((value,),) = await (
                await session.execute("SELECT setting::int FROM pg_settings WHERE name = %s", (name,))
            ).fetchall()
            bounds[name] = value
    assert bounds["lock_timeout"] == 250
    assert all(0 < value <= 10_000 for value in bounds.values())


# --- balances as they are read ----------------------------------------------------------------------------------------


async def test_reading_a_balance_costs_the_same_however_many_there_are(books: Books) -> None:
    """Counted in blocks: an app that opens must not be slower because others have wallets, too."""
    sender, *others = await books.open(500, usdc=10 * DOLLAR)
    await books.apply(*(payment(sender, other, 1_000) for other in others[:20]))
    await books.execute("ANALYZE")
    async with reading(books.engine) as tx:
        with explained(books.engine) as plans:
            found = await balances.of_consumers(tx, [sender])
    assert found[sender, Asset.USDC].available_micros == 10 * DOLLAR - 20 * (1_000 + FEE)
    assert plans.blocks < 100


async def test_whoever_moved_on_is_found_by_the_sum_of_versions(books: Books) -> None:
    """Streams compare it every few seconds, so that a lost hint costs no more than that."""
    first, second, third = await books.open(3, usdc=DOLLAR)
    async with reading(books.engine) as tx:
        known: dict[UUID, int] = dict.fromkeys((first, second, third), 1)
        assert await balances.changed(tx, known) == []
        await books.apply(deposit(second, DOLLAR, asset=Asset.EURC))
        assert await balances.changed(tx, known) == [second]
        known |= {second: 2, third: 0}
        assert await balances.changed(tx, known) == [third]


async def test_what_settles_in_is_what_the_items_say(books: Books) -> None:
    """It is read without an index on recipients, from the equation of the books; here both ways are compared."""
    people = await books.open(5, usdc=100 * DOLLAR)
    outcomes = await books.apply(
        *(payment(a, b, 1_000 * number + 1) for number, a in enumerate(people) for b in people if a != b)
    )
    assert all(isinstance(outcome, Applied) for outcome in outcomes)
    incoming = await books.execute("SELECT recipient, sum(micros)::bigint FROM settlement_items GROUP BY recipient")
    for recipient, micros in incoming:
        assert (await books.balance(recipient)).settling_micros == micros
