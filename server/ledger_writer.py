"""The one door to the ledger: group commit.

Callers `submit` commands; a committer takes whatever is waiting, has it decided in order against locked rows, writes it
and commits it in one database transaction, and answers each caller. An idle committer starts at once with a batch of
one, a busy one finds a larger batch waiting, which is why a hot account gets faster under load.

A commit whose answer was lost is sent again as the same batch: request ids and expected states make that harmless
(money rule 21). A batch that one stranger's lock or one poisonous command stops is split until only that one suffers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, cast
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.commands import BalanceKey, Command
from domain.errors import DatabaseUnavailable, DeadlinePassed, Overloaded
from domain.identity import OPERATOR
from domain.ledger import decide
from domain.ledger_state import Outcome, Refused
from storage import ledger
from storage.committer import (
    STATEMENT_STOPPED,
    CommitterConnection,
    CommitterError,
    DatabaseError,
    LockNotAvailable,
    UniqueViolation,
    connect_committer,
)

log = structlog.get_logger()

MAX_BATCH_COMMANDS = 256
MAX_BATCH_ROWS = 1_024
# After a batch of this many the next one waits for company, a few moments at the most.
CROWD = 5
MOMENT_SECONDS = 0.001
GATHER_MOMENTS = 5
# How long a wallet that somebody else holds is waited for, and how often it is looked at: another process' commit lets
# go of it in a moment, a stranger does not.
HELD_PATIENCE_SECONDS = 1.0
HELD_PAUSE_SECONDS = 0.02
PREVIEWERS = 4
RECONNECT_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 2.0)

OnCommit = Callable[[Sequence[BalanceKey]], None]


class CommitterClock(Protocol):
    """When a batch happens. None means the database's own time, whose UTC day the limits count in (money rule 24)."""

    def __call__(self) -> datetime | None: ...


