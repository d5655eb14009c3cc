"""The signer put together: keys, guard, journal and listener."""

from __future__ import annotations

import asyncio

import structlog

from domain.clock import Clock, SystemClock
from providers import tempo
from providers.base import SignerUnavailable
from server import rails
from server.process import StartRefused
from server.settings import Settings
from server.signer.guard import DailyLimits, GuardedSigner
from server.signer.journal import Journal, JournalUnusable
from server.signer.remote import RemoteSigner
from server.signer.service import SignerServer
from storage.database import create_engine

log = structlog.get_logger()


async def run_signer(settings: Settings, stop: asyncio.Event) -> None:
    """Sign for workers until `stop` is set."""
    assert settings.signer_cert_file and settings.signer_key_file and settings.signer_ca_file, "checked at the start"
    assert settings.signer_journal, "checked at the start"
    clock = SystemClock()
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=2)
    try:
        journal = Journal(settings.signer_journal, now=clock.now())
    except JournalUnusable as fault:
        raise StartRefused(f"SIGNER_JOURNAL: {fault}.") from fault
    guarded = GuardedSigner(
        tempo.local_signer(rails.tempo_config(settings)),
        engine=engine,
        journal=journal,
        limits=DailyLimits(settings.signer_daily_limits, settings.signer_daily_outside_limits),
        clock=clock,
    )
    server = SignerServer(
        guarded,
        address=settings.signer_listen,
        certificate=settings.signer_cert_file,
        key=settings.signer_key_file,
        client_authority=settings.signer_ca_file,
        client_name=settings.signer_client_name,
    )
    try:
        await server.run(stop)
    finally:
        journal.close()
        await engine.dispose()


async def reach_signer(settings: Settings, *, clock: Clock, stop: asyncio.Event) -> RemoteSigner | None:
    """The signer that the settings name, once it answers; None where there is none, or when told to stop."""
    if settings.signer_address is None:
        return None
    assert settings.signer_cert_file and settings.signer_key_file and settings.signer_ca_file
    while not stop.is_set():
        try:
            return await RemoteSigner.connect(
                settings.signer_address,
                certificate=settings.signer_cert_file,
                key=settings.signer_key_file,
                authority=settings.signer_ca_file,
            )
        except SignerUnavailable as fault:
            log.warning("workers.waiting_for_signer", detail=str(fault)[:200])
            await clock.sleep(1.0)
    return None
