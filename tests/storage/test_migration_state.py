"""Whether a database fits this code: asked by every process before it starts, and by the health task after."""

from __future__ import annotations

import re

import psycopg
import pytest
from alembic.script import ScriptDirectory

from storage import migrations
from storage.database import create_engine
from storage.migrations.__main__ import FOLDER, configuration


def test_the_newest_revision_is_the_one_alembic_knows() -> None:
    """The server reads it from the files' names, because loading Alembic would lengthen every start."""
    scripts = ScriptDirectory.from_config(configuration("postgresql://nobody@nowhere/nothing"))
    known, newest = migrations._revisions()
    assert newest == scripts.get_current_head()
    assert known == {script.revision for script in scripts.walk_revisions()}


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT 1", None),
        ("UPDATE alembic_version SET version_num = '9999'", None),
        ("UPDATE alembic_version SET version_num = '0001'", "it is at 0001"),
        ("DELETE FROM alembic_version", "the beginning"),
        ("DROP TABLE alembic_version", "no migration was ever applied"),
    ],
    ids=["at the newest", "ahead of the code", "behind", "emptied", "never migrated"],
)
async def test_a_database_says_what_it_lacks(database: str, statement: str, says: str | None) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statement)
    engine = create_engine(database)
    obstacle = await migrations.obstacle(engine)
    await engine.dispose()
    assert (obstacle is None) if says is None else (obstacle is not None and says in obstacle)


async def test_an_unreachable_database_is_told_without_its_password() -> None:
    engine = create_engine("postgresql://somebody:secret@127.0.0.1:1/nothing")
    obstacle = await migrations.obstacle(engine)
    await engine.dispose()
    assert obstacle is not None
    assert "cannot be reached" in obstacle
    assert "secret" not in obstacle


_CONTRACTS = re.compile(
    r"op\.(drop_\w+|rename_\w+)|\bDROP\b|\bRENAME\b|nullable=False, existing|new_column_name|alter_column\([^)]*type_="
)


def test_migrations_only_expand() -> None:
    """The version before goes on serving while a migration runs and after it, so it must find all that it knows."""
    for path in sorted((FOLDER / "versions").glob("[0-9]*.py")):
        upgrade = path.read_text().partition("def upgrade")[2].partition("def downgrade")[0]
        assert upgrade, path
        assert not _CONTRACTS.findall(upgrade), path
        for column in re.findall(r"op\.add_column\(.*?nullable=False.*", upgrade):
            assert "server_default" in column, path