@dataclass(slots=True)
class _Waiting:
    command: Command
    rows: int
    deadline: float | None
    answer: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Queue:
    """What waits for one committer."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    aside: list[_Waiting] = field(default_factory=list)
    """What concerns wallets that somebody else holds, and what of the same senders came after it (money rule 22)."""
    aside_senders: set[UUID] = field(default_factory=set)
    look_again_at: float = 0.0

    def set_aside(self, waiting: _Waiting) -> None:
        self.aside.append(waiting)
        if waiting.command.sender is not None:
            self.aside_senders.add(waiting.command.sender)

    def keeps_back(self, waiting: _Waiting) -> bool:
        """Set it aside, too, if something of the same sender is: it must not overtake."""
        kept = waiting.command.sender in self.aside_senders
        if kept:
            self.set_aside(waiting)
        return kept

    def bring_back(self) -> None:
        """Put what was set aside in front of all others, in its order."""
        self.waiting.extendleft(reversed(self.aside))
        self.aside.clear()
        self.aside_senders.clear()


@dataclass(slots=True)
class Work:
    """What the committers of one process have done since it started, for the metrics."""

    batches: int = 0
    commands: int = 0
    seconds: float = 0.0


class LedgerWriter:
    """Submits commands and runs the committers. One for each process."""

    def __init__(
        self,
        *,
        database_url: str,
        clock: Clock,
        entropy: Entropy,
        on_commit: OnCommit = lambda _: None,
        committers: int = 1,
        queue_limit: int = 10_000,
        batch_time: CommitterClock = lambda: None,
    ) -> None:
        self._database_url = database_url
        self._clock = clock
        self._entropy = entropy
        self._on_commit = on_commit
        self.queue_limit = queue_limit
        self.work = Work()
        self._batch_time = batch_time
        self._queues = [_Queue() for _ in range(committers)]
        self._held: dict[UUID, float] = {}
        """Wallets that somebody else was found to hold, at each look since then. Nobody waits for their locks."""
        self._previewers = [_Committer(database_url, batch_time, entropy) for _ in range(PREVIEWERS)]
        self._idle_previewers = asyncio.Semaphore(PREVIEWERS)

    @property
    def queued(self) -> int:
        """How many commands wait for a committer."""
        return sum(len(queue.waiting) + len(queue.aside) for queue in self._queues)

    async def submit(self, command: Command, *, deadline: float | None = None) -> Outcome:
        """Have the command decided and, if it may be, made true. Answers after the commit.

        `deadline` is on the clock's monotonic scale; a command that is still waiting then is dropped undecided. Raises
        `Overloaded` when the queue is full and `DatabaseUnavailable` when the outcome could not be learned.
        """
        return await self._enqueue(command, deadline)

    async def submit_all(
        self, commands: Sequence[Command], *, deadline: float | None = None
    ) -> list[Outcome | Exception]:
        """Submit many at once: each has an outcome of its own, or the error that keeps it from having one.

        Those of one sender are decided in the order given. When the queue is full, so is it for all that follow.
        """
        answers: list[asyncio.Future[Outcome]] = []
        refused: list[Outcome | Exception] = []
        try:
            for command in commands:
                answers.append(self._enqueue(command, deadline))
        except Overloaded as full:
            refused = [Refused(full)] * (len(commands) - len(answers))
        decided = cast("list[Outcome | Exception]", await asyncio.gather(*answers, return_exceptions=True))
        return decided + refused

    def _enqueue(self, command: Command, deadline: float | None) -> asyncio.Future[Outcome]:
        if self.queued >= self.queue_limit:
            raise Overloaded(retry_after_ms=200)
        waiting = _Waiting(command, 1 + len(command.balance_keys) + len(command.items), deadline)
        queue = self._queue_of(command)
        queue.waiting.append(waiting)
        queue.wake.set()
        return waiting.answer

    def _queue_of(self, command: Command) -> _Queue:
        """One sender's commands all go to one committer: two could overtake each other (money rule 22)."""
        owner = command.sender or (command.request.owner if command.request else OPERATOR)
        return self._queues[owner.int % len(self._queues)]

    async def preview(self, command: Command) -> Outcome:
        """What `submit` would answer now: the same reads without locks, the same decision, no write (rule 25)."""
        async with self._idle_previewers:
            previewer = self._previewers.pop()
            try:
                return await previewer.preview(command)
            finally:
                self._previewers.append(previewer)

    async def run(self, stop: asyncio.Event) -> None:
        """Commit until `stop` is set and the queue is empty."""
        async with asyncio.TaskGroup() as tasks:
            for queue in self._queues:
                tasks.create_task(self._commit_loop(queue, stop))
            await stop.wait()
            for queue in self._queues:
                queue.wake.set()
        for previewer in self._previewers:
            await previewer.close()

    async def _commit_loop(self, queue: _Queue, stop: asyncio.Event) -> None:
        committer = _Committer(self._database_url, self._batch_time, self._entropy)
        batch: list[_Waiting] = []
        try:
            while True:
                await self._work_of(queue)
                if len(batch) >= CROWD:
                    await self._gather(queue.waiting)
                batch = self._take(queue)
                if not batch:
                    if stop.is_set() and not queue.aside:
                        return
                    queue.wake.clear()
                    continue
                if any(not self._held.keys().isdisjoint(waiting.command.wallet_ids) for waiting in batch):
                    batch = await self._set_aside(committer, queue, batch)
                await self._commit(committer, queue, batch)
        finally:
            await committer.close()

    async def _work_of(self, queue: _Queue) -> None:
        """Wait for something to do: a new command, or the time to look again at what was set aside."""
        if not queue.aside:
            await queue.wake.wait()
            return
        pause = queue.look_again_at - self._clock.monotonic()
        if pause > 0 and not queue.waiting:
            await self._clock.sleep(pause)
            pause = 0
        if pause <= 0:
            queue.bring_back()

    async def _gather(self, queue: deque[_Waiting]) -> None:
        """In a crowd, let the next batch grow as long as each moment brings more.

        Most of what a small batch costs is the batch and not what is in it; whoever waits here would have waited for
        the processor.
        """
        for _ in range(GATHER_MOMENTS):
            waiting = len(queue)
            await self._clock.sleep(MOMENT_SECONDS)
            if len(queue) == waiting or len(queue) >= MAX_BATCH_COMMANDS:
                return

    def _take(self, queue: _Queue) -> list[_Waiting]:
        """The next batch, bounded by commands and by rows; what nobody waits for any more is dropped undecided."""
        batch: list[_Waiting] = []
        rows = 0
        now = self._clock.monotonic()
        while queue.waiting and len(batch) < MAX_BATCH_COMMANDS and (not batch or rows < MAX_BATCH_ROWS):
            waiting = queue.waiting.popleft()
            if waiting.answer.done():
                continue
            if queue.keeps_back(waiting):
                continue
            if waiting.deadline is not None and waiting.deadline <= now:
                waiting.answer.set_result(Refused(DeadlinePassed()))
                continue
            batch.append(waiting)
            rows += waiting.rows
        return batch

    async def _set_aside(self, committer: _Committer, queue: _Queue, batch: list[_Waiting]) -> list[_Waiting]:
        """Set aside what concerns wallets that somebody else holds, and return the others (money rule 23).

        What concerns a wallet that was held for too long, as by a stranger, is turned away.
        """
        now = self._clock.monotonic()
        held = await self._look(committer, batch)
        strangers = {wallet for wallet in held if now - self._held[wallet] >= HELD_PATIENCE_SECONDS}
        turned_away = [waiting for waiting in batch if not strangers.isdisjoint(waiting.command.wallet_ids)]
        if turned_away:
            log.warning("ledger.wallets_held", wallets=len(strangers), commands=len(turned_away))
            self._fail(turned_away, Overloaded(retry_after_ms=500))
        free: list[_Waiting] = []
        for waiting in batch:
            if waiting.answer.done() or queue.keeps_back(waiting):
                continue
            if held.isdisjoint(waiting.command.wallet_ids):
                free.append(waiting)
            else:
                queue.set_aside(waiting)
        queue.look_again_at = now + HELD_PAUSE_SECONDS
        return free

    async def _look(self, committer: _Committer, batch: list[_Waiting]) -> set[UUID]:
        """Which wallets of the batch somebody else holds now; and remember since when."""
        commands = [waiting.command for waiting in batch]
        now, held = self._clock.monotonic(), await committer.held_wallets(commands)
        for wallet in set().union(*(command.wallet_ids for command in commands)) - held:
            self._held.pop(wallet, None)
        for wallet in held:
            self._held.setdefault(wallet, now)
        return held

    async def _commit(self, committer: _Committer, queue: _Queue, batch: list[_Waiting]) -> None:
        batch = [waiting for waiting in batch if not queue.keeps_back(waiting)]
        if not batch:
            return
        started = self._clock.monotonic()
        try:
            outcomes, changed = await committer.apply([waiting.command for waiting in batch])
        except DatabaseUnavailable as error:
            self._fail(batch, error)
        except LockNotAvailable as error:
            others = await self._set_aside(committer, queue, batch)
            if len(others) < len(batch):
                await self._commit(committer, queue, others)
            else:
                await self._split(committer, queue, batch, error)
        except DatabaseError as error:
            await self._split(committer, queue, batch, error)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch, error)
            else:
                await self._split(committer, queue, batch, error)
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(outcome)
            if changed:
                self._on_commit(changed)
            self.work.batches += 1
            self.work.commands += len(batch)
            self.work.seconds += self._clock.monotonic() - started

    async def _split(self, committer: _Committer, queue: _Queue, batch: list[_Waiting], error: Exception) -> None:
        """Find the command that stops the batch by halving it; alone, it alone is answered with its error."""
        log.warning("ledger.batch_split", size=len(batch), error=type(error).__name__, detail=str(error)[:200])
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._commit(committer, queue, batch[:middle])
            await self._commit(committer, queue, batch[middle:])
        elif isinstance(error, STATEMENT_STOPPED):
            self._fail(batch, Overloaded(retry_after_ms=500))
        else:
            self._fail(batch, error)

    @staticmethod
    def _fail(batch: list[_Waiting], error: Exception) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


