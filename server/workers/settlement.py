"""Settlement: from an item in the ledger to a signed transaction on the rail, and back to the queue when it is dead.

One round is five straight steps: claim (a commit with a lease), prepare (head time, simulation and signing, outside any
database transaction), persist what was signed under the fencing token, broadcast, note that it was handed over. Whether
it landed is not this worker's business: the chain watcher confirms. What is left here is to hand open attempts over
again, and to bury those that are *proven* dead (money rules 1 to 6).

A crash between any two steps leaves either an expired lease (nothing was persisted, the item is free again) or a
persisted attempt (which is handed over again until it lands or is proven dead).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.errors import StateConflict
from domain.identity import OPERATOR, OUTSIDE, HolderId
from domain.settlement import AttemptKind, Candidate, QueueKey, Rail
from providers.base import (
    ChainReader,
    Movement,
    Party,
    Preparation,
    Retryable,
    SettlementProvider,
    SigningRefused,
)
from server.ledger_writer import LedgerWriter
from server.workers.activation import Activation
from server.workers.attempts import Attempts
from server.workers.concurrency import all_of
from server.workers.judge import Judge
from server.workers.refusals import Refusals
from storage import attempts, claims, cursors, custody, provider_health, settlements
from storage.claims import Claim, Place
from storage.database import Engine
from storage.settlements import ClaimedItem

log = structlog.get_logger()

CHAIN = "tempo"

Group = Sequence[ClaimedItem]


@dataclass(frozen=True, slots=True)
class SettlementPace:
    """How much one round takes, and how long things may take."""

    groups_per_round: int = 16
    rounds_under_way: int = 3
    """While one round waits for the node, the next ones are claimed and signed."""
    lease: timedelta = timedelta(seconds=20)
    resend_after: timedelta = timedelta(seconds=3)
    unproven_after: timedelta = timedelta(seconds=10)
    """How long after its expiry an attempt may go unproven before its items are shown as INDETERMINATE."""
    idle_seconds: float = 0.1
    chores_seconds: float = 0.5


class SettlementWorker:
    """Settles items on one rail. Any number may run: they lease their work from the database."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        provider: SettlementProvider,
        reader: ChainReader,
        operator_address: str,
        clock: Clock,
        entropy: Entropy,
        pace: SettlementPace = SettlementPace(),
    ) -> None:
        self._engine = engine
        self._provider = provider
        self._operator = Party.operator(operator_address)
        self._clock = clock
        self._pace = pace
        self._rail = Rail(provider.rail)
        self._attempts = Attempts(
            engine=engine, provider=provider, clock=clock, entropy=entropy, resend_after=pace.resend_after
        )
        self._activation = Activation(
            engine=engine, provider=provider, reader=reader, attempts=self._attempts, clock=clock
        )
        self._refusals = Refusals(engine=engine, writer=writer, clock=clock, entropy=entropy, rail=self._rail)
        self._judge = Judge(
            engine=engine,
            reader=reader,
            rail=self._rail,
            chain=CHAIN,
            operator_address=operator_address,
            clock=clock,
            unproven_after=pace.unproven_after,
        )
        self._next_queue: Place | None = None
        self._resume_at = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop` is set; rounds under way are finished, so no lease is left behind."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._do_chores(stop))
            room = asyncio.Semaphore(self._pace.rounds_under_way)
            while not stop.is_set():
                await room.acquire()
                claim = await self._claim()
                task = tasks.create_task(self._carry_out(claim))
                task.add_done_callback(lambda _: room.release())
                if not claim.groups and claim.next_queue is None:
                    await self._clock.sleep(self._pace.idle_seconds)

    async def _do_chores(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.chores()
            await self._clock.sleep(self._pace.chores_seconds)

    async def settle_round(self) -> int:
        """One round over the queues; returns how many items were handed over."""
        return await self._carry_out(await self._claim())

    async def chores(self) -> None:
        """What keeps queues moving when something went wrong: stale leases, silent attempts, expired attempts."""
        async with self._engine.begin() as tx:
            if await cursors.halted_reason(tx, CHAIN):
                return
            await settlements.expire_leases(tx, self._rail, now=self._clock.now())
            under_way = await attempts.open_attempts(tx, self._rail)
        await self._attempts.resend(under_way)
        await self._activation.check([attempt for attempt in under_way if attempt.kind is AttemptKind.ACTIVATION])
        await self._judge.judge([attempt for attempt in under_way if attempt.kind is AttemptKind.TRANSFER])

    # --- one round ----------------------------------------------------------------------------------------------------

    async def _claim(self) -> Claim:
        if self._clock.monotonic() < self._resume_at:
            return Claim([], [], None)
        try:
            async with self._engine.begin() as tx:
                if await cursors.halted_reason(tx, CHAIN) or await provider_health.is_paused(tx, self._provider.name):
                    return Claim([], [], None)
                claim = await claims.claim(
                    tx,
                    rail=self._rail,
                    now=self._clock.now(),
                    lease=self._pace.lease,
                    start=self._next_queue,
                    max_groups=self._pace.groups_per_round,
                    calls_per_group=self._provider.limits.max_movements,
                )
        except StateConflict as conflict:
            log.info("settlement.claim_not_made", reason=str(conflict))
            return Claim([], [], None)
        self._next_queue = claim.next_queue
        return claim

    async def _carry_out(self, claim: Claim) -> int:
        if not claim.groups and not claim.unactivated:
            return 0
        parties = await self._parties(claim)
        handed_over = await self._settle(claim.groups, parties)
        await self._activation.begin(claim.unactivated, parties)
        return handed_over

    async def _parties(self, claim: Claim) -> dict[HolderId, Party]:
        candidates = [item.candidate for group in claim.groups for item in group]
        holders = {holder for c in candidates for holder in (c.sender, c.recipient)}
        holders |= {holder for holder, _ in claim.unactivated}
        async with self._engine.connect() as tx:
            addresses = await custody.addresses_of(tx, holders - {OPERATOR, OUTSIDE})
        parties = {
            holder: Party.consumer(address=found.address, index=found.index)
            for holder, found in addresses.items()
            if found.index is not None
        }
        return {**parties, OPERATOR: self._operator}

    async def _settle(self, groups: Sequence[Group], parties: Mapping[HolderId, Party]) -> int:
        """Prepare all groups at once; what could be signed is persisted and sent before the rest is looked at."""
        claimed: dict[UUID, ClaimedItem] = {item.candidate.item_id: item for group in groups for item in group}
        answers = [answer for part in await all_of([self._prepare(g, parties) for g in groups]) for answer in part]
        prepared = [answer for _, answer in answers if isinstance(answer, Preparation)]
        signed = [preparation.attempt for preparation in prepared if preparation.attempt is not None]
        handed_over = await self._attempts.carry_out(signed, claimed)
        await self._refusals.handle(prepared, claimed)
        for group, answer in answers:
            if isinstance(answer, Retryable):
                self._resume_at = self._clock.monotonic() + answer.retry_after.total_seconds()
                await self._refusals.postpone(group, answer)
            elif isinstance(answer, SigningRefused):
                await self._refusals.report(group, answer)
        return handed_over

    async def _prepare(
        self, group: Group, parties: Mapping[HolderId, Party]
    ) -> list[tuple[Group, Preparation | Retryable | SigningRefused]]:
        """The provider's answer. Where the signer refuses, the group is halved until only the offender's queue is.

        The two sides of a swap are never taken apart (money rule 18).
        """
        try:
            movements = [self._movement(item.candidate, parties) for item in group]
            return [(group, await self._provider.prepare(movements))]
        except SigningRefused as refused:
            queues = [list(items) for _, items in groupby(sorted(group, key=_queue), key=_queue)]
            if len(queues) == 1 or group[0].candidate.group_id is not None:
                return [(group, refused)]
            halves = (queues[: len(queues) // 2], queues[len(queues) // 2 :])
            parts = [await self._prepare([item for queue in half for item in queue], parties) for half in halves]
            return [answer for part in parts for answer in part]

    def _movement(self, candidate: Candidate, parties: Mapping[HolderId, Party]) -> Movement:
        destination = parties.get(candidate.recipient) or Party.outside(candidate.destination or "")
        source = parties[candidate.sender]
        return Movement(
            candidate.item_id, candidate.asset, candidate.micros, source, destination, group_id=candidate.group_id
        )


def _queue(item: ClaimedItem) -> QueueKey:
    return item.queue
