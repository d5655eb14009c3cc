"""KYC cases: a consumer asks to be raised by one level, with evidence, and somebody decides it, once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from domain.errors import KycEvidenceMissing, KycLevelNotAllowed
from domain.identity import ConsumerId
from domain.limits import HIGHEST_LEVEL, REQUIRED_EVIDENCE, Evidence


class CaseState(StrEnum):
    """Where a case stands."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class EvidenceReference:
    """One document or check, which the identity provider keeps; here is only its reference."""

    kind: Evidence
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KycCase:
    """A request to be raised to a level."""

    id: UUID
    consumer_id: ConsumerId
    kyc_level: int
    evidence: tuple[EvidenceReference, ...]
    created_at: datetime
    state: CaseState = CaseState.PENDING
    reason: str = ""
    decided_by: str = ""
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of a case. The consumer gets to read the reason of a rejection."""

    state: CaseState
    reason: str


class KycVerifier(Protocol):
    """Decides cases, or leaves them to an operator."""

    name: str

    async def judge(self, case: KycCase) -> Decision | None:
        """The decision, or None: not yet, or not by this verifier. Called outside of any database transaction."""
        ...


def check_step(*, current: int, asked: int, evidence: Collection[Evidence]) -> None:
    """Levels are climbed one at a time, each with its evidence; raises why not."""
    if asked != current + 1:
        raise KycLevelNotAllowed(asked, current + 1 if current < HIGHEST_LEVEL else None)
    missing = [kind for kind in REQUIRED_EVIDENCE[asked] if kind not in evidence]
    if missing:
        raise KycEvidenceMissing(" ".join(kind.upper() for kind in missing))
