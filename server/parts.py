"""What processes of both kinds have."""

from __future__ import annotations

from domain.clock import Clock, Entropy
from server.api.health import Health
from server.api.probes import ProbeServer
from server.process import Arguments, Part
from server.services.acts import Acts
from server.services.kyc import KycService
from server.services.kyc_verifiers import AutomaticReview, ManualReview
from server.settings import Settings
from storage.database import Engine


def probes(arguments: Arguments, settings: Settings, health: Health | None = None) -> list[Part]:
    """The port for probes, where one is wanted. Workers have no health of their own: they answer, or they do not."""
    if settings.probe_listen is None:
        return []
    servicer = None if health is None else health.servicer
    return [ProbeServer(settings.probe_listen, offset=arguments.number, servicer=servicer)]


def kyc_service(settings: Settings, *, engine: Engine, clock: Clock, entropy: Entropy) -> KycService:
    """Cases of identity, decided by people, or in a sandbox by a timer."""
    return KycService(
        engine=engine,
        acts=Acts(engine=engine, clock=clock, entropy=entropy),
        verifier=AutomaticReview(clock) if settings.sandbox else ManualReview(),
        clock=clock,
        entropy=entropy,
    )
