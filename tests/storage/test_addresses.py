"""The address pool: each address is given to one holder once, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.clock import SystemClock, SystemEntropy
from domain.identity import OPERATOR
from storage import addresses
from storage.database import Engine, create_engine

CLOCK = SystemClock()
ENTROPY = SystemEntropy(CLOCK)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    made = create_engine(database)
    yield made
    await made.dispose()


async def derive(engine: Engine, first: int, count: int) -> list[str]:
    derived = [f"0x{first + offset:040x}" for offset in range(count)]
    async with engine.begin() as tx:
        await addresses.add_derived(tx, derived, first_index=first, now=CLOCK.now(), entropy=ENTROPY)
    return derived


async def test_the_lowest_free_address_comes_first_with_a_holder_of_its_own(engine: Engine) -> None:
    derived = await derive(engine, 0, 3)
    async with engine.begin() as tx:
        taken = [await addresses.take_free(tx) for _ in range(3)]
        assert await addresses.take_free(tx) is None
    assert [found.address for found in taken if found is not None] == derived
    holders = {found.holder_id for found in taken if found is not None}
    assert len(holders) == 3
    assert {holder.version for holder in holders} == {7}


async def test_an_address_taken_by_a_transaction_that_fails_is_free_again(engine: Engine) -> None:
    await derive(engine, 0, 1)
    async with engine.connect() as tx:
        assert await addresses.take_free(tx) is not None
        await tx.rollback()
    async with engine.begin() as tx:
        assert await addresses.free_count(tx) == 1


async def test_takers_at_the_same_time_neither_wait_nor_share(engine: Engine) -> None:
    """Onboarding must not queue up behind one slow commit."""
    await derive(engine, 0, 4)
    first_taken, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        async with engine.begin() as tx:
            found = await addresses.take_free(tx)
            first_taken.set()
            await go_on.wait()
        assert found is not None
        return found.address

    waiting = asyncio.create_task(slow())
    await first_taken.wait()
    async with asyncio.timeout(2), engine.begin() as tx:
        other = await addresses.take_free(tx)
    go_on.set()
    assert other is not None
    assert other.address != await waiting


async def test_two_workers_that_derive_the_same_indexes_add_them_once(engine: Engine) -> None:
    await derive(engine, 0, 3)
    await derive(engine, 1, 4)
    async with engine.begin() as tx:
        assert await addresses.free_count(tx) == 5
        assert await addresses.next_index(tx) == 5


async def test_an_empty_pool_begins_at_index_zero(engine: Engine) -> None:
    async with engine.begin() as tx:
        assert await addresses.next_index(tx) == 0
        assert await addresses.free_count(tx) == 0


async def test_the_operators_address_is_none_of_the_pool(engine: Engine) -> None:
    async with engine.begin() as tx:
        for _ in range(2):
            await addresses.add_operator(tx, OPERATOR, f"0x{7:040x}", now=CLOCK.now())
        assert await addresses.free_count(tx) == 0
        assert await addresses.take_free(tx) is None
        assert await addresses.next_index(tx) == 0
