"""A server for the simulation alone: its histories begin with an empty database and survive nothing anyway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.component import free_port
from sandbox.postgres import Postgres
from tests.conftest import migrate
from tests.simulation.stage import FORGETFUL, Stage, stage_of


@pytest.fixture(scope="session")
def forgetful_database(sandbox_folder: Path) -> Iterator[str]:
    """A migrated database on a server that never waits for a disk."""
    server = Postgres(sandbox_folder / "simulation", port=free_port(), settings=FORGETFUL)
    server.start()
    try:
        server.wait_ready()
        with psycopg.connect(server.database_url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE simulation")
        migrate(server.database_url("simulation"))
        yield server.database_url("simulation")
    finally:
        server.stop()


@pytest.fixture
async def stage(forgetful_database: str) -> AsyncIterator[Stage]:
    async with stage_of(forgetful_database) as stage:
        yield stage
