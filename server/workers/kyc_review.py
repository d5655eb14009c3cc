"""The review of KYC cases by a verifier that needs more than one look.

The rpc that opens a case asks the verifier once. What it leaves open is asked about here again and again, until the
verifier or an operator has decided.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from domain.clock import Clock
from domain.errors import WalletError
from domain.kyc import CaseState, KycCase
from server.services.kyc import KycService
from storage import kyc_cases
from storage.database import Engine

log = structlog.get_logger()

PAGE = 100


class KycReview:
    """Goes over the open cases."""

    def __init__(self, *, engine: Engine, kyc: KycService, clock: Clock, interval_seconds: float = 1.0) -> None:
        self._engine = engine
        self._kyc = kyc
        self._clock = clock
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Review until `stop` is set."""
        while not stop.is_set():
            await self.step()
            await self._clock.sleep(self._interval_seconds)

    async def step(self) -> int:
        """One look at every open case; returns how many were decided."""
        decided, after = 0, None
        while page := await self._page(after):
            for case in page:
                decided += await self._review(case)
            after = page[-1].id
        return decided

    async def _page(self, after: UUID | None) -> list[KycCase]:
        async with self._engine.connect() as tx:
            return await kyc_cases.page(tx, state=CaseState.PENDING, after=after, limit=PAGE)

    async def _review(self, case: KycCase) -> bool:
        try:
            reviewed = await self._kyc.review(case)
        except WalletError as refusal:
            # Its wallet is not where it was when the case was opened: that is for a person to look at.
            log.warning("kyc.review_refused", kyc_case_id=str(case.id), reason=refusal.reason)
            return False
        return reviewed.state is not CaseState.PENDING
