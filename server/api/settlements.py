"""Settlements as operators see them: what is not final, with every attempt, and another turn for what rests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from domain.clock import Clock
from domain.errors import PageTokenInvalid, ProviderNotFound
from domain.settlement import AttemptState, ItemState, Rail
from monay.wallet.v1 import operations_service_pb2 as pb
from monay.wallet.v1 import transaction_pb2
from server.api import pages
from server.api.access import Call
from server.api.convert import timestamp
from server.api.transactions import settlement
from server.services.retries import RetryService
from storage import provider_health, unsettled
from storage.database import Engine, reading
from storage.unsettled import AttemptRead, Filters, Place, UnsettledItem

_ATTEMPT_STATES = {
    AttemptState.SIGNED: pb.ATTEMPT_STATE_SIGNED,
    AttemptState.BROADCAST: pb.ATTEMPT_STATE_BROADCAST,
    AttemptState.CONFIRMED: pb.ATTEMPT_STATE_CONFIRMED,
    AttemptState.DEAD: pb.ATTEMPT_STATE_DEAD,
    AttemptState.FAILED: pb.ATTEMPT_STATE_FAILED,
}


class Settlements:
    """ListUnsettled, RetrySettlement."""

    def __init__(self, *, engine: Engine, retries: RetryService, clock: Clock) -> None:
        self._engine = engine
        self._retries = retries
        self._clock = clock

    async def list_unsettled(self, request: pb.ListUnsettledRequest, _call: Call) -> pb.ListUnsettledResponse:
        bound_to = pages.binding(request, "")
        size = pages.size(request.page_size)
        after = _place_read(pages.decode(request.page_token, bound_to)) if request.page_token else None
        filters = Filters(states=_states(request.states), provider=request.provider)
        async with reading(self._engine) as tx:
            known = {row.provider for row in await provider_health.read_all(tx)}
            if request.provider and request.provider not in known:
                raise ProviderNotFound(request.provider)
            found = await unsettled.page(tx, filters, after=after, limit=size + 1)
            count = await unsettled.count(tx, filters)
        shown = found[:size]
        token = pages.encode(_place_said(shown[-1]), bound_to) if len(found) > size else ""
        now = self._clock.now()
        return pb.ListUnsettledResponse(
            items=[_item(item, now) for item in shown], next_page_token=token, total_count=count
        )

    async def retry_settlement(self, request: pb.RetrySettlementRequest, call: Call) -> pb.RetrySettlementResponse:
        item_id = UUID(request.item_id)
        await self._retries.retry(item_id, reason=request.reason, actor=call.actor)
        async with reading(self._engine) as tx:
            item = await unsettled.find(tx, item_id)
        return pb.RetrySettlementResponse(item=_item(item, self._clock.now()))


def _item(item: UnsettledItem, now: datetime) -> pb.UnsettledItem:
    age = Duration()
    age.FromTimedelta(max(now - item.receipt.created_at, timedelta()))
    receipt = settlement(item.receipt)
    if item.receipt.state is ItemState.CLAIMED:
        # Consumers are told PENDING, for it may be given back; operators look for what a worker is busy with.
        receipt.state = transaction_pb2.SETTLEMENT_STATE_CLAIMED
    return pb.UnsettledItem(
        settlement=receipt,
        transaction_id=str(item.transaction_id or ""),
        from_holder_id=str(item.sender),
        to_holder_id=str(item.recipient),
        sender_sequence=item.sender_seq,
        age=age,
        attempts=[_attempt(attempt) for attempt in item.attempts],
    )


def _attempt(attempt: AttemptRead) -> pb.SettlementAttempt:
    on_chain = attempt.rail == Rail.TEMPO
    return pb.SettlementAttempt(
        id=str(attempt.id),
        provider=attempt.provider,
        state=_ATTEMPT_STATES[attempt.state],
        chain_transaction_hash=attempt.reference if on_chain else "",
        provider_reference="" if on_chain else attempt.reference,
        expire_time=timestamp(attempt.valid_before),
        reason=attempt.reason,
        create_time=timestamp(attempt.signed_at),
        submit_time=timestamp(attempt.broadcast_at) if attempt.broadcast_at is not None else None,
    )


def _states(asked: Any) -> frozenset[ItemState]:
    """Our names of the states asked for. One that no open item can have finds nothing."""
    names = {transaction_pb2.SettlementState.Name(state).removeprefix("SETTLEMENT_STATE_") for state in asked}
    return frozenset(ItemState(name) for name in names & set(ItemState)) or _nothing(asked)


def _nothing(asked: Any) -> frozenset[ItemState]:
    return frozenset({ItemState.CONFIRMED}) if asked else frozenset()


def _place_said(item: UnsettledItem) -> list[str]:
    return [item.receipt.created_at.isoformat(), str(item.receipt.item_id)]


def _place_read(said: Any) -> Place:
    try:
        created_at, item_id = said
        return Place(datetime.fromisoformat(created_at), UUID(item_id))
    except (AttributeError, TypeError, ValueError):
        raise PageTokenInvalid() from None
