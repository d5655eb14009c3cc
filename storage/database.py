"""Connections to Postgres for everything but the ledger's committers: SQLAlchemy's async engine.

Committers have connections of their own kind, see `storage/committer.py`.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from domain.errors import DatabaseUnavailable

Engine = AsyncEngine
Tx = AsyncConnection


def create_engine(url: str, *, pool_size: int = 8, statement_timeout_ms: int = 15_000) -> AsyncEngine:
    """The engine behind reads and behind the writes that do not touch the ledger."""
    options = f"-c statement_timeout={statement_timeout_ms} -c lock_timeout=5000 -c timezone=UTC -c jit=off"
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        # Parameters are people's data; an error's text goes into logs.
        hide_parameters=True,
        connect_args={"options": options, "connect_timeout": 5, "application_name": "monay"},
    )
    _ask_idle_connections(engine)
    return engine


# A connection that was used just now needs no question first, which would cost as much as the answer to most reads.
_IDLE_SECONDS = 1.0


def _has_news(record: ConnectionPoolEntry) -> bool:
    """Whether the server has sent something that nobody asked for: that it ends the session, most of all."""
    driver = record.driver_connection
    if driver is None or driver.closed:
        return True
    news = select.poll()
    news.register(driver.fileno(), select.POLLIN)
    return bool(news.poll(0))


def _ask_idle_connections(engine: AsyncEngine) -> None:
    """Have the pool replace a connection whose database went away while nobody used it."""
    ping = engine.sync_engine.dialect.do_ping

    def note_time(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    def ask(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        just_used = time.monotonic() - record.info.get("used_at", -math.inf) < _IDLE_SECONDS
        if just_used and not _has_news(record):
            return
        try:
            ping(connection)
        except (psycopg.OperationalError, psycopg.InterfaceError) as gone:
            raise InvalidatePoolError from gone

    event.listen(engine.sync_engine, "checkin", note_time)
    event.listen(engine.sync_engine, "checkout", ask)


# What it looks like when the database is away, stopping, or too slow for its statement timeout.
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)


_autocommitting_engines: WeakKeyDictionary[AsyncEngine, AsyncEngine] = WeakKeyDictionary()


def _autocommitting(engine: AsyncEngine) -> AsyncEngine:
    """The same pool with another option. Kept, for making it anew costs as much as a read."""
    kept = _autocommitting_engines.get(engine)
    if kept is None:
        kept = _autocommitting_engines[engine] = engine.execution_options(isolation_level="AUTOCOMMIT")
    return kept


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[Tx]:
    """A connection for reads, each statement a snapshot of its own: no BEGIN and no ROLLBACK to wait for."""
    try:
        async with _autocommitting(engine).connect() as tx:
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
