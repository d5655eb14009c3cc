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
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.identity import OPERATOR, OUTSIDE, HolderId, ItemId
from domain.ledger import Command, CustodyChange, ItemTransition, NewItem
from domain.settlement import (
    Candidate,
    ItemState,
    QueueKey,
    Rail,
    retry_after,
)
from providers.base import (
    ChainReader,
    Movement,
    Party,
    Preparation,
    PreparedAttempt,
    Refusal,
    Retryable,
    SettlementProvider,
)
from server.ledger_writer import LedgerWriter
from server.workers.activation import Activation
from server.workers.attempts import Attempts
from server.workers.judge import Judge
from storage import cursors, custody, settlements
from storage.database import Engine
from storage.settlements import Claim, ClaimedItem, Release

log = structlog.get_logger()

CHAIN = "tempo"


@dataclass(frozen=True, slots=True)
class SettlementPace:
    """How much one round takes, and how long things may take."""

    groups_per_round: int = 16
    lease: timedelta = timedelta(seconds=20)
    resend_after: timedelta = timedelta(seconds=3)
    unproven_after: timedelta = timedelta(seconds=10)
    """How long after its expiry an attempt may go unproven before its items are shown as INDETERMINATE."""
    idle_seconds: float = 0.1
    chores_seconds: float = 1.0


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
        self._writer = writer
        self._provider = provider
        self._operator = Party.operator(operator_address)
        self._clock = clock
        self._entropy = entropy
        self._pace = pace
        self._rail = Rail(provider.rail)
        self._attempts = Attempts(
            engine=engine, provider=provider, clock=clock, entropy=entropy, resend_after=pace.resend_after
        )
        self._activation = Activation(
            engine=engine, provider=provider, reader=reader, attempts=self._attempts, clock=clock
        )
        self._judge = Judge(
            engine=engine,
            reader=reader,
            rail=self._rail,
            chain=CHAIN,
            operator_address=operator_address,
            clock=clock,
            unproven_after=pace.unproven_after,
        )
        self._next_queue: QueueKey | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop` is set; the round under way is finished, so no lease is left behind."""
        next_chores = self._clock.monotonic()
        while not stop.is_set():
            worked = await self.settle_round()
            if self._clock.monotonic() >= next_chores:
                await self.chores()
                next_chores = self._clock.monotonic() + self._pace.chores_seconds
            if not worked:
                await self._clock.sleep(self._pace.idle_seconds)

    async def settle_round(self) -> int:
        """One round over the queues; returns how many items were handed over."""
        claim = await self._claim()
        if claim is None:
            return 0
        parties = await self._parties(claim)
        await self._activation.begin(claim.unactivated, parties)
        handed_over = await asyncio.gather(*(self._settle(group, parties) for group in claim.groups))
        return sum(handed_over)

    async def chores(self) -> None:
        """What keeps queues moving when something went wrong: stale leases, silent attempts, expired attempts."""
        async with self._engine.begin() as tx:
            await settlements.expire_leases(tx, self._rail, now=self._clock.now())
        await self._attempts.resend()
        await self._activation.check()
        await self._judge.judge()

    # --- claim and prepare --------------------------------------------------------------------------------------------

    async def _claim(self) -> Claim | None:
        async with self._engine.begin() as tx:
            if await cursors.halted_reason(tx, CHAIN):
                return None
            claim = await settlements.claim(
                tx,
                rail=self._rail,
                now=self._clock.now(),
                lease=self._pace.lease,
                start=self._next_queue,
                max_groups=self._pace.groups_per_round,
                calls_per_group=self._provider.limits.max_movements,
            )
        self._next_queue = claim.next_queue
        return claim

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

    def _movement(self, candidate: Candidate, parties: Mapping[HolderId, Party]) -> Movement:
        destination = parties.get(candidate.recipient) or Party.outside(candidate.destination or "")
        source = parties[candidate.sender]
        return Movement(candidate.item_id, candidate.asset, candidate.micros, source, destination)

    async def _settle(self, group: Sequence[ClaimedItem], parties: Mapping[HolderId, Party]) -> int:
        preparation = await self._provider.prepare([self._movement(item.candidate, parties) for item in group])
        if isinstance(preparation, Retryable):
            await self._give_back([self._waiting(item, preparation) for item in group])
            return 0
        by_id: dict[UUID, ClaimedItem] = {item.candidate.item_id: item for item in group}
        await self._handle_refusals(preparation, by_id)
        if preparation.attempt is None:
            return 0
        return await self._persist_and_send(preparation.attempt, by_id)

    def _waiting(self, item: ClaimedItem, preparation: Retryable) -> Release:
        not_before = self._clock.now() + preparation.retry_after
        return Release(item, preparation.reason[:200], not_before, failed=False)

    async def _give_back(self, releases: Sequence[Release]) -> None:
        async with self._engine.begin() as tx:
            await settlements.release(tx, self._rail, releases)

    # --- refusals -----------------------------------------------------------------------------------------------------

    async def _handle_refusals(self, preparation: Preparation, by_id: Mapping[UUID, ClaimedItem]) -> None:
        permanent = [refusal for refusal in preparation.refusals if refusal.permanent]
        passing = [refusal for refusal in preparation.refusals if not refusal.permanent]
        now = self._clock.now()
        releases = [self._refused(by_id[refusal.item_id], refusal, now) for refusal in passing]
        releases += [
            Release(by_id[item_id], "waits behind another item", failed=False) for item_id in preparation.deferred
        ]
        await self._give_back(releases)
        for refusal in permanent:
            await self._step_in(by_id[refusal.item_id], refusal)

    def _refused(self, item: ClaimedItem, refusal: Refusal, now: datetime) -> Release:
        not_before = now + retry_after(item.candidate.failures)
        return Release(item, f"{refusal.reason} {refusal.detail}".strip()[:200], not_before)

    async def _step_in(self, item: ClaimedItem, refusal: Refusal) -> None:
        """A transfer that can never settle as planned: the operator stands in for the blocked end (money rule 10).

        The ledger is not touched. What can move, moves between the other end and the operator; what cannot is kept as a
        BLOCKED item, so that every equation still counts it, until people decide.
        """
        candidate = item.candidate
        if candidate.recipient == OUTSIDE:
            await self._block(item, refusal)
            return
        source_blocked = refusal.blocked in ("source", "both")
        reason = f"{refusal.reason} at block {refusal.at_block}"
        to_operator = self._stand_in(candidate, candidate.sender, OPERATOR, blocked=source_blocked)
        from_operator = self._stand_in(candidate, OPERATOR, candidate.recipient, blocked=refusal.blocked != "source")
        transition = ItemTransition(
            item_id=candidate.item_id,
            expected=frozenset({ItemState.CLAIMED}),
            state=ItemState.FAILED,
            reason=reason,
            at=self._clock.now(),
        )
        freed = CustodyChange(candidate.sender, self._rail, candidate.asset, 0, -candidate.micros)
        command = Command(transitions=(transition,), custody=(freed,), items=(to_operator, from_operator))
        outcome = await self._writer.submit(command)
        log.warning("settlement.operator_steps_in", item_id=str(candidate.item_id), reason=reason, outcome=str(outcome))

    async def _block(self, item: ClaimedItem, refusal: Refusal) -> None:
        """A withdrawal that the chain forbids: its hold is released or posted by a decision elsewhere, not here."""
        candidate = item.candidate
        transition = ItemTransition(
            item_id=candidate.item_id,
            expected=frozenset({ItemState.CLAIMED}),
            state=ItemState.BLOCKED,
            reason=f"{refusal.reason} at block {refusal.at_block}",
        )
        freed = CustodyChange(candidate.sender, self._rail, candidate.asset, 0, -candidate.micros)
        await self._writer.submit(Command(transitions=(transition,), custody=(freed,)))

    def _stand_in(self, candidate: Candidate, sender: HolderId, recipient: HolderId, *, blocked: bool) -> NewItem:
        return NewItem(
            id=ItemId(self._entropy.uuid7()),
            sender=sender,
            recipient=recipient,
            asset=candidate.asset,
            micros=candidate.micros,
            state=ItemState.BLOCKED if blocked else ItemState.PENDING,
        )

    # --- persist, then send -------------------------------------------------------------------------------------------

    async def _persist_and_send(self, prepared: PreparedAttempt, by_id: Mapping[UUID, ClaimedItem]) -> int:
        attempt = self._attempts.of(prepared)
        items = [by_id[movement.item_id] for movement in prepared.movements]
        async with self._engine.begin() as tx:
            persisted = await settlements.persist_attempt(tx, attempt, items)
        if not persisted:
            log.warning("settlement.lease_lost", reference=attempt.reference, items=len(items))
            return 0
        await self._attempts.send([attempt])
        return len(items)
