"""Deposits as they were announced: the instructions a consumer was given, so that the same request gets the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from domain.commands import NewRecord, RecordKind
from domain.identity import ConsumerId
from domain.money import Asset, Money
from domain.routing import RouteDecision, decision_facts, stored_decision
from storage.database import Tx
from storage.schema import deposits

_d = deposits.c


@dataclass(frozen=True, slots=True)
class Deposit:
    """How a consumer's money is to come in, and why that way. Zero micros: nobody said how much."""

    id: UUID
    consumer_id: ConsumerId
    amount: Money
    route: RouteDecision
    instructions: dict[str, Any]


def new_record(deposit: Deposit, *, request_key: UUID, now: datetime) -> NewRecord:
    """A deposit for the command that announces it."""
    values = {
        "consumer_id": deposit.consumer_id,
        "request_key": request_key,
        "asset": deposit.amount.asset,
        "micros": deposit.amount.micros,
        "route": decision_facts(deposit.route),
        "instructions": deposit.instructions,
        "state": "ANNOUNCED",
        "created_at": now,
    }
    return NewRecord(kind=RecordKind.DEPOSIT, id=deposit.id, values=values)


async def announced_by(tx: Tx, consumer_id: UUID, request_key: UUID) -> Deposit:
    """The deposit that the request with that key announced."""
    wanted = select(deposits).where(_d.consumer_id == consumer_id, _d.request_key == request_key)
    row = (await tx.execute(wanted)).one()
    amount = Money(Asset(row.asset), row.micros)
    return Deposit(row.id, ConsumerId(row.consumer_id), amount, stored_decision(row.route), row.instructions)
