"""Scheduled transfers: making and cancelling them. Workers run them (`server/workers/schedules.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.commands import Command, Request
from domain.errors import (
    ScheduledTransferCompleted,
    ScheduledTransferNotFound,
    ScheduleInvalid,
    SelfTransfer,
    WalletError,
)
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Outcome, Refused
from domain.money import Money
from domain.scheduled_transfers import ScheduledTransfer, ScheduleState
from server.ledger_writer import LedgerWriter
from server.services.recipients import Recipient, Recipients
from server.services.recurrences import Recurrence
from storage import scheduled_transfers
from storage.database import Engine, reading, writing


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOrder:
    """What a caller asks for. Without a recurrence it runs once."""

    consumer: ConsumerId
    recipient: Recipient
    amount: Money
    memo: str
    start_at: datetime
    recurrence: str
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The scheduled transfer, made now or (`replayed`) by an earlier call with the same request id."""

    scheduled_transfer: ScheduledTransfer
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """The order as one command, and what it makes unless it is doomed."""

    command: Command
    key: UUID
    scheduled: ScheduledTransfer | None = None


class ScheduledTransferService:
    """Makes scheduled transfers and cancels them."""

    def __init__(
        self, *, engine: Engine, writer: LedgerWriter, recipients: Recipients, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._recipients = recipients
        self._clock = clock
        self._entropy = entropy

    async def schedule(self, order: ScheduleOrder, *, deadline: float) -> Scheduled:
        """Put it on the schedule, or raise why not.

        Nothing moves, but it is asked for under a request id and refused to frozen wallets, so it goes through the
        ledger's door like a transfer.
        """
        plan = await self._plan(order)
        return await self._answer(order, plan, await self._writer.submit(plan.command, deadline=deadline))

    async def preview(self, order: ScheduleOrder) -> Scheduled:
        """What `schedule` would answer now; nothing is written, not even the request id (money rule 25)."""
        plan = await self._plan(order)
        return await self._answer(order, plan, await self._writer.preview(plan.command))

    async def cancel(self, consumer: ConsumerId, scheduled_transfer_id: UUID) -> ScheduledTransfer:
        """Stop it. A run that has begun is finished; none follows."""
        async with writing(self._engine) as tx:
            found = await scheduled_transfers.find(tx, scheduled_transfer_id)
            if found is None or found.consumer != consumer:
                raise ScheduledTransferNotFound()
            await scheduled_transfers.cancel(tx, scheduled_transfer_id)
            found = await scheduled_transfers.find(tx, scheduled_transfer_id)
        assert found is not None, "scheduled transfers are never deleted"
        if found.state is ScheduleState.COMPLETED:
            raise ScheduledTransferCompleted()
        return found

    async def _plan(self, order: ScheduleOrder) -> _Plan:
        """The order as one command. A refusal found on the way travels with it (money rule 22)."""
        request = self._request(order)
        try:
            scheduled = await self._scheduled(order)
        except WalletError as refusal:
            return _Plan(Command(request=request, sender=order.consumer, doom=refusal), request.key)
        record = scheduled_transfers.new_record(scheduled, request_key=request.key)
        return _Plan(Command(request=request, sender=order.consumer, new_records=(record,)), request.key, scheduled)

    def _request(self, order: ScheduleOrder) -> Request:
        to, amount = order.recipient, order.amount
        when = (order.start_at.isoformat(), order.recurrence)
        said = (to.by, self._recipients.fingerprint(to), amount.asset, amount.micros, order.memo, *when)
        key = request_key(caller=order.caller, request_id=order.request_id)
        return Request(order.consumer, key, body_hash("ScheduleTransfer", *said), order.request_id)

    async def _scheduled(self, order: ScheduleOrder) -> ScheduledTransfer:
        """What is to be made; raises why it cannot be. The recipient is fixed now, whoever has the handle later."""
        now = self._clock.now()
        if order.start_at <= now:
            raise ScheduleInvalid("start_in_past")
        start_at = order.start_at.replace(microsecond=0)  # rules know no parts of seconds
        Recurrence.checked(order.recurrence, start=start_at)
        recipient = await self._recipients.find_open(order.recipient)
        if recipient == order.consumer:
            raise SelfTransfer(order.recipient.field)
        return ScheduledTransfer(
            id=self._entropy.uuid7(),
            consumer=order.consumer,
            recipient=recipient,
            amount=order.amount,
            memo=order.memo,
            start_at=start_at,
            recurrence=order.recurrence,
            created_at=now,
            next_run_at=start_at,
        )

    async def _answer(self, order: ScheduleOrder, plan: _Plan, outcome: Outcome) -> Scheduled:
        if isinstance(outcome, Refused):
            raise outcome.error
        if plan.scheduled is not None and not outcome.replayed:
            return Scheduled(plan.scheduled, replayed=False)
        async with reading(self._engine) as tx:
            found = await scheduled_transfers.made_by(tx, order.consumer, plan.key)
        # After a lost commit the same command finds itself: that is no replay.
        return Scheduled(found, replayed=plan.scheduled is None or found.id != plan.scheduled.id)
