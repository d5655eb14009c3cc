"""Scheduled transfers: what a consumer wants to pay later, once or again and again, and what became of each run.

A run begins when a worker takes the occurrence off the schedule, and that is the point of no return: a schedule that is
cancelled afterwards has one run more. What a run pays is named by the schedule and the occurrence, so that however
often it is tried, it pays once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.commands import RecordKind, RecordTransition, Request
from domain.identity import ConsumerId, TransactionId, body_hash, request_key
from domain.money import Money

CALLER = "worker:schedules"


class ScheduleState(StrEnum):
    """Whether a scheduled transfer will run again."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


class RunState(StrEnum):
    """What became of a run."""

    BEGUN = "BEGUN"
    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledTransfer:
    """A scheduled transfer as it is kept, and what its last runs came to."""

    id: UUID
    consumer: ConsumerId
    recipient: ConsumerId
    amount: Money
    memo: str
    start_at: datetime
    recurrence: str
    created_at: datetime
    next_run_at: datetime | None
    state: ScheduleState = ScheduleState.ACTIVE
    run_count: int = 0
    last_run_at: datetime | None = None
    last_reason: str = ""
    """Why the last run was refused, if it was."""
    last_transaction_id: TransactionId | None = None
    """What the last run that was not refused paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has begun and is not finished."""

    id: UUID
    scheduled_transfer_id: UUID
    occurrence_at: datetime
    consumer: ConsumerId
    recipient: ConsumerId
    amount: Money
    memo: str

    def request(self) -> Request:
        """The name of the payment: the same however often, and by whomever, the run is made."""
        name = f"{self.scheduled_transfer_id}/{self.occurrence_at.isoformat()}"
        return Request(self.consumer, request_key(caller=CALLER, request_id=name), body_hash("Run", name), name)

    def completed(self, transaction_id: TransactionId, *, at: datetime) -> RecordTransition:
        """The end of the run, for the command that pays it."""
        return RecordTransition(
            kind=RecordKind.SCHEDULED_RUN,
            id=self.id,
            expected=frozenset({RunState.BEGUN}),
            state=RunState.COMPLETED,
            values={"transaction_id": transaction_id, "finished_at": at},
        )
