"""Connections to Postgres for everything but the ledger's committers: SQLAlchemy's async engine.

Committers have connections of their own kind, see `storage/committer.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.errors import DatabaseUnavailable

Engine = AsyncEngine
Tx = AsyncConnection


def create_engine(url: str, *, pool_size: int = 8, statement_timeout_ms: int = 15_000) -> AsyncEngine:
    """The engine behind reads and behind the writes that do not touch the ledger."""
    options = f"-c statement_timeout={statement_timeout_ms} -c lock_timeout=5000 -c timezone=UTC -c jit=off"
    return create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        pool_pre_ping=True,
        # Parameters are people's data; an error's text goes into logs.
        hide_parameters=True,
        connect_args={"options": options, "connect_timeout": 5, "application_name": "monay"},
    )


# What it looks like when the database is away, stopping, or too slow for its statement timeout.
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[Tx]:
    """A connection for reads, each statement a snapshot of its own: no BEGIN and no ROLLBACK to wait for."""
    try:
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as tx:
            yield tx
    except UNAVAILABLE as error:
        raise DatabaseUnavailable() from error


@asynccontextmanager
async def writing(engine: Engine) -> AsyncIterator[Tx]:
    """One database transaction, committed at the end of the block. For what does not touch the ledger."""
    try:
        async with engine.begin() as tx:
            yield tx
    except UNAVAILABLE as error:
        raise DatabaseUnavailable() from error
