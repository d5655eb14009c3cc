"""Pauses: providers taken out of routing by an operator, and let back in."""

from __future__ import annotations

from domain.audit import Actor
from monay.wallet.v1 import operations_service_pb2 as pb
from monay.wallet.v1.provider_pb2 import ProviderStatus
from server.api.access import Call
from server.api.providers import float_with, provider_status
from server.services.pauses import PauseService
from storage import provider_health
from storage.database import Engine, reading


class Pauses:
    """PauseProvider, ResumeProvider."""

    def __init__(self, *, engine: Engine, pauses: PauseService) -> None:
        self._engine = engine
        self._pauses = pauses

    async def pause_provider(self, request: pb.PauseProviderRequest, call: Call) -> pb.PauseProviderResponse:
        status = await self._set(request.provider, paused=True, reason=request.reason, actor=call.actor)
        return pb.PauseProviderResponse(status=status)

    async def resume_provider(self, request: pb.ResumeProviderRequest, call: Call) -> pb.ResumeProviderResponse:
        status = await self._set(request.provider, paused=False, reason=request.reason, actor=call.actor)
        return pb.ResumeProviderResponse(status=status)

    async def _set(self, provider: str, *, paused: bool, reason: str, actor: Actor) -> ProviderStatus:
        await self._pauses.set_paused(provider, paused=paused, reason=reason, actor=actor)
        async with reading(self._engine) as tx:
            rows = {row.provider: row for row in await provider_health.read_all(tx)}
            return provider_status(rows[provider], await float_with(tx, provider))
