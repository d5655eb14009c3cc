"""Alembic's environment: one connection, one transaction for each migration, one migrator at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

from storage.schema import metadata

# Any number: whoever else migrates waits for this lock, so that two deployments cannot interleave.
_MIGRATION_LOCK = 7_246_110_229


def run() -> None:
    """Apply the migrations."""
    engine = create_engine(context.config.attributes["url"], connect_args={"connect_timeout": 10})
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        connection.commit()
        context.configure(
            connection=connection, target_metadata=metadata, transaction_per_migration=True, compare_server_default=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
