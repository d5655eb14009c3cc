"""Connections to Postgres: SQLAlchemy's async engine for everything, and plain psycopg for the ledger's committers.

Committers own their connections and speak psycopg's pipeline mode, which halves the cost of a small batch; their
statements are written in SQLAlchemy Core beside the schema and compiled once (`compiled`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import Error as DatabaseError
from psycopg import OperationalError as CommitterError
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, UniqueViolation
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.errors import DatabaseUnavailable
from storage import arrays

__all__ = [
    "STATEMENT_STOPPED",
    "UNAVAILABLE",
    "CommitterConnection",
    "CommitterError",
    "DatabaseError",
    "Engine",
    "Tx",
    "UniqueViolation",
    "compiled",
    "connect_committer",
    "create_engine",
]

Engine = AsyncEngine
Tx = AsyncConnection
CommitterConnection = psycopg.AsyncConnection[tuple[Any, ...]]

_DIALECT = psycopg_dialect.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]

STATEMENT_STOPPED = (LockNotAvailable, QueryCanceled, DeadlockDetected)
"""What Postgres says when it stopped one statement, while the connection and the other commands are fine."""

# One stranger's lock must never fill the queue (money rule 23): a batch that meets one is split and tried again.
LOCK_TIMEOUT_MS = 250
STATEMENT_TIMEOUT_MS = 5_000

# A generic plan made while a table was empty must never choose a sequential scan later: every committer statement
# is a nested loop over its arrays, and these settings leave the planner no other way.
_COMMITTER_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": STATEMENT_TIMEOUT_MS,
        "tcp_user_timeout": 10_000,
        "default_transaction_isolation": "read\\ committed",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "timezone": "UTC",
    }.items()
)


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


async def connect_committer(url: str) -> CommitterConnection:
    """A connection for one committer: short waits, stable plans, READ COMMITTED."""
    connection = await psycopg.AsyncConnection.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False),
        options=_COMMITTER_OPTIONS,
        connect_timeout=5,
        application_name="monay-committer",
        prepare_threshold=0,
    )
    connection.prepared_max = None
    arrays.register(connection)
    return connection


def compiled(statement: ClauseElement) -> bytes:
    """The statement's text for psycopg, with named parameters."""
    text = str(statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True}))
    return text.encode()
