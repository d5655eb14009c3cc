"""What the service may do in its database, apart from the owner of the schema.

Migrations run as the owner (`DATABASE_OWNER_URL`), the service as a role of its own (`DATABASE_URL`), which owns
nothing: it can read and write rows, and no more. Of what has to stay as it was written, it can neither change nor
remove a row: the journal, the requests and what they were answered, the audit log and its chain. Whoever gets hold of
the service's password can add to the record and cannot unsay anything.

Migrations grant it at their end, whatever they have created, so that a new table needs no thought; one that is to be
appended to only needs its name here.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from storage import schema
from storage.database import Tx

APPEND_ONLY = (
    schema.audit_log,
    schema.audit_chain,
    schema.transactions,
    schema.postings,
    schema.entries,
    schema.requests,
    schema.consumed_logs,
)

_VERSIONS = "alembic_version"
"""Which migrations were applied: for the service to read at its start."""


def grant(connection: Connection, role: str) -> None:
    """Give the service's role what it needs, and take from it what it had beyond that. Run by the owner."""
    name = connection.dialect.identifier_preparer.quote(role)
    for statement in _statements(name):
        connection.execute(text(statement))


def _statements(role: str) -> Iterator[str]:
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
    yield f"REVOKE CREATE ON SCHEMA public FROM {role}, PUBLIC"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    yield f"GRANT SELECT ON {_VERSIONS} TO {role}"
    protected = set(APPEND_ONLY)
    for table in schema.metadata.sorted_tables:
        changes = "" if table in protected else ", UPDATE, DELETE"
        yield f"GRANT SELECT, INSERT{changes} ON {table.name} TO {role}"


async def excess(tx: Tx) -> list[str]:
    """The append-only tables whose rows this role can change or remove. Owners and superusers can all of them."""
    changeable = text("SELECT has_table_privilege(:name, 'UPDATE, DELETE, TRUNCATE')")
    names = [table.name for table in APPEND_ONLY]
    return [name for name in names if (await tx.execute(changeable, {"name": name})).scalar()]
