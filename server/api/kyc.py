"""KYC cases: opened by consumers, listed and decided by operators."""

from __future__ import annotations

from uuid import UUID

from domain.kyc import CaseState, Decision, EvidenceReference, KycCase
from domain.limits import Evidence
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1 import operations_service_pb2 as operations
from server.api import pages
from server.api.access import Call
from server.api.convert import timestamp
from server.services.kyc import KycService
from storage import kyc_cases
from storage.database import Engine, reading

EVIDENCE = {
    Evidence.IDENTITY_DOCUMENT: pb.KYC_EVIDENCE_KIND_IDENTITY_DOCUMENT,
    Evidence.SELFIE: pb.KYC_EVIDENCE_KIND_SELFIE,
    Evidence.PROOF_OF_ADDRESS: pb.KYC_EVIDENCE_KIND_PROOF_OF_ADDRESS,
    Evidence.SOURCE_OF_FUNDS: pb.KYC_EVIDENCE_KIND_SOURCE_OF_FUNDS,
}
_KINDS = {proto: kind for kind, proto in EVIDENCE.items()}

_STATES = {
    CaseState.PENDING: pb.KYC_CASE_STATE_PENDING,
    CaseState.APPROVED: pb.KYC_CASE_STATE_APPROVED,
    CaseState.REJECTED: pb.KYC_CASE_STATE_REJECTED,
}
_ASKED = {proto: state for state, proto in _STATES.items()}

_DECISIONS = {
    operations.KYC_DECISION_APPROVE: CaseState.APPROVED,
    operations.KYC_DECISION_REJECT: CaseState.REJECTED,
}


class Kyc:
    """UpgradeKyc, ListKycCases, DecideKyc."""

    def __init__(self, *, engine: Engine, kyc: KycService) -> None:
        self._engine = engine
        self._kyc = kyc

    async def upgrade_kyc(self, request: pb.UpgradeKycRequest, call: Call) -> pb.UpgradeKycResponse:
        evidence = [EvidenceReference(_KINDS[one.kind], one.reference) for one in request.evidence]
        climb = await self._kyc.upgrade(call.consumer_id, kyc_level=request.kyc_level, evidence=evidence)
        return pb.UpgradeKycResponse(kyc_case=kyc_case(climb.case), kyc_level=climb.kyc_level)

    async def list_kyc_cases(
        self, request: operations.ListKycCasesRequest, _call: Call
    ) -> operations.ListKycCasesResponse:
        bound_to = pages.binding(request, request.consumer_id)
        size = pages.size(request.page_size)
        async with reading(self._engine) as tx:
            found = await kyc_cases.page(
                tx,
                state=_ASKED.get(request.state, CaseState.PENDING),
                consumer_id=UUID(request.consumer_id) if request.consumer_id else None,
                after=pages.id_behind(request, bound_to),
                limit=size + 1,
            )
        shown = found[:size]
        token = pages.encode(str(shown[-1].id), bound_to) if len(found) > size else ""
        return operations.ListKycCasesResponse(kyc_cases=[kyc_case(case) for case in shown], next_page_token=token)

    async def decide_kyc(self, request: operations.DecideKycRequest, call: Call) -> operations.DecideKycResponse:
        decision = Decision(_DECISIONS[request.decision], request.reason)
        case = await self._kyc.decide(UUID(request.kyc_case_id), decision, actor=call.actor)
        return operations.DecideKycResponse(kyc_case=kyc_case(case))


def kyc_case(case: KycCase) -> pb.KycCase:
    """A case, as its consumer and operators see it."""
    return pb.KycCase(
        id=str(case.id),
        consumer_id=str(case.consumer_id),
        kyc_level=case.kyc_level,
        state=_STATES[case.state],
        evidence=[pb.KycEvidence(kind=EVIDENCE[one.kind], reference=one.reference) for one in case.evidence],
        # Why it was approved is the operator's own business.
        reason=case.reason if case.state is CaseState.REJECTED else "",
        create_time=timestamp(case.created_at),
        decide_time=timestamp(case.decided_at) if case.decided_at is not None else None,
    )
