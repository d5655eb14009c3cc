"""Migrations of a database in use: populated, under load, with a long reader in the way, and no caller notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psycopg
import pytest
from alembic.config import Config
from psycopg import sql
from sqlalchemy.engine import make_url

from sandbox.postgres import Postgres
from storage.migrations.__main__ import FOLDER, configuration, upgrade
from tests.books import DOLLAR
from tests.server.people import Person, Town, new_town
from tests.workers.house import until

PATIENCE_SECONDS = 60
# As long as several committers' patience together.
LONG_READ_SECONDS = 1.5

# What an expansion does, to every table that a transfer writes.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None


def upgrade():
    for table in ("wallets", "stablecoin_balances", "transactions", "postings", "entries", "settlement_items"):
        op.add_column(table, sa.Column("later", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_table("later", sa.Column("id", sa.Uuid(), primary_key=True))
"""


Work = Callable[[], Awaitable[object]]


class Load:
    """Work that goes on and on in several tasks, none of which tries anything twice."""

    def __init__(self) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def going(self, *works: Work) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(self._repeat(work))
            await self.more(50)
            yield
            await self.more(50)
            self._stop.set()

    async def more(self, count: int) -> None:
        """Until so much more was tried."""
        wanted = self.done + count

        async def reached() -> bool:
            return self.done >= wanted

        await until(reached, seconds=PATIENCE_SECONDS)

    async def _repeat(self, work: Work) -> None:
        while not self._stop.is_set():
            try:
                await work()
            except (grpc.aio.AioRpcError, psycopg.Error) as error:
                self.failed.append(f"{type(error).__name__}: {error}"[:300])
            self.done += 1


def next_configuration(url: str, folder: Path) -> Config:
    """This code's migrations, and one that a later version will bring."""
    config = configuration(url)
    head = sorted(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))[-1]
    (folder / "9999_later.py").write_text(NEXT.format(head=head))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", f"{FOLDER / 'versions'}:{folder}")
    return config


@asynccontextmanager
async def long_read(url: str, table: str) -> AsyncIterator[None]:
    """A report that has a table open for a while, as somebody's always has."""
    async with await psycopg.AsyncConnection.connect(url) as reader:
        await reader.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))

        async def read_on() -> None:
            await asyncio.sleep(LONG_READ_SECONDS)
            await reader.rollback()

        reading = asyncio.create_task(read_on())
        yield
        await reading


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_later_version_expands_the_hottest_tables_under_load_without_a_failed_call(
    postgres: Postgres, migrated_template: str, tmp_path: Path
) -> None:
    """Whoever wants a table waits behind a migration that waits for it: so the migration must not wait long."""
    async with new_town(postgres, migrated_template, tmp_path) as town:
        name = make_url(town.books.url).database
        assert name is not None
        database = postgres.database_url(name)
        people = [await town.settle_in("ann", usdc=900 * DOLLAR) for _ in range(4)]
        load = Load()
        payments = [_payments(town, people, number) for number in range(len(people))]
        async with load.going(*payments), long_read(database, "transactions"):
            await asyncio.to_thread(upgrade, next_configuration(database, tmp_path))
        assert load.failed == []
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
            assert connection.execute("SELECT DISTINCT later FROM entries").fetchall() == [("",)]


def _payments(town: Town, people: list[Person], number: int) -> Work:
    async def pay() -> None:
        await town.pay(people[number], people[number - 1], 1_000)

    return pay
