"""Alembic's environment: one connection, one transaction for each migration, one migrator at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from storage.schema import metadata

# Any number: whoever else migrates waits for this lock, so that two deployments cannot interleave.
_MIGRATION_LOCK = 7_246_110_229
_MIGRATORS_TURN = "60s"
# Whoever wants a table that a migration waits for waits behind it. So it waits for less than a committer does
# (`storage/committer.py`), gives up, lets everybody pass and is tried again (`__main__.py`).
_LOCK_TIMEOUT = "100ms"


def run() -> None:
    """Apply the migrations."""
    # The lock of whoever migrates ends with the session, also when a migration fails.
    engine = create_engine(context.config.attributes["url"], connect_args={"connect_timeout": 10}, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"SET lock_timeout = '{_MIGRATORS_TURN}'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.commit()
        context.configure(
            connection=connection, target_metadata=metadata, transaction_per_migration=True, compare_server_default=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
