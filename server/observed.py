"""What differs where a process traces. Without an endpoint to send traces to, nothing of it is even imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.ledger_writer import LedgerWriter
from server.settings import Settings

if TYPE_CHECKING:
    from server.tracing import Tracing


def tracing_of(settings: Settings, *, process: str) -> Tracing | None:
    """The process' tracing, if it is wanted."""
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    from server.tracing import Tracing

    return Tracing(settings.otel_exporter_otlp_endpoint, process=process)


def ledger_writer(tracing: Tracing | None, **options: Any) -> LedgerWriter:
    """The process' ledger writer, in its plain form or in the one that traces."""
    if tracing is None:
        return LedgerWriter(**options)
    from server.tracing import TracedLedgerWriter

    return TracedLedgerWriter(tracing, **options)
