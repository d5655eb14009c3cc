"""Consumers: becoming one, and what is known about one."""

from __future__ import annotations

from domain.errors import ConsumerNotFound
from monay.wallet.v1.consumer_pb2 import (
    Consumer,
    GetConsumerRequest,
    GetConsumerResponse,
    OnboardRequest,
    OnboardResponse,
    SetHandleRequest,
    SetHandleResponse,
)
from server.api.access import Call
from server.api.convert import consumer
from server.services.handles import HandleService
from server.services.onboarding import FIRST_LEVEL, OnboardingService, normalised
from storage import consumers
from storage.consumers import Directory
from storage.database import Engine, reading


class Consumers:
    """Onboard, GetConsumer, SetHandle."""

    def __init__(
        self,
        *,
        engine: Engine,
        directory: Directory,
        onboarding: OnboardingService,
        handles: HandleService,
        tempo_chain_id: int,
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._onboarding = onboarding
        self._handles = handles
        self._tempo_chain_id = tempo_chain_id

    async def onboard(self, request: OnboardRequest, call: Call) -> OnboardResponse:
        onboarded = await self._onboarding.onboard(
            normalised(email=request.email, phone=request.phone, full_name=request.full_name),
            kyc_level=request.kyc_level or FIRST_LEVEL,
            caller=call.caller.name,
            request_id=request.request_id.lower(),
        )
        return OnboardResponse(consumer=self._proto(onboarded.consumer), replayed=onboarded.replayed)

    async def get_consumer(self, request: GetConsumerRequest, call: Call) -> GetConsumerResponse:
        async with reading(self._engine) as tx:
            found = await self._directory.find_by_id(tx, call.consumer_id)
        if found is None:
            raise ConsumerNotFound(call.consumer_id)
        return GetConsumerResponse(consumer=self._proto(found))

    async def set_handle(self, request: SetHandleRequest, call: Call) -> SetHandleResponse:
        named = await self._handles.set_handle(call.consumer_id, request.handle)
        return SetHandleResponse(consumer=self._proto(named))

    def _proto(self, value: consumers.Consumer) -> Consumer:
        return consumer(value, tempo_chain_id=self._tempo_chain_id)
