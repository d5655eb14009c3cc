"""The audit log, as operators read and verify it."""

from __future__ import annotations

from uuid import UUID

from domain.audit import FaultKind, Role
from monay.wallet.v1 import access_pb2
from monay.wallet.v1 import operations_service_pb2 as pb
from server.api import pages
from server.api.access import Call
from server.api.convert import instant, timestamp
from storage import audit, audit_chain
from storage.audit import AuditRecord, Filters
from storage.database import Engine, reading

_TOKEN_USES = {
    Role.CONSUMER: access_pb2.TOKEN_USE_CONSUMER,
    Role.SERVICE: access_pb2.TOKEN_USE_SERVICE,
    Role.OPERATOR: access_pb2.TOKEN_USE_OPERATOR,
    Role.WORKER: access_pb2.TOKEN_USE_UNSPECIFIED,
}

_FAULTS = {
    FaultKind.ALTERED: pb.AUDIT_FAULT_KIND_ALTERED,
    FaultKind.MISSING: pb.AUDIT_FAULT_KIND_MISSING,
    FaultKind.REORDERED: pb.AUDIT_FAULT_KIND_REORDERED,
}


class Audit:
    """ListAudit, VerifyAudit."""

    def __init__(self, *, engine: Engine) -> None:
        self._engine = engine

    async def list_audit(self, request: pb.ListAuditRequest, _call: Call) -> pb.ListAuditResponse:
        bound_to = pages.binding(request, request.consumer_id)
        async with reading(self._engine) as tx:
            page = await audit.page(
                tx,
                _filters(request),
                before=pages.id_behind(request, bound_to),
                size=pages.size(request.page_size),
            )
        token = pages.encode(str(page.next), bound_to) if page.next is not None else ""
        return pb.ListAuditResponse(records=[_record(record) for record in page.records], next_page_token=token)

    async def verify_audit(self, request: pb.VerifyAuditRequest, _call: Call) -> pb.VerifyAuditResponse:
        async with reading(self._engine) as tx:
            head = await audit_chain.head(tx)
            found = await audit_chain.verify(
                tx, head, first=request.first_sequence or 1, last=request.last_sequence or head.sequence
            )
        faults = [pb.AuditFault(sequence=one.sequence, kind=_FAULTS[one.kind]) for one in found.faults]
        return pb.VerifyAuditResponse(
            intact=not found.faults,
            records_checked=found.checked,
            faults=faults,
            chained_sequence=head.sequence,
            head_hash=head.hash.hex() if head.sequence else "",
        )


def _filters(request: pb.ListAuditRequest) -> Filters:
    has = request.HasField
    return Filters(
        consumer_id=UUID(request.consumer_id) if request.consumer_id else None,
        actor=request.actor,
        action=request.action,
        subject=request.subject_id,
        start=instant(request.start_time, field="start_time") if has("start_time") else None,
        end=instant(request.end_time, field="end_time") if has("end_time") else None,
    )


def _record(record: AuditRecord) -> pb.AuditRecord:
    return pb.AuditRecord(
        sequence=record.sequence or 0,
        create_time=timestamp(record.created_at),
        action=record.action,
        actor=record.actor,
        token_use=_TOKEN_USES[record.role],
        peer=record.peer,
        request_id=record.request_id,
        consumer_id=str(record.consumer_id or ""),
        subject_id=record.subject,
        facts=record.facts,
        hash=record.hash.hex() if record.hash is not None else "",
    )
