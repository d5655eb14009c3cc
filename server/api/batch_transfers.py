"""Batch transfers: a consumer pays many others at once."""

from __future__ import annotations

from domain.money import Asset, Money
from monay.wallet.v1 import transfer_pb2 as pb
from server.api.access import Call
from server.api.convert import money
from server.api.transactions import balance_after, transaction, unrecorded
from server.api.transfers import recipient
from server.services.batch_transfers import BatchItem, BatchOrder, BatchTransferred, BatchTransferService


class BatchTransfers:
    """BatchTransfer."""

    def __init__(self, service: BatchTransferService) -> None:
        self._service = service

    async def batch_transfer(self, request: pb.BatchTransferRequest, call: Call) -> pb.BatchTransferResponse:
        order = BatchOrder(
            sender=call.consumer_id,
            asset=Asset(request.items[0].amount.asset),
            items=[_item(position, item) for position, item in enumerate(request.items)],
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if request.validate_only:
            return _previewed(_response(order, await self._service.preview(order)))
        return _response(order, await self._service.transfer(order, deadline=call.deadline))


def _item(position: int, proto: pb.BatchTransferItem) -> BatchItem:
    to = recipient(proto.recipient, field=f"items[{position}].recipient")
    return BatchItem(to, proto.amount.micros, proto.memo)


def _response(order: BatchOrder, done: BatchTransferred) -> pb.BatchTransferResponse:
    fee = sum(part.transaction.fee_micros for part in done.parts)
    return pb.BatchTransferResponse(
        batch_id=str(done.batch_id),
        transactions=[transaction(part, order.sender) for part in done.parts],
        total=money(order.total),
        fee=money(Money(order.asset, fee)),
        balance=balance_after(done.applied, order.asset),
        replayed=done.applied.replayed,
    )


def _previewed(response: pb.BatchTransferResponse) -> pb.BatchTransferResponse:
    """An answer without the effect. Each of its transactions would have raised the balance's version by one."""
    if not response.replayed:
        response.ClearField("batch_id")
        for shown in response.transactions:
            shown.ClearField("batch_id")
            unrecorded(shown, response.balance)
    return response
