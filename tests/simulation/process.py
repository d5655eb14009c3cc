"""One worker process of the simulation: it may die at every await, and others may act while it waits.

What the workers use of the outside (the engine, the ledger writer, the rail) is wrapped, and every wrapper passes a
*point* before and after each of its effects. At a point the process may crash, which takes everything it was doing with
it, or the world may let somebody else act. Nothing inside the workers is changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from server.ledger_writer import LedgerWriter
from storage.database import Engine, Tx
from tests.workers.house import RailParts

T = TypeVar("T")

# What happens at a point, by its name; True kills the process there. The second argument says whether others may act
# there: not while a database transaction is open, whose locks they might wait for.
AtPoint = Callable[[str, bool], Awaitable[bool]]


class Crash(BaseException):
    """The process is gone. Not an `Exception`: nothing in the workers may survive it."""


class Process:
    """The outside as one process sees it."""

    def __init__(self, name: str, engine: Engine, writer: LedgerWriter, rail: RailParts, at_point: AtPoint) -> None:
        self.name = name
        self._at_point = at_point
        self._dead = False
        self.engine = cast(Engine, _Engine(engine, self))
        self.writer = self.sees(writer)
        self.provider = self.sees(rail.provider)
        self.reader = self.sees(rail.reader)
        self.signer, self.faucet = rail.signer, rail.faucet

    async def pass_point(self, point: str, *, others_may_act: bool = True) -> None:
        if self._dead or await self._at_point(f"{self.name}:{point}", others_may_act):
            self._dead = True
            raise Crash(point)

    def sees(self, part: T) -> T:
        """The part, with a point before and after each of its asynchronous calls."""
        return cast(T, _Part(part, self))


class _Part:
    """Anything whose asynchronous calls have their effect between two points."""

    def __init__(self, part: Any, process: Process) -> None:
        self._part, self._process = part, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not iscoroutinefunction(found):
            return found

        async def passing(*arguments: Any, **named: Any) -> Any:
            await self._process.pass_point(name)
            answer = await found(*arguments, **named)
            await self._process.pass_point(f"{name} done")
            return answer

        return passing


class _Engine:
    """Killed before a commit nothing of it stands; killed after it everything does, and nobody knows."""

    def __init__(self, engine: Engine, process: Process) -> None:
        self._engine, self._process = engine, process

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        await self._process.pass_point("begin")
        async with self._engine.begin() as tx:
            yield tx
            await self._process.pass_point("commit", others_may_act=False)
        await self._process.pass_point("committed")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Tx]:
        await self._process.pass_point("read")
        async with self._engine.connect() as tx:
            yield tx


class _QuickEngine:
    """Each read a snapshot of its own, as in READ COMMITTED, without a BEGIN and a ROLLBACK to wait for."""

    def __init__(self, engine: Engine) -> None:
        self.begin, self.execution_options = engine.begin, engine.execution_options
        self.connect = engine.execution_options(isolation_level="AUTOCOMMIT").connect


def quick(engine: Engine) -> Engine:
    """The engine, with quicker reads."""
    return cast(Engine, _QuickEngine(engine))
