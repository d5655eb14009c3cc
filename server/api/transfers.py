"""Transfers: a consumer pays another one."""

from __future__ import annotations

from domain.money import Asset, Money
from monay.wallet.v1.transfer_pb2 import Recipient as RecipientMessage
from monay.wallet.v1.transfer_pb2 import TransferRequest, TransferResponse
from server.api.access import Call
from server.api.transactions import balance_after, transaction, unrecorded
from server.services.recipients import By, Recipient
from server.services.transfers import TransferOrder, Transferred, TransferService


class Transfers:
    """Transfer."""

    def __init__(self, service: TransferService) -> None:
        self._service = service

    async def transfer(self, request: TransferRequest, call: Call) -> TransferResponse:
        order = TransferOrder(
            sender=call.consumer_id,
            recipient=recipient(request.recipient),
            amount=Money(Asset(request.amount.asset), request.amount.micros),
            memo=request.memo,
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if request.validate_only:
            response = _response(order, await self._service.preview(order))
            if not response.replayed:
                unrecorded(response.transaction, response.balance)
            return response
        return _response(order, await self._service.transfer(order, deadline=call.deadline))


def recipient(proto: RecipientMessage) -> Recipient:
    """A recipient by whatever was sent."""
    by = By(proto.WhichOneof("by") or "")
    return Recipient(by, getattr(proto, by))


def _response(order: TransferOrder, done: Transferred) -> TransferResponse:
    shown = transaction(done.recorded, order.sender)
    balance = balance_after(done.applied, order.amount.asset)
    return TransferResponse(transaction=shown, fee=shown.fee, balance=balance, replayed=done.applied.replayed)
