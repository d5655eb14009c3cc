"""What operators do to a person or a figure: freeze, unfreeze, erase, set the reference rate.

Their other levers are with the nouns they move: cases, providers, settlements, adjustments.
"""

from __future__ import annotations

from uuid import UUID

from monay.wallet.v1 import operations_service_pb2 as pb
from server.api.access import Call
from server.api.convert import consumer, instant, timestamp
from server.services.erasures import ErasureService
from server.services.freezes import FreezeService
from server.services.reference_rates import ReferenceRateService


class Operations:
    """FreezeConsumer, UnfreezeConsumer, ErasePersonalData, SetReferenceRate."""

    def __init__(
        self, *, freezes: FreezeService, erasures: ErasureService, rates: ReferenceRateService, tempo_chain_id: int
    ) -> None:
        self._freezes = freezes
        self._erasures = erasures
        self._rates = rates
        self._tempo_chain_id = tempo_chain_id

    async def freeze_consumer(self, request: pb.FreezeConsumerRequest, call: Call) -> pb.FreezeConsumerResponse:
        frozen = await self._freezes.set_frozen(
            UUID(request.consumer_id), frozen=True, reason=request.reason, actor=call.actor
        )
        return pb.FreezeConsumerResponse(consumer=consumer(frozen, tempo_chain_id=self._tempo_chain_id))

    async def unfreeze_consumer(self, request: pb.UnfreezeConsumerRequest, call: Call) -> pb.UnfreezeConsumerResponse:
        freed = await self._freezes.set_frozen(
            UUID(request.consumer_id), frozen=False, reason=request.reason, actor=call.actor
        )
        return pb.UnfreezeConsumerResponse(consumer=consumer(freed, tempo_chain_id=self._tempo_chain_id))

    async def erase_personal_data(
        self, request: pb.ErasePersonalDataRequest, call: Call
    ) -> pb.ErasePersonalDataResponse:
        left = await self._erasures.erase(UUID(request.consumer_id), reason=request.reason, actor=call.actor)
        assert left.erased_at is not None, "who is erased has been so at some time"
        return pb.ErasePersonalDataResponse(
            consumer=consumer(left, tempo_chain_id=self._tempo_chain_id), erase_time=timestamp(left.erased_at)
        )

    async def set_reference_rate(self, request: pb.SetReferenceRateRequest, call: Call) -> pb.SetReferenceRateResponse:
        given = request.HasField("effective_time")
        told = await self._rates.set_rate(
            request.rate_micros,
            source=request.source,
            effective_at=instant(request.effective_time, field="effective_time") if given else None,
            actor=call.actor,
        )
        shown = pb.ReferenceRate(
            base_currency=request.base_currency,
            quote_currency=request.quote_currency,
            rate_micros=told.rate.micros,
            source=told.source,
            effective_time=timestamp(told.rate.quoted_at),
            create_time=timestamp(told.told_at),
        )
        return pb.SetReferenceRateResponse(reference_rate=shown)
