"""Scheduled transfers: made, listed with what became of their runs, and cancelled."""

from __future__ import annotations

from uuid import UUID

from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.scheduled_transfers import ScheduledTransfer, ScheduleState
from monay.wallet.v1 import error_reason_pb2
from monay.wallet.v1 import transfer_pb2 as pb
from server.api import pages
from server.api.access import Call
from server.api.convert import instant, money, timestamp
from server.api.errors import reason_value
from server.api.transfers import recipient
from server.services.scheduled_transfers import ScheduledTransferService, ScheduleOrder
from storage import scheduled_transfers, wallets
from storage.database import Engine, reading

_STATES = {
    ScheduleState.ACTIVE: pb.SCHEDULED_TRANSFER_STATE_ACTIVE,
    ScheduleState.COMPLETED: pb.SCHEDULED_TRANSFER_STATE_COMPLETED,
    ScheduleState.CANCELLED: pb.SCHEDULED_TRANSFER_STATE_CANCELLED,
}


class ScheduledTransfers:
    """ScheduleTransfer, ListScheduledTransfers, CancelScheduledTransfer."""

    def __init__(self, *, engine: Engine, service: ScheduledTransferService, fees: FeeSchedule) -> None:
        self._engine = engine
        self._service = service
        self._fees = fees

    async def schedule_transfer(self, request: pb.ScheduleTransferRequest, call: Call) -> pb.ScheduleTransferResponse:
        order = ScheduleOrder(
            consumer=call.consumer_id,
            recipient=recipient(request.recipient),
            amount=Money(Asset(request.amount.asset), request.amount.micros),
            memo=request.memo,
            start_at=instant(request.start_time, field="start_time"),
            recurrence=request.recurrence,
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if request.validate_only:
            made = await self._service.preview(order)
        else:
            made = await self._service.schedule(order, deadline=call.deadline)
        shown = _proto(made.scheduled_transfer)
        if request.validate_only and not made.replayed:
            shown.ClearField("id")
            shown.ClearField("create_time")
        fee = money(self._fees.transfer_fee(order.amount))
        return pb.ScheduleTransferResponse(scheduled_transfer=shown, fee=fee, replayed=made.replayed)

    async def list_scheduled_transfers(
        self, request: pb.ListScheduledTransfersRequest, call: Call
    ) -> pb.ListScheduledTransfersResponse:
        bound_to = pages.binding(request, call.consumer_id)
        size = pages.size(request.page_size)
        async with reading(self._engine) as tx:
            await wallets.read(tx, call.consumer_id)
            found = await scheduled_transfers.page(
                tx,
                call.consumer_id,
                states=[state for state, proto in _STATES.items() if proto in request.states],
                before=pages.id_behind(request, bound_to),
                limit=size + 1,
            )
        shown = [_proto(scheduled) for scheduled in found[:size]]
        token = pages.encode(shown[-1].id, bound_to) if len(found) > size else ""
        return pb.ListScheduledTransfersResponse(scheduled_transfers=shown, next_page_token=token)

    async def cancel_scheduled_transfer(
        self, request: pb.CancelScheduledTransferRequest, call: Call
    ) -> pb.CancelScheduledTransferResponse:
        cancelled = await self._service.cancel(call.consumer_id, UUID(request.scheduled_transfer_id))
        return pb.CancelScheduledTransferResponse(scheduled_transfer=_proto(cancelled))


def _proto(scheduled: ScheduledTransfer) -> pb.ScheduledTransfer:
    reason = scheduled.last_reason
    next_run, last_run = scheduled.next_run_at, scheduled.last_run_at
    return pb.ScheduledTransfer(
        id=str(scheduled.id),
        # Whom it pays, and not by what name they were found: that may be another's by now.
        recipient=pb.Recipient(consumer_id=str(scheduled.recipient)),
        amount=money(scheduled.amount),
        memo=scheduled.memo,
        state=_STATES[scheduled.state],
        start_time=timestamp(scheduled.start_at),
        recurrence=scheduled.recurrence,
        next_run_time=timestamp(next_run) if next_run is not None else None,
        last_run_time=timestamp(last_run) if last_run is not None else None,
        last_transaction_id=str(scheduled.last_transaction_id or ""),
        last_error=reason_value(reason) if reason else error_reason_pb2.ERROR_REASON_UNSPECIFIED,
        run_count=scheduled.run_count,
        create_time=timestamp(scheduled.created_at),
    )
