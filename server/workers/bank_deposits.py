"""Deposits from banks, found by polling: a webhook may wake this worker, but what it says is never believed.

Each look reads everything that was created since a while before the youngest deposit known, so that whatever was
missed, for an hour or for a weekend, is found at the next one. A deposit is noted when it is first seen and booked once
it is complete, by a command that finds it pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from domain import bank_deposits as booking
from domain.bank_deposits import ArrivedDeposit, BankDepositState, payer_of
from domain.clock import Clock, Entropy
from domain.commands import Command
from domain.errors import BalanceOverflow
from domain.ledger_state import Refused
from providers.custodian import BankDeposit, BankRail, OrderState
from server.ledger_writer import LedgerWriter
from storage import bank_deposits, bank_links
from storage.database import Engine

log = structlog.get_logger()

OVERLAP = timedelta(days=3)
"""How far before the youngest deposit known each look begins. Older ones that are pending are asked about by name."""

AHEAD = timedelta(minutes=5)
"""How far the custodian's clock may be before ours."""


class BankDeposits:
    """Looks for deposits and has them booked."""

    def __init__(self, *, engine: Engine, writer: LedgerWriter, bank: BankRail, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._writer = writer
        self._bank = bank
        self._clock = clock
        self._entropy = entropy

    async def step(self, *, opened_at: datetime) -> None:
        """One look."""
        async with self._engine.connect() as tx:
            newest = await bank_deposits.newest_arrival(tx)
        since = max(newest or opened_at, opened_at) - OVERLAP
        seen = await self._bank.deposits(since=since, until=self._clock.now() + AHEAD)
        await self._note(seen)
        latest = {one.reference: one for one in seen}
        async with self._engine.connect() as tx:
            pending = await bank_deposits.pending(tx)
        for deposit in pending:
            found = latest.get(deposit.reference) or await self._bank.deposit(deposit.reference)
            if found is not None:
                await self._judge(noted(found, deposit))

    async def _note(self, seen: Sequence[BankDeposit]) -> None:
        if seen:
            new = [arrived(self._entropy, one) for one in seen]
            async with self._engine.begin() as tx:
                await bank_deposits.note(tx, new, now=self._clock.now())

    async def _judge(self, seen: tuple[ArrivedDeposit, OrderState]) -> None:
        deposit, state = seen
        now = self._clock.now()
        if state is OrderState.FAILED:
            await self._submit(booking.failed(deposit, reason="failed at the custodian", now=now), deposit)
        elif state is OrderState.COMPLETE and deposit.net.micros <= 0:
            await self._submit(booking.failed(deposit, reason="nothing is left of it", now=now), deposit)
        elif state is OrderState.COMPLETE:
            await self._credit(deposit)

    async def _credit(self, deposit: ArrivedDeposit) -> None:
        async with self._engine.connect() as tx:
            by_tracking = await bank_links.payer_by_tracking(tx, deposit.tracking_reference)
            by_bank = await bank_links.payer_by_bank(tx, deposit.bank_reference)
        payer, now = payer_of(by_tracking, by_bank), self._clock.now()
        reason = "no consumer of ours has this reference"
        if payer is not None:
            refusal = await self._submit(booking.credited(self._entropy, deposit, payer, now=now), deposit)
            if not isinstance(refusal, BalanceOverflow):
                return
            reason = "the consumer's balance has no room for it"
        await self._submit(booking.suspended(self._entropy, deposit, reason=reason, now=now), deposit)

    async def _submit(self, command: Command, deposit: ArrivedDeposit) -> Exception | None:
        """Have it booked. Refused, it was booked by somebody else meanwhile, or has to be booked otherwise."""
        outcome = await self._writer.submit(command)
        refusal = outcome.error if isinstance(outcome, Refused) else None
        state = command.record_transitions[0].state
        log.info("bank.deposit", reference=deposit.reference, state=state, refused=str(refusal or ""))
        return refusal


def arrived(entropy: Entropy, seen: BankDeposit) -> ArrivedDeposit:
    """A deposit as we shall keep it."""
    return ArrivedDeposit(
        id=entropy.uuid7(),
        reference=seen.reference,
        amount=seen.amount,
        fee=seen.fee,
        tracking_reference=seen.tracking_reference or "",
        bank_reference=seen.bank_reference or "",
        state=BankDepositState.PENDING,
        arrived_at=seen.created_at,
    )


def noted(seen: BankDeposit, kept: ArrivedDeposit) -> tuple[ArrivedDeposit, OrderState]:
    """The deposit that is kept, with the facts of today, and how it stands."""
    return (
        ArrivedDeposit(
            id=kept.id,
            reference=kept.reference,
            amount=seen.amount,
            fee=seen.fee,
            tracking_reference=seen.tracking_reference or kept.tracking_reference,
            bank_reference=seen.bank_reference or kept.bank_reference,
            state=kept.state,
            arrived_at=kept.arrived_at,
        ),
        seen.state,
    )