class _Committer:
    """One connection and the three straight steps: read, decide, write."""

    def __init__(self, database_url: str, batch_time: CommitterClock, entropy: Entropy) -> None:
        self._database_url = database_url
        self._batch_time = batch_time
        self._entropy = entropy
        self._connection: CommitterConnection | None = None

    async def apply(self, commands: Sequence[Command]) -> tuple[list[Outcome], list[BalanceKey]]:
        """Apply the batch, sending the same one again whenever the connection was lost (money rule 21)."""
        for pause in (*RECONNECT_SECONDS, None):
            try:
                connection = await self._connected()
                return await self._apply_once(connection, commands)
            except CommitterError as error:
                if self._connection is not None and self._connection.usable:
                    raise
                if pause is None:
                    raise DatabaseUnavailable() from error
                log.warning("ledger.connection_lost", commands=len(commands), detail=str(error)[:200])
                await self.close()
                await asyncio.sleep(pause)
            except UniqueViolation:
                # A command with the same natural key was committed meanwhile: decided anew, it finds the stored result.
                if len(commands) > 1 or pause is None:
                    raise
        raise AssertionError("unreachable")

    async def _apply_once(
        self, connection: CommitterConnection, commands: Sequence[Command]
    ) -> tuple[list[Outcome], list[BalanceKey]]:
        try:
            state = await ledger.load(connection, commands, now=self._batch_time())
            outcomes, writes = decide(state, commands)
            await ledger.write(connection, state, writes, entropy=self._entropy)
        except BaseException:
            if connection.usable:
                await connection.rollback()
            raise
        return outcomes, [key for key, balance in state.balances.items() if balance.dirty]

    async def held_wallets(self, commands: Sequence[Command]) -> set[UUID]:
        """The commands' wallets that somebody else holds now; none while the database is away, as `apply` will find."""
        try:
            return await ledger.held_wallets(await self._connected(), commands)
        except CommitterError:
            await self.close()
            return set()

    async def preview(self, command: Command) -> Outcome:
        """Decide on what is there now, without a lock and without a write. A lost connection is replaced once."""
        for once_more in (True, False):
            try:
                connection = await self._connected()
                state = await ledger.load(connection, [command], now=self._batch_time(), lock=False)
                await connection.rollback()
            except CommitterError as error:
                await self.close()
                if not once_more:
                    raise DatabaseUnavailable() from error
            except BaseException:
                await self.close()  # A caller who left in the middle of a read leaves the connection unusable.
                raise
            else:
                outcomes, _ = decide(state, [command])
                return outcomes[0]
        raise AssertionError("unreachable")

    async def _connected(self) -> CommitterConnection:
        if self._connection is None or not self._connection.usable:
            self._connection = await connect_committer(self._database_url)
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
