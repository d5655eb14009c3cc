"""A committer's connection: many prepared statements in one round trip.

psycopg's own pipeline hands each statement to the network by itself and asks the event loop between any two; for a
small batch that cost more than everything else a committer does. Here a round trip is one write and one wait, on
libpq's pipeline mode, which psycopg opens to its users as `psycopg.pq`. Parameters are packed by `storage/arrays.py`;
rows are read by psycopg's own loaders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import Error as DatabaseError
from psycopg import OperationalError as CommitterError
from psycopg import errors
from psycopg.adapt import Transformer
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, UniqueViolation
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect
from sqlalchemy.engine import make_url

__all__ = [
    "STATEMENT_STOPPED",
    "Answer",
    "CommitterConnection",
    "CommitterError",
    "DatabaseError",
    "LockNotAvailable",
    "RoundTrip",
    "Rows",
    "UniqueViolation",
    "compiled",
    "connect_committer",
]

Rows = list[tuple[Any, ...]]

STATEMENT_STOPPED = (LockNotAvailable, QueryCanceled, DeadlockDetected)
"""What Postgres says when it stopped one statement, while the connection and the other commands are fine."""

# libpq numbers its parameters.
_DIALECT = psycopg_dialect.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_BINARY = 1

# One stranger's lock must never fill the queue (money rule 23): a batch that meets one is split and tried again.
LOCK_TIMEOUT_MS = 250
STATEMENT_TIMEOUT_MS = 5_000

# A generic plan made while a table was empty must never choose a sequential scan later: every committer statement
# is a nested loop over its arrays, and these settings leave the planner no other way.
_OPTIONS = " ".join(
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


def compiled(statement: ClauseElement) -> bytes:
    """The statement's text, with its parameters numbered in the order in which they first stand in it."""
    text = str(statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True}))
    return text.encode()


async def connect_committer(url: str) -> CommitterConnection:
    """A connection for one committer: short waits, stable plans, READ COMMITTED."""
    connection = await psycopg.AsyncConnection.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False),
        options=_OPTIONS,
        connect_timeout=5,
        application_name="monay-committer",
    )
    return CommitterConnection(connection)


class Answer:
    """What a statement of a round trip returned: nothing before the answer came."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: Rows = []


class _Step(NamedTuple):
    text: bytes
    parameters: Sequence[bytes]
    answer: Answer


class RoundTrip:
    """Statements that go out together and are answered together."""

    def __init__(self, connection: CommitterConnection) -> None:
        self._connection = connection
        self._steps: list[_Step] = []

    def add(self, text: bytes, parameters: Sequence[bytes] = ()) -> Answer:
        """One more statement."""
        answer = Answer()
        self._steps.append(_Step(text, parameters, answer))
        return answer

    async def send(self) -> None:
        """Send them all and wait for all answers. The first that fails is raised, and those after it never ran."""
        await self._connection.exchange(self._steps)


class CommitterConnection:
    """Begins, writes and commits one database transaction after the other."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._transformer = Transformer(connection)
        self._loop = asyncio.get_running_loop()
        self._names: dict[bytes, bytes] = {}
        """The prepared statements, by their text."""
        self._prepared = 0
        self._pg.enter_pipeline_mode()

    @property
    def usable(self) -> bool:
        """Whether it still leads to a database, as far as anybody noticed."""
        return self._pg.status == ConnStatus.OK

    def round_trip(self) -> RoundTrip:
        """A round trip to fill and send."""
        return RoundTrip(self)

    async def rollback(self) -> None:
        """Undo what is not committed."""
        trip = self.round_trip()
        trip.add(b"ROLLBACK")
        await trip.send()

    async def close(self) -> None:
        """End the session; what is not committed is undone."""
        await self._connection.close()

    async def exchange(self, steps: Sequence[_Step]) -> None:
        """Send the steps, read the answers into them."""
        new = list(dict.fromkeys(step.text for step in steps if step.text not in self._names))
        try:
            self._queue(new, steps)
            while self._pg.flush():
                await self._wait(writable=True)
                self._pg.consume_input()
            error = await self._read([*(None for _ in new), *(step.answer for step in steps)])
        except BaseException:
            # Answers that nobody has read would be taken for those of the next round trip.
            self._pg.finish()
            raise
        if error is not None:
            for text in new:
                del self._names[text]
            raise error

    def _queue(self, new: Sequence[bytes], steps: Sequence[_Step]) -> None:
        for text in new:
            self._prepared += 1
            self._names[text] = b"monay%d" % self._prepared
            self._pg.send_prepare(self._names[text], text)
        for text, parameters, _ in steps:
            self._pg.send_query_prepared(self._names[text], parameters, [_BINARY] * len(parameters), _BINARY)
        self._pg.pipeline_sync()

    async def _read(self, answers: Sequence[Answer | None]) -> DatabaseError | None:
        """Fill the answers in order; the first error, if there was one."""
        error: DatabaseError | None = None
        for answer in answers:
            while (result := await self._next_result()) is not None:
                if result.status == ExecStatus.FATAL_ERROR:
                    error = error or _error(result)
                elif result.status == ExecStatus.TUPLES_OK and answer is not None:
                    self._transformer.set_pgresult(result)
                    answer.rows = self._transformer.load_rows(0, result.ntuples, tuple)
        await self._next_result()  # what the sync itself is answered with
        return error

    async def _next_result(self) -> PGresult | None:
        while self._pg.is_busy():
            await self._wait()
            self._pg.consume_input()
        return self._pg.get_result()

    async def _wait(self, *, writable: bool = False) -> None:
        """Until there is something to read; or room to write, where that is asked for."""
        ready: asyncio.Future[None] = self._loop.create_future()
        socket = self._pg.socket
        self._loop.add_reader(socket, _finish, ready)
        if writable:
            self._loop.add_writer(socket, _finish, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(socket)
            if writable:
                self._loop.remove_writer(socket)


def _finish(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _error(result: PGresult) -> DatabaseError:
    """psycopg's class for it, as its own statements would raise."""
    state = result.error_field(DiagnosticField.SQLSTATE) or b""
    message = result.get_error_message()
    try:
        return errors.lookup(state.decode())(message)
    except KeyError:
        return psycopg.DatabaseError(message)
