"""The balance reader: many callers, few statements, and never an answer older than the question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from domain.errors import DatabaseUnavailable
from domain.money import Asset
from server.balance_reader import BalanceReader
from storage import balances
from storage.database import reading
from tests.books import Books, books_of, deposit

DOLLAR = 1_000_000
SOON = 10


@pytest.fixture
async def books(database: str) -> AsyncIterator[Books]:
    async with books_of(database) as books:
        yield books


@pytest.fixture
async def reader(books: Books) -> AsyncIterator[BalanceReader]:
    reader = BalanceReader(database_url=books.url)
    stop = asyncio.Event()
    running = asyncio.create_task(reader.run(stop))
    yield reader
    stop.set()
    await asyncio.wait_for(running, SOON)


async def test_it_says_what_a_plain_read_says(books: Books, reader: BalanceReader) -> None:
    """Two ways to ask one question must have one answer, down to the type of each field."""
    ids = await books.open(3)
    for place, consumer in enumerate(ids):
        await books.apply(deposit(consumer, (place + 1) * DOLLAR))
    found = await reader.of_consumers(ids)
    async with reading(books.engine) as tx:
        assert found == await balances.of_consumers(tx, ids)
    assert [found[consumer, Asset.USDC].available_micros for consumer in ids] == [DOLLAR, 2 * DOLLAR, 3 * DOLLAR]


async def test_a_crowd_shares_a_statement_and_everybody_gets_their_own(
    books: Books, reader: BalanceReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty callers, of whom one at most is under way: the others share the second statement."""
    ids = await books.open(10)
    asked: list[int] = []
    read_together = balances.read_together

    async def counted(*arguments: object) -> object:
        asked.append(1)
        return await read_together(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(balances, "read_together", counted)
    answers = await asyncio.gather(*(reader.of_consumer(ids[number % 10]) for number in range(50)))
    for number, found in enumerate(answers):
        assert {one.consumer_id for one in found.values()} == {ids[number % 10]}
        assert set(found) == set(Asset)
    assert len(asked) <= 2


async def test_who_asks_after_a_commit_sees_it(books: Books, reader: BalanceReader) -> None:
    """A statement that is under way already may be too old for whoever comes now."""
    (consumer,) = await books.open(1)
    for paid in range(1, 20):
        others = [asyncio.create_task(reader.of_consumer(consumer)) for _ in range(5)]
        await books.apply(deposit(consumer, DOLLAR))
        assert (await reader.of_consumer(consumer))[Asset.USDC].available_micros == paid * DOLLAR
        await asyncio.gather(*others)


async def test_nobody_has_no_balances(reader: BalanceReader) -> None:
    """An unknown wallet is not an error of the reader: what it means is said by whoever asked."""
    assert await reader.of_consumer(uuid4()) == {}


async def test_a_lost_connection_is_replaced_without_the_callers_noticing(books: Books, reader: BalanceReader) -> None:
    """A read changes nothing, so it may always be asked again."""
    (consumer,) = await books.open(1)
    assert await reader.of_consumer(consumer)
    with psycopg.connect(books.url, autocommit=True) as admin:
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'monay-committer' AND datname = current_database()"
        ).fetchall()
    assert ended
    assert len(await asyncio.wait_for(reader.of_consumer(consumer), SOON)) == len(Asset)


async def test_without_a_database_it_says_so() -> None:
    """Nobody waits for ever, and the next caller is answered for themselves."""
    reader = BalanceReader(database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    stop = asyncio.Event()
    running = asyncio.create_task(reader.run(stop))
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(reader.of_consumer(uuid4()), SOON)
    stop.set()
    await running
