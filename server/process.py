"""What every process of ours begins with: its arguments, its reasons not to start, and how it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import uvloop

from domain.clock import Clock
from domain.errors import DatabaseUnavailable, Overloaded
from server.settings import Role
from storage import migrations, privileges, standbys
from storage.database import UNAVAILABLE, Engine

log = structlog.get_logger()

DATABASE_PAUSE_SECONDS = 1.0


class StartRefused(Exception):
    """Why the process cannot start: one sentence for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    role: Role
    workers: int
    """API processes under a supervisor."""
    number: int
    """Which of a supervisor's processes this is."""
    supervised: bool
    """Shares the supervisor's port and ends with it."""

    @property
    def name(self) -> str:
        """How the process calls itself in its log lines."""
        return f"{self.role}-{self.number}" if self.supervised and self.role is Role.API else str(self.role)


def read_arguments(line: Sequence[str] | None = None) -> Arguments:
    """The command line, or the exit that argparse makes of a wrong one."""
    parser = argparse.ArgumentParser(prog="server", description="The Monay consumer wallet.")
    parser.add_argument("role", type=Role, choices=tuple(Role), help="what this process is for")
    parser.add_argument("--workers", type=int, default=1, help="API processes of `all` and `api` (default: 1)")
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    parsed = parser.parse_args(line)
    if parsed.workers < 1:
        parser.error("--workers must be at least 1")
    return Arguments(parsed.role, parsed.workers, parsed.number, parsed.supervised)


def event_loop(arguments: Arguments) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the process' event loop, where it is not asyncio's own.

    A process that answers calls takes uvloop: a tenth less of the processor for each call. The supervisor needs options
    for its children that uvloop does not know, and neither it nor the workers turn their loop often enough to matter.
    """
    answers_calls = arguments.role is Role.API and (arguments.supervised or arguments.workers == 1)
    return uvloop.new_event_loop if answers_calls else None


def stop_event(*, supervised: bool) -> asyncio.Event:
    """Set by SIGTERM and SIGINT, and by the supervisor's end: its pipe to us closes, however it died."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if supervised:
        pipe = sys.stdin.fileno()

        def closed() -> None:
            if not os.read(pipe, 1):
                loop.remove_reader(pipe)
                stop.set()

        loop.add_reader(pipe, closed)
    return stop


class Part(Protocol):
    """Something that runs until it is told to stop."""

    async def run(self, stop: asyncio.Event) -> None: ...


async def keep_running(part: Part, stop: asyncio.Event, clock: Clock) -> None:
    """Run a worker through outages of the database and through its rush hours: it begins anew from what is committed.

    Any other failure is a fault of ours, and ends the process. A worker with tasks of its own fails in a group.
    """
    while not stop.is_set():
        try:
            await part.run(stop)
        except* (DatabaseUnavailable, Overloaded, *UNAVAILABLE) as errors:
            reason = str(errors.exceptions[0])[:200]
            log.warning("worker.waiting_for_database", worker=type(part).__name__, error=reason)
            await clock.sleep(DATABASE_PAUSE_SECONDS)


async def require_standby(engine: Engine) -> None:
    """Refuse to start on a database whose commits are on one machine only (money rule 15)."""
    async with engine.connect() as tx:
        synchronous = await standbys.synchronous(tx)
    if not synchronous:
        raise StartRefused(
            "Commits wait for no standby: in production the database must have synchronous_standby_names and a "
            "synchronous_commit that waits for them, or SYNCHRONOUS_STANDBY must say `managed` or `none`."
        )


async def require_database(engine: Engine, *, production: bool) -> None:
    """Refuse to start without a database that has this code's schema, and in production as a role that could alter
    the record.
    """
    obstacle = await migrations.obstacle(engine)
    if obstacle is not None:
        raise StartRefused(obstacle)
    if not production:
        return
    async with engine.connect() as tx:
        changeable = await privileges.excess(tx)
    if changeable:
        raise StartRefused(
            f"The role of DATABASE_URL can change or remove rows of {', '.join(changeable)}: in production it must be "
            "another one than the owner, DATABASE_OWNER_URL; `make migrate` grants it what it needs."
        )
