"""Swaps: one asset for another, at a quoted price."""

from __future__ import annotations

from uuid import UUID

from domain.money import Asset, Money
from domain.swaps import SwapQuote
from monay.wallet.v1 import transfer_pb2 as pb
from server.api.access import Call
from server.api.convert import money, timestamp
from server.api.transactions import balance_after, transaction, unrecorded
from server.services.swaps import SwapOrder, Swapped, SwapService


class Swaps:
    """QuoteSwap, Swap."""

    def __init__(self, service: SwapService) -> None:
        self._service = service

    async def quote_swap(self, request: pb.QuoteSwapRequest, call: Call) -> pb.QuoteSwapResponse:
        sell = Money(Asset(request.sell.asset), request.sell.micros)
        named = await self._service.quote(call.consumer_id, sell, Asset(request.buy_asset))
        return pb.QuoteSwapResponse(quote=_quote(named))

    async def swap(self, request: pb.SwapRequest, call: Call) -> pb.SwapResponse:
        order = SwapOrder(
            consumer=call.consumer_id,
            quote_id=UUID(request.quote_id),
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if request.validate_only:
            response = _response(await self._service.preview(order), order)
            if not response.replayed:
                for balance in response.balances:
                    unrecorded(response.transaction, balance)
            return response
        return _response(await self._service.swap(order, deadline=call.deadline), order)


def _response(done: Swapped, order: SwapOrder) -> pb.SwapResponse:
    """What was done, or would be."""
    quote = done.quote
    return pb.SwapResponse(
        transaction=transaction(done.recorded, order.consumer),
        quote=_quote(quote),
        balances=[balance_after(done.applied, quote.sell.asset), balance_after(done.bought, quote.buy.asset)],
        replayed=done.applied.replayed,
    )


def _quote(quote: SwapQuote) -> pb.SwapQuote:
    return pb.SwapQuote(
        id=str(quote.id),
        sell=money(quote.sell),
        buy=money(quote.buy),
        rate_micros=quote.rate_micros,
        spread=money(quote.spread),
        source=quote.source,
        create_time=timestamp(quote.created_at),
        expire_time=timestamp(quote.expires_at),
    )
