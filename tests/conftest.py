"""The real programs the tests run against: one Postgres, one Valkey, one Tempo node a session, started when first used.

Everything stands in one temporary folder and on free ports, and is stopped at the end, also when tests fail. Postgres
runs with the sandbox's settings, fsync included.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql

from sandbox.component import free_port
from sandbox.postgres import Postgres
from sandbox.tempo_node import TempoNode
from sandbox.valkey import Valkey
from tests.circle import CircleSandbox, start_circle

ROOT = Path(__file__).parent.parent
TEMPLATE = "template_migrated"

_numbers = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back at the whole run comes last."""
    items.sort(key=lambda item: item.path.name == "test_every_reason.py")


@pytest.fixture(scope="session")
def sandbox_folder() -> Iterator[Path]:
    """A temporary folder that other users may enter: as root, Postgres runs as one of them."""
    folder = Path(tempfile.mkdtemp(prefix="monay-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(sandbox_folder: Path) -> Iterator[Postgres]:
    server = Postgres(sandbox_folder / "postgres", port=free_port())
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    """The name of a database that every `database` is a copy of: migrations run once a session."""
    postgres.create_database(TEMPLATE)
    migrate(postgres.database_url(TEMPLATE), service=postgres.service_url(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """The URL of a fresh, migrated, empty database of this test alone."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(migrated_template))
        )
        yield postgres.database_url(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def service_database(postgres: Postgres, database: str) -> str:
    """The URL of the same database for the service's own role, which owns nothing in it."""
    return postgres.service_url(database.rpartition("/")[2])


@pytest.fixture(scope="session")
def valkey(sandbox_folder: Path) -> Iterator[Valkey]:
    server = Valkey(sandbox_folder / "valkey", port=free_port())
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of an empty Valkey."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture(scope="session")
def tempo_node(sandbox_folder: Path) -> Iterator[TempoNode]:
    """A Tempo chain with blocks every half second, kept in memory only. What one test mines, the next one finds."""
    node = TempoNode(sandbox_folder / "tempo", port=free_port(), state_seconds=None)
    node.start()
    try:
        node.wait_ready()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def circle_keys(sandbox_folder: Path) -> Path:
    """The keys of all simulators of a session: making an RSA key takes longer than starting one."""
    return sandbox_folder / "circle-keys"


@pytest.fixture(scope="session")
def circle_process(sandbox_folder: Path, circle_keys: Path) -> Iterator[CircleSandbox]:
    with start_circle(sandbox_folder / "circle", keys=circle_keys) as sandbox:
        yield sandbox


@pytest.fixture
def circle(circle_process: CircleSandbox) -> Iterator[CircleSandbox]:
    """A Circle simulator as at its first start: its float in it, and nothing else. Its process serves all tests.

    What was said is compared with sandbox/circle/openapi.yaml at the end of the test.
    """
    circle_process.reset()
    yield circle_process
    circle_process.require_contract()


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Find a program a test needs. Without it the test is skipped and named so; with REQUIRE_ALL=1 it fails."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
        if path is None and os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"{name} is not installed, and REQUIRE_ALL=1 asks for everything")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


def migrate(url: str, *, service: str | None = None) -> None:
    """Bring a database to the newest schema, by the command that a deployment uses."""
    subprocess.run(
        [sys.executable, "-m", "storage.migrations", "upgrade"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": service or url, "DATABASE_OWNER_URL": url},
        check=True,
    )
