"""Balances on demand: whoever asks while a question is under way shares the next one.

The counterpart of the ledger's group commit. One connection, one statement at a time; an idle reader asks at once for
one caller, a busy one for all who came meanwhile, so a crowd of readers costs the database a few statements, and each
caller a fraction of what a statement of their own would. The statement is sent after the question came in, so nobody
is told anything older than what they have seen committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from domain.commands import BalanceKey
from domain.errors import DatabaseUnavailable, Overloaded
from domain.money import Asset
from storage import balances
from storage.balances import BalanceReading
from storage.committer import CommitterConnection, DatabaseError, connect_committer

log = structlog.get_logger()

MOST_CONSUMERS = 1_000
QUEUE_LIMIT = 10_000

Readings = dict[BalanceKey, BalanceReading]


@dataclass(slots=True)
class _Question:
    consumers: Collection[UUID]
    answer: asyncio.Future[Readings] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class BalanceReader:
    """Reads balances for many callers. One for each process."""

    def __init__(self, *, database_url: str) -> None:
        self._database_url = database_url
        self._connection: CommitterConnection | None = None
        self._waiting: list[_Question] = []
        self._wake = asyncio.Event()

    async def of_consumer(self, consumer: UUID) -> dict[Asset, BalanceReading]:
        """All balances of one consumer; empty if there is no such wallet."""
        found = await self.of_consumers([consumer])
        return {asset: found[consumer, asset] for asset in Asset if (consumer, asset) in found}

    async def of_consumers(self, consumers: Collection[UUID]) -> Readings:
        """All balances of these consumers. Whoever has no wallet is left out.

        Raises `Overloaded` when too many wait already, and `DatabaseUnavailable`.
        """
        if len(self._waiting) >= QUEUE_LIMIT:
            raise Overloaded(retry_after_ms=200)
        question = _Question(consumers)
        self._waiting.append(question)
        self._wake.set()
        return await question.answer

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set."""
        answering = asyncio.create_task(self._answer_all())
        try:
            await stop.wait()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            await self._close()

    async def _answer_all(self) -> None:
        while True:
            await self._wake.wait()
            questions = self._take()
            try:
                found = await self._read({one for question in questions for one in question.consumers})
            except DatabaseUnavailable as error:
                for question in questions:
                    if not question.answer.done():
                        question.answer.set_exception(error)
                continue
            for question in questions:
                if not question.answer.done():
                    question.answer.set_result(found)

    def _take(self) -> list[_Question]:
        """As many questions as one statement may ask, in the order in which they came."""
        count = asked = 0
        while count < len(self._waiting) and (not count or asked < MOST_CONSUMERS):
            asked += len(self._waiting[count].consumers)
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._wake.clear()
        return [question for question in taken if not question.answer.done()]

    async def _read(self, consumers: Collection[UUID]) -> Readings:
        """Ask, on a new connection if the last one was lost: a read may always be asked again."""
        for once_more in (True, False):
            try:
                if self._connection is None or not self._connection.usable:
                    self._connection = await connect_committer(self._database_url)
                return await balances.read_together(self._connection, consumers)
            except DatabaseError as error:
                await self._close()
                if not once_more:
                    raise DatabaseUnavailable() from error
                log.warning("balance_reader.asked_again", consumers=len(consumers), detail=str(error)[:200])
        raise AssertionError("unreachable")

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
