"""Who gets in, beside what the token says: by network address, by client certificate, and by how often they call."""

from __future__ import annotations

from typing import Any

from domain.errors import CertificateRequired
from server.api.access import Caller, CallerKind
from server.api.rate_limits import RateLimits
from server.origins import Origins


class Gate:
    """Asked once before and once after the caller is known."""

    def __init__(self, *, origins: Origins, limits: RateLimits, services_need_certificate: bool) -> None:
        self.origins = origins
        self._limits = limits
        self._services_need_certificate = services_need_certificate

    def admit(self, caller: Caller, context: Any) -> None:
        """Let a known caller in, or raise why not."""
        if self._services_need_certificate and caller.kind is CallerKind.SERVICE:
            _require_certificate(caller.subject, context)
        self._limits.count(caller)


def _require_certificate(name: str, context: Any) -> None:
    """The client certificate of the connection, which gRPC has verified, has to name the service."""
    shown = context.auth_context()
    names = (*shown.get("x509_common_name", ()), *shown.get("x509_subject_alternative_name", ()))
    if name.encode() not in names:
        raise CertificateRequired()
