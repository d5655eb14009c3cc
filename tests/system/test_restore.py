"""A database restored from a backup: the chain has gone on, and the books find their way back to it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.component import free_port
from sandbox.postgres import Postgres
from sandbox.tempo_node import TempoNode
from storage import recoveries
from tests.conftest import migrate
from tests.system.tempo import Chain, system_on
from tests.workers.house import UNIT

# A restore from an archive in which there is nothing more than what the backup brings: it begins a new time line.
EMPTY_ARCHIVE = {"restore_command": "/bin/false"}


@pytest.fixture
def postgres_folder(sandbox_folder: Path) -> Iterator[Path]:
    folder = sandbox_folder / f"restored-{free_port()}"
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def started(folder: Path, port: int, settings: dict[str, str] | None = None) -> Postgres:
    server = Postgres(folder, port=port, settings=settings)
    server.start()
    server.wait_ready()
    with psycopg.connect(server.url, autocommit=True) as connection:
        while connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            time.sleep(0.1)
    return server


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_rule_15_payments_made_after_the_backup_are_not_made_again(
    tempo_node: TempoNode, postgres_folder: Path
) -> None:
    """The backup knows the transfers and nothing of their settlement, which stands on the chain."""
    port = free_port()
    server = started(postgres_folder, port)
    backup = server.working_folder.with_name("backup")
    migrate(server.url)
    chain = await Chain.of(tempo_node)
    try:
        async with system_on(chain, server.url) as system:
            consumers = await system.consumers(3)
            async with system.worker():
                await system.credited(consumers)
            items = [await system.house.pay(consumers[n], consumers[n - 1], 2 * UNIT) for n in range(3)]
        server.stop()
        subprocess.run(["cp", "-a", str(server.working_folder), str(backup)], check=True)  # noqa: ASYNC221
        server = started(postgres_folder, port)
        async with system_on(chain, server.url) as system, system.worker():
            await system.settled()
        assert {(await chain.memos())[item] for item in items} == {1}
        server.stop()
        restore(backup, server.working_folder)
        server = started(postgres_folder, port, EMPTY_ARCHIVE)
        async with system_on(chain, server.url) as system:
            async with system.worker():
                await system.settled()
                # Beyond the pause settlement goes on, with what the adopted payments left behind.
                items.append(await system.house.pay(consumers[0], consumers[2], UNIT))
                await asyncio.sleep(recoveries.PAUSE.total_seconds())
                await system.settled()
            assert await system.house.breaks() == ["database_recovered"]
            await system.require_each_once(items)
    finally:
        server.stop()


def restore(backup: Path, data: Path) -> None:
    """The backup in place of the data, and the sign that makes Postgres look for more in the archive."""
    subprocess.run(["rm", "-rf", str(data)], check=True)
    subprocess.run(["mv", str(backup), str(data)], check=True)
    owner = data.stat()
    signal = data / "recovery.signal"
    signal.touch()
    subprocess.run(["chown", f"{owner.st_uid}:{owner.st_gid}", str(signal)], check=True)
