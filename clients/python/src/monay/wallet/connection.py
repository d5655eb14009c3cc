"""How a channel is opened: the same for both faces of the client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc

from monay.wallet.retries import RetryPolicy

VERSION = "0.2.0"

# A dead connection is noticed within 40 seconds, by pings the server allows; a lost server is looked for at once and
# then ever more slowly. The client itself decides what is sent again, so gRPC does not.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.primary_user_agent", f"monay-wallet-python/{VERSION}"),
]


@dataclass(frozen=True, slots=True)
class Options:
    """What `connect` lets a caller choose."""

    timeout: float = 10.0
    """Seconds for one call with all its tries, where the call names none."""
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    silence: float = 30.0
    """After so many seconds without any message, not even a heartbeat, a watched stream connects anew."""
    stream_timeout: float = 600.0
    """Seconds for a stream that has an end, where the call names none."""


def credentials(tls: bool | grpc.ChannelCredentials) -> grpc.ChannelCredentials | None:
    """What `tls` means: True the system's roots, credentials themselves, and False plain text, for development."""
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    return tls


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call. Without a token there is none: GetHealth needs none."""
    return (("authorization", f"Bearer {token}"),) if token else ()
