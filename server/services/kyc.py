"""KYC: a consumer asks to be raised by one level, and a verifier or an operator decides.

Whatever changes a case or a level does so under the lock of the wallet, so that a case is decided once, and the next
transfer is judged by the level that holds then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.audit import Actor, Role
from domain.clock import Clock, Entropy
from domain.errors import KycCaseDecided, KycCaseNotFound, StateConflict
from domain.identity import ConsumerId
from domain.kyc import CaseState, Decision, EvidenceReference, KycCase, KycVerifier, check_step
from server.services.acts import Act, Acts
from storage import kyc_cases, wallets
from storage.database import Engine, Tx, reading, writing


@dataclass(frozen=True, slots=True)
class Climb:
    """A case as it stands, and the level that holds now."""

    case: KycCase
    kyc_level: int


class KycService:
    """Opens cases and decides them."""

    def __init__(self, *, engine: Engine, acts: Acts, verifier: KycVerifier, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._acts = acts
        self._verifier = verifier
        self._clock = clock
        self._entropy = entropy

    async def upgrade(self, consumer: ConsumerId, *, kyc_level: int, evidence: Sequence[EvidenceReference]) -> Climb:
        """Open a case, or find the one that the same wish opened before."""
        async with writing(self._engine) as tx:
            case = await self._opened(tx, consumer, kyc_level, evidence)
        if case.state is CaseState.PENDING:
            case = await self.review(case)
        async with reading(self._engine) as tx:
            return Climb(case, (await wallets.read(tx, consumer)).kyc_level)

    async def review(self, case: KycCase) -> KycCase:
        """Let the verifier look at a pending case; what it leaves open stays open."""
        decision = await self._verifier.judge(case)
        if decision is None:
            return case
        try:
            return await self.decide(case.id, decision, actor=Actor(self._verifier.name, Role.WORKER))
        except KycCaseDecided:
            # An operator was faster, and said something else.
            async with reading(self._engine) as tx:
                return await kyc_cases.find(tx, case.id) or case

    async def decide(self, case_id: UUID, decision: Decision, *, actor: Actor) -> KycCase:
        """Approve or reject. The same decision again changes nothing."""
        async with self._acts.begin(actor) as act:
            case = await _find(act.tx, case_id)
            wallet = await wallets.lock(act.tx, case.consumer_id)
            case = await _find(act.tx, case_id)
            if case.state is decision.state:
                return case
            if case.state is not CaseState.PENDING:
                raise KycCaseDecided(case.state)
            if decision.state is CaseState.APPROVED:
                await _climb(act.tx, case, wallet.kyc_level)
            await _close(act, case, decision)
            return await _find(act.tx, case_id)

    async def _opened(
        self, tx: Tx, consumer: ConsumerId, kyc_level: int, evidence: Sequence[EvidenceReference]
    ) -> KycCase:
        wallet = await wallets.lock(tx, consumer)
        wallet.require_active()
        case = await kyc_cases.open_of(tx, consumer)
        if case is None and wallet.kyc_level == kyc_level:
            case = await kyc_cases.approved_for(tx, consumer, kyc_level)
        if case is not None and case.kyc_level == kyc_level:
            return case
        check_step(current=wallet.kyc_level, asked=kyc_level, evidence=[one.kind for one in evidence])
        case = KycCase(
            id=self._entropy.uuid7(),
            consumer_id=consumer,
            kyc_level=kyc_level,
            evidence=tuple(evidence),
            created_at=self._clock.now(),
        )
        await kyc_cases.add(tx, case)
        return case


async def _find(tx: Tx, case_id: UUID) -> KycCase:
    case = await kyc_cases.find(tx, case_id)
    if case is None:
        raise KycCaseNotFound()
    return case


async def _climb(tx: Tx, case: KycCase, current: int) -> None:
    """One level up, and never two."""
    if current != case.kyc_level - 1:
        raise StateConflict(f"level of {case.consumer_id}", str(case.kyc_level - 1), str(current))
    await wallets.set_level(tx, case.consumer_id, kyc_level=case.kyc_level)


async def _close(act: Act, case: KycCase, decision: Decision) -> None:
    await kyc_cases.decide(act.tx, case.id, decision, decided_by=act.actor.name, now=act.now)
    action = "kyc.approve" if decision.state is CaseState.APPROVED else "kyc.reject"
    await act.record(action, case.id, consumer_id=case.consumer_id, kyc_level=case.kyc_level, reason=decision.reason)
