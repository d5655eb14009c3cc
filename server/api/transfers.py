"""Transfers: a consumer pays another one."""

from __future__ import annotations

from domain.money import Asset, Money
from monay.wallet.v1.money_pb2 import Balance
from monay.wallet.v1.transfer_pb2 import Recipient as RecipientMessage
from monay.wallet.v1.transfer_pb2 import TransferRequest, TransferResponse
from server.api.access import Call
from server.api.convert import timestamp
from server.api.transactions import transaction
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
            return _previewed(_response(order, await self._service.preview(order)))
        return _response(order, await self._service.transfer(order, deadline=call.deadline))


def recipient(proto: RecipientMessage) -> Recipient:
    """A recipient by whatever was sent."""
    by = By(proto.WhichOneof("by") or "")
    return Recipient(by, getattr(proto, by))


def _response(order: TransferOrder, done: Transferred) -> TransferResponse:
    shown = transaction(done.recorded, order.sender)
    return TransferResponse(transaction=shown, fee=shown.fee, balance=_balance(done), replayed=done.applied.replayed)


def _balance(done: Transferred) -> Balance:
    """As the transfer left it. What is settling is not known here; GetBalance tells it."""
    applied = done.applied
    return Balance(
        asset=done.recorded.transaction.asset,
        available_micros=applied.available_after,
        held_micros=applied.held_after,
        version=applied.version_after,
        change_time=timestamp(applied.at),
    )


def _previewed(response: TransferResponse) -> TransferResponse:
    """An answer without the effect: nothing has an id or a time yet, and the balance names the version it rests on."""
    if not response.replayed:
        for field in ("id", "create_time", "effective_time", "settlements"):
            response.transaction.ClearField(field)
        response.balance.version -= 1
        response.balance.ClearField("change_time")
    return response
