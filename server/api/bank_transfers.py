"""Bank transfers as operators see them, and what a person says of a payout that nobody can learn the outcome of."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.clock import Clock
from domain.errors import PageTokenInvalid
from monay.wallet.v1 import operations_service_pb2 as pb
from monay.wallet.v1 import transaction_pb2
from server.api import pages
from server.api.access import Call
from server.api.convert import money, timestamp
from server.services.payouts import PayoutService
from storage import bank_transfers
from storage.bank_transfers import BankTransfer, BankTransferState, Filters, Place
from storage.database import Engine, reading

_STATES = {state: pb.BankTransferState.Value(f"BANK_TRANSFER_STATE_{state}") for state in BankTransferState}


class BankTransfers:
    """ListBankTransfers, ResolvePayout."""

    def __init__(self, *, engine: Engine, payouts: PayoutService, clock: Clock) -> None:
        self._engine = engine
        self._payouts = payouts
        self._clock = clock

    async def list_bank_transfers(
        self, request: pb.ListBankTransfersRequest, _call: Call
    ) -> pb.ListBankTransfersResponse:
        bound_to, size = pages.binding(request, ""), pages.size(request.page_size)
        before = _place_read(pages.decode(request.page_token, bound_to)) if request.page_token else None
        states = frozenset(state for state, proto in _STATES.items() if proto in request.states)
        filters = Filters(states=states, needs_operator=request.needs_operator)
        async with reading(self._engine) as tx:
            found = await bank_transfers.page(tx, filters, now=self._clock.now(), before=before, limit=size + 1)
        shown = found[:size]
        token = pages.encode(_place_said(shown[-1]), bound_to) if len(found) > size else ""
        return pb.ListBankTransfersResponse(bank_transfers=[_proto(one) for one in shown], next_page_token=token)

    async def resolve_payout(self, request: pb.ResolvePayoutRequest, call: Call) -> pb.ResolvePayoutResponse:
        payout_id = UUID(request.payout_id)
        reference = request.provider_reference or None
        await self._payouts.resolve(payout_id, reference=reference, reason=request.reason, actor=call.actor)
        async with reading(self._engine) as tx:
            payout = await bank_transfers.payout(tx, payout_id, now=self._clock.now())
        return pb.ResolvePayoutResponse(payout=_proto(payout))


def _proto(one: BankTransfer) -> pb.BankTransfer:
    return pb.BankTransfer(
        id=str(one.id),
        direction=transaction_pb2.DIRECTION_OUT if one.outgoing else transaction_pb2.DIRECTION_IN,
        state=_STATES[one.state],
        amount=money(one.amount),
        provider_fee=money(one.fee),
        provider_reference=one.provider_reference,
        tracking_reference=one.tracking_reference,
        consumer_id=str(one.consumer_id or ""),
        bank_account_id=str(one.bank_account_id or ""),
        transaction_id=str(one.transaction_id or ""),
        reason=one.reason,
        needs_operator=one.needs_operator,
        create_time=timestamp(one.created_at),
        close_time=timestamp(one.closed_at) if one.closed_at is not None else None,
    )


def _place_said(one: BankTransfer) -> list[str]:
    return [one.created_at.isoformat(), str(one.id)]


def _place_read(said: Any) -> Place:
    try:
        created_at, id = said
        return Place(datetime.fromisoformat(created_at), UUID(id))
    except (AttributeError, TypeError, ValueError):
        raise PageTokenInvalid() from None
