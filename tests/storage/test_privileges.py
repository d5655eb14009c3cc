"""What the service's role can do in the database, and what even it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from server.process import StartRefused, require_database
from storage import privileges
from storage.database import create_engine
from storage.schema import metadata
from tests.conftest import migrate

PROTECTED = [table.name for table in privileges.APPEND_ONLY]


@pytest.fixture
def service(service_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(service_database, autocommit=True) as connection:
        yield connection


def may(connection: psycopg.Connection, table: str, privilege: str) -> bool:
    found = connection.execute("SELECT has_table_privilege(%s, %s)", (table, privilege)).fetchone()
    assert found is not None
    return bool(found[0])


def test_the_service_can_add_to_every_table_and_read_it(service: psycopg.Connection) -> None:
    for table in metadata.tables:
        assert may(service, table, "SELECT"), table
        assert may(service, table, "INSERT"), table


@pytest.mark.parametrize("table", PROTECTED)
def test_what_was_written_can_neither_be_changed_nor_removed(service: psycopg.Connection, table: str) -> None:
    """The journal and the audit log, by a statement and not only by a catalogue's word."""
    name = sql.Identifier(table)
    column = sql.Identifier(next(iter(metadata.tables[table].columns)).name)
    for statement in (
        sql.SQL("UPDATE {} SET {} = {}").format(name, column, column),
        sql.SQL("DELETE FROM {}").format(name),
        sql.SQL("TRUNCATE {}").format(name),
        sql.SQL("DROP TABLE {}").format(name),
        sql.SQL("ALTER TABLE {} ADD COLUMN extra int").format(name),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(statement)


def test_everything_else_can_be_changed(service: psycopg.Connection) -> None:
    for table in metadata.tables.keys() - set(PROTECTED):
        assert may(service, table, "UPDATE"), table


def test_the_service_can_neither_make_tables_nor_pretend_to_have_migrated(service: psycopg.Connection) -> None:
    for statement in ("CREATE TABLE mine (id int)", "UPDATE alembic_version SET version_num = '9999'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(statement)


def test_the_service_cannot_become_the_owner(service: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute("SET ROLE monay")


def test_what_was_granted_by_hand_is_taken_back_by_the_next_migration(
    database: str, service_database: str, service: psycopg.Connection
) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("GRANT DELETE ON audit_log TO monay_service")
    assert may(service, "audit_log", "DELETE")
    migrate(database, service=service_database)
    assert not may(service, "audit_log", "DELETE")


async def test_owner_and_service_are_told_apart(database: str, service_database: str) -> None:
    for url, excess in ((database, PROTECTED), (service_database, [])):
        engine = create_engine(url)
        async with engine.connect() as tx:
            assert await privileges.excess(tx) == excess
        await engine.dispose()


async def test_production_does_not_start_as_the_owner(database: str, service_database: str) -> None:
    """Append-only would be a promise of the code, and the code is what an attacker has."""
    owner, service = create_engine(database), create_engine(service_database)
    await require_database(owner, production=False)
    await require_database(service, production=True)
    with pytest.raises(StartRefused, match=r"audit_log.*DATABASE_OWNER_URL"):
        await require_database(owner, production=True)
    await owner.dispose()
    await service.dispose()
