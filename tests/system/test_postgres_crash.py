"""kill -9 of Postgres under load: what was acknowledged is durable, and nothing took effect twice.

Two ledger writers stand for two server processes. Each payment is repeated under its request id until it is answered,
as a client does, so that afterwards the books must hold exactly what was answered.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from domain.errors import DatabaseUnavailable
from domain.ledger_state import Applied
from sandbox.component import free_port
from sandbox.postgres import Postgres
from tests.books import DOLLAR, Books, audit, books_of, payment
from tests.conftest import migrate

IN_FLIGHT = 16


@pytest.fixture
def mortal(sandbox_folder: Path) -> Iterator[Postgres]:
    """A Postgres that nobody else needs."""
    server = Postgres(sandbox_folder / f"mortal-{free_port()}", port=free_port())
    server.start()
    try:
        server.wait_ready()
        migrate(server.url)
        yield server
    finally:
        server.stop()


def kill_everything(server: Postgres) -> None:
    """The machine's end, as far as Postgres can see: every process of it is gone at once."""
    server.kill()
    server.start()
    server.wait_ready()


def kill_a_session(server: Postgres) -> None:
    """One session dies; Postgres throws everybody out and recovers from its log, as it does after any crash."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        found = admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'monay-committer' LIMIT 1")
        session = found.fetchone()
    if session is not None:
        os.kill(session[0], signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_everything, kill_a_session])
@pytest.mark.parametrize("crashes", [1, pytest.param(8, marks=pytest.mark.system)])
async def test_rule_21_what_was_acknowledged_is_durable_and_single(
    mortal: Postgres, kill: Callable[[Postgres], None], crashes: int
) -> None:
    """The promise of every answer, through every crash: acknowledged is durable, and repeated is not doubled."""
    acknowledged: list[UUID] = []
    stop = asyncio.Event()
    async with AsyncExitStack() as opened:
        doors = [await opened.enter_async_context(books_of(mortal.url)) for _ in range(2)]
        accounts = await doors[0].open(12, usdc=10_000 * DOLLAR)

        async def pay(door: Books, chance: random.Random) -> None:
            while not stop.is_set():
                sender, recipient = chance.sample(accounts, 2)
                acknowledged.append(await until_answered(door, sender, recipient, chance))

        async with asyncio.TaskGroup() as tasks:
            for seed in range(IN_FLIGHT):
                tasks.create_task(pay(doors[seed % 2], random.Random(seed)))
            for _ in range(crashes):
                await asyncio.sleep(0.4)
                await asyncio.to_thread(kill, mortal)
                await answered_again(acknowledged, len(acknowledged) + 2 * IN_FLIGHT)
            stop.set()

        recorded = await doors[0].execute("SELECT id FROM transactions WHERE kind = 'transfer'")
        assert {row[0] for row in recorded} == set(acknowledged)
        assert len(recorded) == len(acknowledged) > crashes * IN_FLIGHT
        await audit(doors[0].engine)


async def answered_again(acknowledged: list[UUID], count: int) -> None:
    """Wait until that many are acknowledged in all; a crash must not stop the work for good."""
    for _ in range(600):
        if len(acknowledged) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("payments do not go on after the crash")


async def until_answered(door: Books, sender: UUID, recipient: UUID, chance: random.Random) -> UUID:
    """Pay, and ask again under the same request id while the answer is unknown."""
    command = payment(sender, recipient, chance.randrange(1, DOLLAR))
    while True:
        try:
            outcome = await door.submit(command)
        except DatabaseUnavailable:
            await asyncio.sleep(0.1)
            continue
        assert isinstance(outcome, Applied), outcome
        assert outcome.transaction_id is not None
        return outcome.transaction_id
