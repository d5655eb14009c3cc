"""Refunds: a consumer gives back a transfer that they received."""

from __future__ import annotations

from uuid import UUID

from domain.money import Asset, Money
from monay.wallet.v1.transfer_pb2 import RefundTransferRequest, RefundTransferResponse
from server.api.access import Call
from server.api.transactions import balance_after, transaction, unrecorded
from server.services.refunds import RefundOrder, RefundService
from server.services.transfers import Transferred


class Refunds:
    """RefundTransfer."""

    def __init__(self, service: RefundService) -> None:
        self._service = service

    async def refund_transfer(self, request: RefundTransferRequest, call: Call) -> RefundTransferResponse:
        amount = request.amount
        order = RefundOrder(
            refunder=call.consumer_id,
            transaction_id=UUID(request.transaction_id),
            amount=Money(Asset(amount.asset), amount.micros) if request.HasField("amount") else None,
            memo=request.memo,
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if not request.validate_only:
            return _response(order, await self._service.refund(order, deadline=call.deadline))
        response = _response(order, await self._service.preview(order))
        if not response.replayed:
            unrecorded(response.transaction, response.balance)
        return response


def _response(order: RefundOrder, done: Transferred) -> RefundTransferResponse:
    return RefundTransferResponse(
        transaction=transaction(done.recorded, order.refunder),
        balance=balance_after(done.applied, done.recorded.transaction.asset),
        replayed=done.applied.replayed,
    )
