"""Payment requests: asked for, paid, declined or cancelled, and listed by both sides."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.clock import Clock
from domain.money import Asset, Money
from domain.payment_requests import PaymentRequest, PaymentRequestState, Side
from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1 import transfer_pb2 as pb
from server.api import pages
from server.api.access import Call
from server.api.convert import instant, money, timestamp
from server.api.transactions import balance_after, transaction, unrecorded
from server.api.transfers import recipient
from server.services.payment_requests import AskOrder, Paid, PaymentRequestService, PayOrder
from storage import payment_requests, wallets
from storage.consumers import Directory
from storage.database import Engine, reading

_STATES = {
    PaymentRequestState.OPEN: pb.PAYMENT_REQUEST_STATE_OPEN,
    PaymentRequestState.PAID: pb.PAYMENT_REQUEST_STATE_PAID,
    PaymentRequestState.DECLINED: pb.PAYMENT_REQUEST_STATE_DECLINED,
    PaymentRequestState.EXPIRED: pb.PAYMENT_REQUEST_STATE_EXPIRED,
    PaymentRequestState.CANCELLED: pb.PAYMENT_REQUEST_STATE_CANCELLED,
}
_SIDES = {
    transaction_pb2.DIRECTION_UNSPECIFIED: tuple(Side),
    transaction_pb2.DIRECTION_IN: (Side.PAYER,),
    transaction_pb2.DIRECTION_OUT: (Side.PAYEE,),
}


class PaymentRequests:
    """CreatePaymentRequest, PayPaymentRequest, DeclinePaymentRequest, ListPaymentRequests."""

    def __init__(self, *, engine: Engine, directory: Directory, service: PaymentRequestService, clock: Clock) -> None:
        self._engine = engine
        self._directory = directory
        self._service = service
        self._clock = clock

    async def create_payment_request(
        self, request: pb.CreatePaymentRequestRequest, call: Call
    ) -> pb.CreatePaymentRequestResponse:
        expires = request.HasField("expire_time")
        order = AskOrder(
            payee=call.consumer_id,
            payer=recipient(request.payer, "payer"),
            amount=Money(Asset(request.amount.asset), request.amount.micros),
            memo=request.memo,
            expires_at=instant(request.expire_time, field="expire_time") if expires else None,
            caller=call.caller.name,
            request_id=request.request_id,
        )
        asked = await self._service.ask(order, deadline=call.deadline)
        shown = await self._shown(asked.payment_request)
        return pb.CreatePaymentRequestResponse(payment_request=shown, replayed=asked.replayed)

    async def pay_payment_request(
        self, request: pb.PayPaymentRequestRequest, call: Call
    ) -> pb.PayPaymentRequestResponse:
        order = PayOrder(
            payer=call.consumer_id,
            payment_request_id=UUID(request.payment_request_id),
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if not request.validate_only:
            return await self._paid(order, await self._service.pay(order, deadline=call.deadline))
        response = await self._paid(order, await self._service.preview(order))
        if not response.replayed:
            unrecorded(response.transaction, response.balance)
        return response

    async def decline_payment_request(
        self, request: pb.DeclinePaymentRequestRequest, call: Call
    ) -> pb.DeclinePaymentRequestResponse:
        closed = await self._service.close(call.consumer_id, UUID(request.payment_request_id))
        return pb.DeclinePaymentRequestResponse(payment_request=await self._shown(closed))

    async def list_payment_requests(
        self, request: pb.ListPaymentRequestsRequest, call: Call
    ) -> pb.ListPaymentRequestsResponse:
        bound_to = pages.binding(request, call.consumer_id)
        size = pages.size(request.page_size)
        async with reading(self._engine) as tx:
            await wallets.read(tx, call.consumer_id)
            found = await payment_requests.page(
                tx,
                call.consumer_id,
                sides=_SIDES[request.direction],
                states=[state for state, proto in _STATES.items() if proto in request.states],
                before=pages.id_behind(request, bound_to),
                limit=size + 1,
                now=self._clock.now(),
            )
        shown = await self._all_shown(found[:size])
        token = pages.encode(shown[-1].id, bound_to) if len(found) > size else ""
        return pb.ListPaymentRequestsResponse(payment_requests=shown, next_page_token=token)

    async def _paid(self, order: PayOrder, paid: Paid) -> pb.PayPaymentRequestResponse:
        done = paid.transferred
        shown = transaction(done.recorded, order.payer)
        return pb.PayPaymentRequestResponse(
            transaction=shown,
            fee=shown.fee,
            balance=balance_after(done.applied, done.recorded.transaction.asset),
            payment_request=await self._shown(paid.payment_request),
            replayed=done.applied.replayed,
        )

    async def _shown(self, payment_request: PaymentRequest) -> pb.PaymentRequest:
        return (await self._all_shown([payment_request]))[0]

    async def _all_shown(self, found: Sequence[PaymentRequest]) -> list[pb.PaymentRequest]:
        now = self._clock.now()
        async with reading(self._engine) as tx:
            handles = await self._directory.handles(tx, [one.payee for one in found])
        return [_proto(one, one.state_at(now), handles.get(one.payee, "")) for one in found]


def _proto(found: PaymentRequest, state: PaymentRequestState, payee_handle: str) -> pb.PaymentRequest:
    closed_at = found.expires_at if state is PaymentRequestState.EXPIRED else found.closed_at
    return pb.PaymentRequest(
        id=str(found.id),
        payee_id=str(found.payee),
        payer_id=str(found.payer),
        payee_handle=payee_handle,
        amount=money(found.amount),
        memo=found.memo,
        state=_STATES[state],
        transaction_id=str(found.transaction_id or ""),
        create_time=timestamp(found.created_at),
        expire_time=timestamp(found.expires_at),
        close_time=timestamp(closed_at) if closed_at is not None else None,
    )
