"""KYC cases. Whoever changes one holds the lock of its consumer's wallet, so a case is decided once."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update

from domain.identity import ConsumerId
from domain.kyc import CaseState, Decision, EvidenceReference, KycCase
from domain.limits import Evidence
from storage.database import Tx
from storage.schema import kyc_cases

_k = kyc_cases.c


async def add(tx: Tx, case: KycCase) -> None:
    """Open a case."""
    await tx.execute(
        insert(kyc_cases).values(
            id=case.id,
            consumer_id=case.consumer_id,
            kyc_level=case.kyc_level,
            evidence=[asdict(one) for one in case.evidence],
            state=case.state,
            created_at=case.created_at,
        )
    )


async def find(tx: Tx, case_id: UUID) -> KycCase | None:
    """The case as it stands."""
    row = (await tx.execute(select(kyc_cases).where(_k.id == case_id))).first()
    return _case(row) if row else None


async def open_of(tx: Tx, consumer_id: UUID) -> KycCase | None:
    """The consumer's case that waits for its decision."""
    waiting = select(kyc_cases).where(_k.consumer_id == consumer_id, _k.state == CaseState.PENDING)
    row = (await tx.execute(waiting)).first()
    return _case(row) if row else None


async def approved_for(tx: Tx, consumer_id: UUID, kyc_level: int) -> KycCase | None:
    """The case that raised the consumer to a level."""
    approved = select(kyc_cases).where(
        _k.consumer_id == consumer_id, _k.kyc_level == kyc_level, _k.state == CaseState.APPROVED
    )
    row = (await tx.execute(approved)).first()
    return _case(row) if row else None


async def decide(tx: Tx, case_id: UUID, decision: Decision, *, decided_by: str, now: datetime) -> None:
    """Close a pending case."""
    await tx.execute(
        update(kyc_cases)
        .where(_k.id == case_id, _k.state == CaseState.PENDING)
        .values(state=decision.state, reason=decision.reason, decided_by=decided_by, decided_at=now)
    )


async def page(
    tx: Tx, *, state: CaseState, consumer_id: UUID | None = None, after: UUID | None = None, limit: int
) -> list[KycCase]:
    """Cases in one state, oldest first."""
    statement = select(kyc_cases).where(_k.state == state)
    if consumer_id is not None:
        statement = statement.where(_k.consumer_id == consumer_id)
    if after is not None:
        statement = statement.where(_k.id > after)
    return [_case(row) for row in await tx.execute(statement.order_by(_k.id).limit(limit))]


async def wipe(tx: Tx, consumer_id: UUID, *, decided_by: str, now: datetime) -> None:
    """Forget a consumer's evidence, and close the case that still waits."""
    await tx.execute(update(kyc_cases).where(_k.consumer_id == consumer_id).values(evidence=[], reason=""))
    waiting = (_k.consumer_id == consumer_id) & (_k.state == CaseState.PENDING)
    closed = update(kyc_cases).where(waiting)
    await tx.execute(closed.values(state=CaseState.REJECTED, decided_by=decided_by, decided_at=now))


def _case(row: Any) -> KycCase:
    return KycCase(
        id=row.id,
        consumer_id=ConsumerId(row.consumer_id),
        kyc_level=row.kyc_level,
        evidence=tuple(EvidenceReference(Evidence(one["kind"]), one["reference"]) for one in row.evidence),
        created_at=row.created_at,
        state=CaseState(row.state),
        reason=row.reason,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )
