"""Rule 15: in production a commit counts when a second machine has it, or somebody has said that it need not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from sandbox.component import free_port
from sandbox.postgres import Postgres
from server.process import StartRefused, require_standby
from storage.database import Engine, create_engine
from tests.server.conftest import wallet_settings
from tests.workers.house import until


@pytest.fixture
async def engine(sandbox_folder: Path) -> AsyncIterator[Engine]:
    """A Postgres of its own: with a standby that is not there, nobody else's commits would end."""
    server = Postgres(sandbox_folder / "without-standby", port=free_port())
    server.start()
    engine = create_engine(server.database_url("postgres"))
    try:
        server.wait_ready()
        yield engine
    finally:
        await engine.dispose()
        server.stop()


async def test_rule_15_commits_on_one_machine_are_noticed_at_the_start(engine: Engine) -> None:
    """And so is a standby that commits do not wait for."""
    with pytest.raises(StartRefused, match="SYNCHRONOUS_STANDBY"):
        await require_standby(engine)
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = 'local'")
        owner.execute("ALTER SYSTEM SET synchronous_standby_names = 'second'")
        owner.execute("SELECT pg_reload_conf()")
    with psycopg.connect(url, autocommit=True) as owner:

        async def in_force() -> bool:
            return shown(owner, "synchronous_standby_names") == "second"

        await until(in_force)
        await engine.dispose()
        with pytest.raises(StartRefused, match="SYNCHRONOUS_STANDBY"):
            await require_standby(engine)
        owner.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")
    await engine.dispose()
    await require_standby(engine)


def shown(session: psycopg.Connection, name: str) -> str:
    """A setting, as a session sees it."""
    (value,) = session.execute(f"SHOW {name}".encode()).fetchone() or ("",)
    return str(value)


@pytest.mark.parametrize(
    ("said", "environment", "looks"),
    [
        ("required", "production", True),
        ("managed", "production", False),
        ("none", "production", False),
        ("required", "development", False),
    ],
)
def test_rule_15_only_production_looks_and_only_unless_told_otherwise(
    said: str, environment: str, looks: bool, tmp_path: Path
) -> None:
    """A managed database keeps its second copy below Postgres, where it does not show."""
    settings = wallet_settings(
        "postgresql://nobody@nowhere/x", tmp_path, environment=environment, synchronous_standby=said
    )
    assert settings.wants_standby is looks
