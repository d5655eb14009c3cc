"""What a worker outlives: the database's absence and its rush hours, and no fault of our own."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from domain.errors import DatabaseUnavailable, Overloaded
from server.process import keep_running

SOON = 10


class Impatient:
    """A clock whose pauses take no time."""

    async def sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0)


class Stumbling:
    """A worker that fails with each of these in turn, and then has nothing left to do."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.runs = 0

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        stop.set()


async def keep(worker: Stumbling) -> None:
    await asyncio.wait_for(keep_running(worker, asyncio.Event(), Impatient()), SOON)  # type: ignore[arg-type]


async def test_a_worker_begins_anew_after_what_passes_by_itself() -> None:
    """Found by a soak: one command turned away for a stranger's lock took the whole process with it."""
    passing = [DatabaseUnavailable(), Overloaded(retry_after_ms=500), OperationalError("", {}, Exception("gone"))]
    worker = Stumbling(*passing, ExceptionGroup("tasks", [Overloaded(retry_after_ms=500)]))
    await keep(worker)
    assert worker.runs == 5


async def test_a_fault_of_ours_ends_it() -> None:
    """A worker that goes on after a failure nobody foresaw would repeat it for ever, in silence."""
    with pytest.raises(KeyError):
        await keep(Stumbling(KeyError("unforeseen")))
