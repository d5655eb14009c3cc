"""Where each part of the sandbox listens: one port each on the loopback interface, all movable.

Each address is a setting of its own (GRPC_LISTEN=127.0.0.1:6000); PORT_OFFSET moves all that are not set, so that two
checkouts run beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.component import Refused, listen_address, require_free


@dataclass(frozen=True)
class Listen:
    """The address of one part."""

    what: str
    setting: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def require_free(self) -> None:
        require_free(str(self), what=self.what, setting=self.setting)


PARTS = {
    "GRPC_LISTEN": ("The gRPC server", 50051),
    "GATEWAY_LISTEN": ("The gateway for HTTP and gRPC-Web", 3001),
    "HTTP_LISTEN": ("The HTTP server for webhooks and metrics", 9464),
    "POSTGRES_LISTEN": ("Postgres", 55432),
    "VALKEY_LISTEN": ("Valkey", 56379),
    "TEMPO_LISTEN": ("The Tempo development chain", 58545),
    "CIRCLE_LISTEN": ("The Circle simulator", 58080),
    "CIRCLE_ADMIN_LISTEN": ("The Circle simulator's admin port", 58081),
}


def listen_addresses(environment: Mapping[str, str]) -> dict[str, Listen]:
    """All addresses by their setting."""
    offset = environment.get("PORT_OFFSET") or "0"
    if not offset.lstrip("-").isdigit():
        raise Refused(f"PORT_OFFSET={offset!r} is not a whole number.")
    return {setting: _listen(environment, setting, int(offset)) for setting in PARTS}


def _listen(environment: Mapping[str, str], setting: str, offset: int) -> Listen:
    what, port = PARTS[setting]
    host, port = listen_address(environment.get(setting) or f"127.0.0.1:{port + offset}", setting=setting)
    return Listen(what, setting, host, port)
