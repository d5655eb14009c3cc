"""Who decides KYC cases: operators in production, a machine in the sandbox.

Both judge from the case alone, so they may be asked by a process that answers calls. A verifier that asks an identity
provider belongs into the workers, which ask it again and again until it has an answer (`server/workers/kyc_review.py`).
"""

from __future__ import annotations

from datetime import timedelta

from domain.clock import Clock
from domain.kyc import CaseState, Decision, KycCase

MOMENT = timedelta(seconds=3)


class ManualReview:
    """Leaves every case to an operator."""

    name = "manual_review"

    async def judge(self, _case: KycCase) -> Decision | None:
        return None


class AutomaticReview:
    """Says yes at once, unless a reference says otherwise: so every ending can be tried in a sandbox.

    A reference that begins with `reject` is rejected, one that begins with `manual` is left to an operator, and one
    that begins with `later` is approved after a moment.
    """

    name = "automatic_review"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def judge(self, case: KycCase) -> Decision | None:
        said = {one.reference.lower().split("-")[0] for one in case.evidence}
        if "manual" in said or ("later" in said and self._clock.now() < case.created_at + MOMENT):
            return None
        if "reject" in said:
            return Decision(CaseState.REJECTED, "The sandbox rejects evidence whose reference begins with reject.")
        return Decision(CaseState.APPROVED, "approved by the sandbox")
