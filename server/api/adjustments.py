"""Adjustments: proposed by one operator, approved by another."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from domain.adjustments import Adjustment, AdjustmentState
from domain.audit import Actor
from domain.clock import Clock
from domain.errors import ConsumerNotFound
from domain.identity import ItemId, is_consumer
from domain.money import Asset, Money
from domain.postings import Account, AccountKind, available, operator_account
from monay.wallet.v1 import operations_service_pb2 as pb
from server.api.access import Call
from server.api.convert import money, timestamp
from server.services.adjustments import AdjustmentService, Proposal

_STATES = {
    AdjustmentState.PROPOSED: pb.ADJUSTMENT_STATE_PROPOSED,
    AdjustmentState.APPROVED: pb.ADJUSTMENT_STATE_APPROVED,
    AdjustmentState.EXPIRED: pb.ADJUSTMENT_STATE_EXPIRED,
}


class Adjustments:
    """ProposeAdjustment, ApproveAdjustment."""

    def __init__(self, *, service: AdjustmentService, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def propose_adjustment(
        self, request: pb.ProposeAdjustmentRequest, call: Call
    ) -> pb.ProposeAdjustmentResponse:
        proposal = Proposal(
            # A name that Python keeps for itself.
            source=_account(getattr(request, "from")),
            target=_account(request.to),
            amount=Money(Asset(request.amount.asset), request.amount.micros),
            reason=request.reason,
            cancel_item_id=ItemId(UUID(request.cancel_item_id)) if request.cancel_item_id else None,
            actor=_actor(call, request.request_id),
        )
        adjusted = await self._service.propose(proposal, deadline=call.deadline, validate_only=request.validate_only)
        return pb.ProposeAdjustmentResponse(adjustment=self._proto(adjusted.adjustment), replayed=adjusted.replayed)

    async def approve_adjustment(
        self, request: pb.ApproveAdjustmentRequest, call: Call
    ) -> pb.ApproveAdjustmentResponse:
        adjusted = await self._service.approve(
            UUID(request.adjustment_id),
            actor=_actor(call, request.request_id),
            deadline=call.deadline,
            validate_only=request.validate_only,
        )
        return pb.ApproveAdjustmentResponse(adjustment=self._proto(adjusted.adjustment), replayed=adjusted.replayed)

    def _proto(self, adjustment: Adjustment) -> pb.Adjustment:
        proto = pb.Adjustment(
            id=str(adjustment.id),
            state=_STATES[adjustment.at(self._clock.now())],
            to=_shown(adjustment.target),
            amount=money(adjustment.amount),
            reason=adjustment.reason,
            cancel_item_id=str(adjustment.cancel_item_id or ""),
            proposed_by=adjustment.proposed_by,
            approved_by=adjustment.approved_by,
            transaction_id=str(adjustment.transaction_id or ""),
            create_time=timestamp(adjustment.created_at),
            expire_time=timestamp(adjustment.expires_at),
            approve_time=timestamp(adjustment.approved_at) if adjustment.approved_at is not None else None,
        )
        getattr(proto, "from").CopyFrom(_shown(adjustment.source))
        return proto


def _actor(call: Call, request_id: str) -> Actor:
    return replace(call.actor, request_id=request_id)


def _account(proto: pb.Account) -> Account:
    if proto.system:
        return operator_account(AccountKind(proto.system))
    consumer_id = UUID(proto.consumer_id)
    if not is_consumer(consumer_id):
        # The operator has fixed ids in the same column; its accounts are named by what they are for.
        raise ConsumerNotFound(consumer_id)
    return available(consumer_id)


def _shown(account: Account) -> pb.Account:
    if is_consumer(account.owner):
        return pb.Account(consumer_id=str(account.owner))
    return pb.Account(system=account.kind)
