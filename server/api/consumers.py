"""Consumers: becoming one, and what is known about one."""

from __future__ import annotations

from domain.errors import ConsumerNotFound
from monay.wallet.v1.consumer_pb2 import (
    CONSUMER_STATE_ACTIVE,
    CONSUMER_STATE_FROZEN,
    Consumer,
    GetConsumerRequest,
    GetConsumerResponse,
    OnboardRequest,
    OnboardResponse,
    WalletAddress,
)
from server.api.access import Call
from server.api.convert import checksummed, timestamp
from server.services.onboarding import FIRST_LEVEL, OnboardingService, normalised
from storage import consumers
from storage.consumers import Directory
from storage.database import Engine, reading


class Consumers:
    """Onboard, GetConsumer."""

    def __init__(
        self, *, engine: Engine, directory: Directory, onboarding: OnboardingService, tempo_chain_id: int
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._onboarding = onboarding
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
            consumer = await self._directory.find_by_id(tx, call.consumer_id)
        if consumer is None:
            raise ConsumerNotFound(call.consumer_id)
        return GetConsumerResponse(consumer=self._proto(consumer))

    def _proto(self, consumer: consumers.Consumer) -> Consumer:
        address = WalletAddress(
            rail="tempo", chain_id=self._tempo_chain_id, address=checksummed(consumer.tempo_address)
        )
        return Consumer(
            id=str(consumer.id),
            email=consumer.contact.email,
            phone=consumer.contact.phone,
            full_name=consumer.contact.full_name,
            handle=consumer.handle,
            kyc_level=consumer.kyc_level,
            state=CONSUMER_STATE_FROZEN if consumer.frozen else CONSUMER_STATE_ACTIVE,
            addresses=[address],
            create_time=timestamp(consumer.created_at),
        )
