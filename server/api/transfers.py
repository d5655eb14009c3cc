"""Transfers: a consumer pays another one."""

from __future__ import annotations

from domain.identity import ConsumerId
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
        order = order_of(request, sender=call.consumer_id, caller=call.caller.name)
        if request.validate_only:
            return response(order, await self._service.preview(order), only_check=True)
        return response(order, await self._service.transfer(order, deadline=call.deadline))


def recipient(proto: RecipientMessage, field: str = "recipient") -> Recipient:
    """A recipient by whatever was sent, and where in the request it stood."""
    by = By(proto.WhichOneof("by") or "")
    return Recipient(by, getattr(proto, by), field)


def order_of(request: TransferRequest, *, sender: ConsumerId, caller: str) -> TransferOrder:
    """What the request asks for."""
    return TransferOrder(
        sender=sender,
        recipient=recipient(request.recipient),
        amount=Money(Asset(request.amount.asset), request.amount.micros),
        memo=request.memo,
        caller=caller,
        request_id=request.request_id,
    )


def response(order: TransferOrder, done: Transferred, *, only_check: bool = False) -> TransferResponse:
    """What was done, or would be."""
    shown = transaction(done.recorded, order.sender)
    balance = balance_after(done.applied, order.amount.asset)
    answer = TransferResponse(transaction=shown, fee=shown.fee, balance=balance, replayed=done.applied.replayed)
    if only_check and not answer.replayed:
        unrecorded(answer.transaction, answer.balance)
    return answer
