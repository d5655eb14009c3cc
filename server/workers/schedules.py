"""Schedules: what consumers put on them runs at its time, each occurrence once.

Three steps, each its own commit. *Begin*: an occurrence that is due is taken off its schedule and becomes a run.
*Take*: the run is leased. *Pay*: one ledger command moves the money and ends the run, under a request key made of
schedule and occurrence, so that two workers, or one before and after a crash, pay once between them. What the ledger
refuses is written down and not repeated; what it could not decide is tried again when the lease is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Command
from domain.errors import DatabaseUnavailable, DeadlinePassed, Overloaded, RateTooOld, StateConflict, WalletError
from domain.ledger_state import Applied, Outcome, Refused
from domain.pricing import FeeSchedule
from domain.scheduled_transfers import CALLER, Run, ScheduledTransfer
from domain.transfers import Origin, OriginKind, booking
from server.ledger_writer import LedgerWriter
from server.services.rates import ReferenceRates
from server.services.recurrences import Recurrence
from storage import scheduled_transfers
from storage.database import Engine, writing

log = structlog.get_logger()

# Nothing was decided about the run, so nothing is to be written down about it.
UNDECIDED = (RateTooOld, Overloaded, DatabaseUnavailable, DeadlinePassed, StateConflict)


class ScheduleWorker:
    """Begins what is due and pays what has begun."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        rates: ReferenceRates,
        fees: FeeSchedule,
        clock: Clock,
        entropy: Entropy,
        lease: timedelta = timedelta(seconds=30),
        poll_seconds: float = 0.5,
        at_once: int = 200,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._rates = rates
        self._fees = fees
        self._clock = clock
        self._entropy = entropy
        self._lease = lease
        self._poll_seconds = poll_seconds
        self._at_once = at_once

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. A run that was taken is finished before."""
        while not stop.is_set():
            begun = await self.begin()
            if not await self.work() and not begun:
                await self._clock.sleep(self._poll_seconds)

    async def begin(self) -> int:
        """Begin the runs that are due, one of each schedule; how many there were."""
        now = self._clock.now()
        async with writing(self._engine) as tx:
            due = await scheduled_transfers.due(tx, now=now, limit=self._at_once)
            runs = [(self._entropy.uuid7(), scheduled, _next_run(scheduled)) for scheduled in due]
            if runs:
                await scheduled_transfers.begin(tx, runs, now=now)
        return len(runs)

    async def work(self) -> int:
        """Take runs that have begun and finish them; how many there were."""
        async with writing(self._engine) as tx:
            runs = await scheduled_transfers.take(tx, now=self._clock.now(), lease=self._lease, limit=self._at_once)
        if runs:
            await self.pay(runs)
        return len(runs)

    async def pay(self, runs: Sequence[Run]) -> None:
        """Pay the runs, all in the same commits, and write down which of them were refused."""
        commands = [await self._command(run) for run in runs]
        outcomes = await self._writer.submit_all(commands)
        refused = [(run, reason) for run, reason in map(_refusal, runs, outcomes) if reason]
        if refused:
            async with writing(self._engine) as tx:
                await scheduled_transfers.refuse(tx, refused, now=self._clock.now())

    async def _command(self, run: Run) -> Command:
        """The run as a transfer. Limits and funds are those of this moment, as if the consumer made it now."""
        try:
            limit_usd_micros = await self._rates.usd_micros(run.amount)
        except WalletError as refusal:
            return Command(request=run.request(), sender=run.consumer, doom=refusal)
        made = booking(
            self._entropy,
            sender=run.consumer,
            recipient=run.recipient,
            amount=run.amount,
            fee_micros=self._fees.transfer_fee(run.amount).micros,
            memo=run.memo,
            caller=CALLER,
            reference=str(Origin(OriginKind.SCHEDULED_TRANSFER, str(run.scheduled_transfer_id))),
        )
        return Command(
            transactions=(made.transaction,),
            postings=(made.postings,),
            items=(made.item,),
            request=run.request(),
            sender=run.consumer,
            limit_usd_micros=limit_usd_micros,
            record_transitions=(run.completed(made.transaction.id, at=self._clock.now()),),
        )


def _next_run(scheduled: ScheduledTransfer) -> datetime | None:
    """What follows the occurrence that is due. What was missed follows too, late, one after the other."""
    assert scheduled.next_run_at is not None, "only a schedule with a next run is due"
    return Recurrence(scheduled.recurrence, start=scheduled.start_at).after(scheduled.next_run_at)


def _refusal(run: Run, outcome: Outcome | Exception) -> tuple[Run, str]:
    """The reason that is to be written down; empty if the run has paid, or nothing is decided about it."""
    error = outcome.error if isinstance(outcome, Refused) else outcome
    facts = {"scheduled_transfer_id": str(run.scheduled_transfer_id), "occurrence": run.occurrence_at.isoformat()}
    if isinstance(error, Applied):
        log.info("schedule.paid", transaction_id=str(error.transaction_id), **facts)
        return run, ""
    if not isinstance(error, WalletError) or isinstance(error, UNDECIDED):
        log.warning("schedule.postponed", error=type(error).__name__, **facts)
        return run, ""
    log.info("schedule.refused", reason=error.reason, **facts)
    return run, error.reason
