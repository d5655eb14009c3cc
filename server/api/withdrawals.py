"""Withdrawals: money leaves the wallet system."""

from __future__ import annotations

from uuid import UUID

from domain.money import Asset, Money
from monay.wallet.v1 import transfer_pb2 as pb
from server.api.access import Call
from server.api.routes import speed
from server.api.transactions import balance_after, transaction, unrecorded
from server.services.withdrawals import WithdrawalOrder, WithdrawalService, Withdrawn


class Withdrawals:
    """Withdraw."""

    def __init__(self, service: WithdrawalService) -> None:
        self._service = service

    async def withdraw(self, request: pb.WithdrawRequest, call: Call) -> pb.WithdrawResponse:
        order = WithdrawalOrder(
            consumer=call.consumer_id,
            amount=Money(Asset(request.amount.asset), request.amount.micros),
            address=request.address or None,
            bank_account_id=UUID(request.bank_account_id) if request.bank_account_id else None,
            memo=request.memo,
            speed=speed(request.speed),
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if request.validate_only:
            response = _response(order, await self._service.preview(order, deadline=call.deadline))
            if not response.replayed:
                unrecorded(response.transaction, response.balance)
            return response
        return _response(order, await self._service.withdraw(order, deadline=call.deadline))


def _response(order: WithdrawalOrder, done: Withdrawn) -> pb.WithdrawResponse:
    """A withdrawal that became a transfer has no route: nothing leaves for it."""
    shown = transaction(done.recorded, order.consumer)
    return pb.WithdrawResponse(
        transaction=shown,
        fee=shown.fee,
        balance=balance_after(done.applied, order.amount.asset),
        route=shown.route if shown.HasField("route") else None,
        replayed=done.applied.replayed,
    )
