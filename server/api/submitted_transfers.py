"""Submitted transfers: many independent ones in one message, each judged and answered as Transfer would."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import structlog

from domain.errors import ValidationFailed, WalletError
from monay.wallet.v1 import transfer_pb2 as pb
from monay.wallet.v1.consumer_wallet_service_pb2 import DESCRIPTOR
from server.api import validation
from server.api.access import Access, Call
from server.api.errors import api_error, internal_error, is_internal, reason_value
from server.api.transfers import order_of, response
from server.services.transfers import TransferOrder, Transferred, TransferService
from server.services.turns import in_turns

log = structlog.get_logger()

_TRANSFER = Access.declared(DESCRIPTOR.services_by_name["ConsumerWalletService"].methods_by_name["Transfer"])


class SubmittedTransfers:
    """SubmitTransfers."""

    def __init__(self, service: TransferService) -> None:
        self._service = service

    async def submit_transfers(self, request: pb.SubmitTransfersRequest, call: Call) -> pb.SubmitTransfersResponse:
        results: list[pb.SubmittedTransfer] = []
        # A check among them sees what stands before it in the message, and nothing of what stands behind it.
        for only_check, run in groupby(request.transfers, key=lambda transfer: transfer.validate_only):
            orders = [_order(transfer, call) async for transfer in in_turns(run)]
            done = await (self._check(orders) if only_check else self._submit(orders, call))
            pairs = in_turns(zip(orders, done, strict=True))
            results += [_result(order, one, call, only_check=only_check) async for order, one in pairs]
        return pb.SubmitTransfersResponse(results=results)

    async def _submit(self, orders: Sequence[TransferOrder | WalletError], call: Call) -> list[Transferred | Exception]:
        """All of them at once, so that they share commits; those that are refused already stay out."""
        sound = [order for order in orders if isinstance(order, TransferOrder)]
        done = iter(await self._service.submit(sound, deadline=call.deadline))
        return [next(done) if isinstance(order, TransferOrder) else order for order in orders]

    async def _check(self, orders: Sequence[TransferOrder | WalletError]) -> list[Transferred | Exception]:
        return [await self._check_one(order) for order in orders]

    async def _check_one(self, order: TransferOrder | WalletError) -> Transferred | Exception:
        try:
            return await self._service.preview(order) if isinstance(order, TransferOrder) else order
        except WalletError as refusal:
            return refusal


def _order(transfer: pb.TransferRequest, call: Call) -> TransferOrder | WalletError:
    """What the edge does before Transfer, for one of many: whose wallet it is, and whether it keeps the rules."""
    try:
        sender = _TRANSFER.wallet(call.caller, transfer)
        validation.check(transfer)
    except WalletError as refusal:
        return refusal
    assert sender is not None, "the rules admit nothing but identifiers"
    return order_of(transfer, sender=sender, caller=call.caller.name)


def _result(
    order: TransferOrder | WalletError, done: Transferred | Exception, call: Call, *, only_check: bool
) -> pb.SubmittedTransfer:
    if isinstance(done, Transferred) and isinstance(order, TransferOrder):
        return pb.SubmittedTransfer(transfer=response(order, done, only_check=only_check))
    assert isinstance(done, Exception), "what is not done has a reason"
    return pb.SubmittedTransfer(error=_error(done, call))


def _error(error: Exception, call: Call) -> pb.TransferError:
    """What Transfer would have said in its status."""
    if isinstance(error, WalletError) and not is_internal(error):
        told = api_error(error)
    else:
        log.error("submitted_transfer.failed", call=call.id, exc_info=error)
        told = internal_error()
    field = error.violations[0].field if isinstance(error, ValidationFailed) else ""
    return pb.TransferError(
        reason=reason_value(told.reason),
        code=told.code.value[0],
        message=told.message,
        metadata=told.metadata,
        field=field,
    )
