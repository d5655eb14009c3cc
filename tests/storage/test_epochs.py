"""The ledger's epoch: changed by the command that follows a restore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from storage import epochs
from storage.database import create_engine

ROOT = Path(__file__).parents[2]


async def test_a_restore_begins_a_new_epoch(database: str) -> None:
    """Versions are given out a second time afterwards, so no cursor of before may be believed."""
    engine = create_engine(database)
    async with engine.connect() as tx:
        before = await epochs.current(tx)
    environment = {**os.environ, "DATABASE_URL": database, "DATABASE_OWNER_URL": database}
    subprocess.run([sys.executable, "-m", "storage.epochs"], cwd=ROOT, env=environment, check=True)  # noqa: ASYNC221
    async with engine.connect() as tx:
        assert await epochs.current(tx) != before
    await engine.dispose()


def test_the_command_says_what_it_needs() -> None:
    """Without a database there is nothing to begin."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE")}
    ended = subprocess.run(
        [sys.executable, "-m", "storage.epochs"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("Set DATABASE_OWNER_URL")
