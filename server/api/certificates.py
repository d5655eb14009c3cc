"""The server's certificate, read again whenever its files change: a renewal needs no restart and breaks no connection.

gRPC asks at the start of each handshake, on a thread of its own; three `stat` calls answer it. A pair that does not fit
together, as when only one file has been replaced yet, is passed over and the last good one stays.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog

log = structlog.get_logger()

_Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """Certificate and key of a listener, and for mutual TLS the authority of its clients' certificates."""

    def __init__(self, certificate: Path, key: Path, *, client_authority: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_authority = client_authority
        self._seen = self._stamp()

    def credentials(self) -> grpc.ServerCredentials:
        """What the listener is opened with. With an authority, a client without a certificate gets no connection."""
        required = self._client_authority is not None
        return grpc.dynamic_ssl_server_credentials(self._read(), self._changed, require_client_authentication=required)

    def _changed(self) -> Any:
        """The files' present contents, or None while they are what they were."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return None
            self._seen = stamp
            configuration = self._read()
        except (OSError, ssl.SSLError) as error:
            log.error("tls.certificate_unusable", file=str(self._certificate), error=type(error).__name__)
            return None
        log.info("tls.certificate_read", file=str(self._certificate))
        return configuration

    def _read(self) -> Any:
        # gRPC would take a pair that does not fit and fail every handshake from then on.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
        pair = (self._key.read_bytes(), self._certificate.read_bytes())
        authority = self._client_authority.read_bytes() if self._client_authority is not None else None
        return grpc.ssl_server_certificate_configuration([pair], authority)

    def _stamp(self) -> _Stamp:
        return tuple(_told_apart(path) for path in self._files())

    def _files(self) -> Sequence[Path]:
        files = (self._certificate, self._key, self._client_authority)
        return [path for path in files if path is not None]


def _told_apart(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written or, as secret stores do, another one takes its name."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
