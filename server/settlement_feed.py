"""The settlement feed: how the transactions stand that open streams follow, asked once for all of them.

Settlement moves without touching a balance, so no commit of the ledger tells of it. Each stream asks about what it
follows and waits; a few times a second one question goes to the database for everybody who waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import structlog

from domain.clock import Clock
from domain.errors import DatabaseUnavailable
from domain.streams import ItemStates
from storage.database import Engine, reading
from storage.following import item_states

log = structlog.get_logger()

INTERVAL_SECONDS = 0.5
READ_CHUNK = 1_000

States = dict[UUID, ItemStates]


class _Question(NamedTuple):
    transaction_ids: frozenset[UUID]
    answer: asyncio.Future[States]


class SettlementFeed:
    """Answers streams. One for each process."""

    def __init__(self, *, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._questions: list[_Question] = []
        self._asked = asyncio.Event()

    async def look(self, transaction_ids: Collection[UUID]) -> States:
        """How these transactions' items stand at the next look."""
        answer: asyncio.Future[States] = asyncio.get_running_loop().create_future()
        self._questions.append(_Question(frozenset(transaction_ids), answer))
        self._asked.set()
        return await answer

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self._answer_all())
            await stop.wait()
            answering.cancel()

    async def _answer_all(self) -> None:
        while True:
            await self._asked.wait()
            await self._clock.sleep(INTERVAL_SECONDS)
            try:
                await self._answer()
            except DatabaseUnavailable as error:
                # The questions stay; they are answered when the database is back.
                log.warning("settlement_feed.database", error=str(error.__cause__)[:200])

    async def _answer(self) -> None:
        questions = [question for question in self._questions if not question.answer.done()]
        states = await self._read({one for question in questions for one in question.transaction_ids})
        for question in questions:
            if not question.answer.done():
                question.answer.set_result({one: states[one] for one in question.transaction_ids})
        # Answered now, or given up by a stream that ended; what was asked meanwhile stays.
        self._questions = [question for question in self._questions if not question.answer.done()]
        if not self._questions:
            self._asked.clear()

    async def _read(self, transaction_ids: Collection[UUID]) -> States:
        states: States = {}
        ids = iter(transaction_ids)
        while chunk := list(islice(ids, READ_CHUNK)):
            async with reading(self._engine) as tx:
                states.update(await item_states(tx, chunk))
        return states
