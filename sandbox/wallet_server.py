"""The wallet server as a child process: `python -m server`, with its settings in its environment."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from sandbox.component import Component, listen_address, signal_all
from sandbox.listen import Listen

# Inherited by every process of the server, so that all of them are found again when the one that started them is gone.
MARK = "MONAY_SANDBOX_SERVER"


class WalletServer(Component):
    name = "The wallet server"
    program_name = "python"
    role = "all"
    # Calls in flight may finish; the server has a bound of its own, which is shorter.
    stop_seconds = 45.0
    start_seconds = 120.0

    def __init__(self, folder: Path, *, grpc_listen: Listen, settings: Mapping[str, str], workers: int = 1) -> None:
        super().__init__(folder, port=grpc_listen.port)
        self.address = str(grpc_listen)
        self.settings = settings
        self.workers = workers

    @property
    def url(self) -> str:
        return self.address

    @property
    def working_folder(self) -> Path:
        """The caller's own, so that relative paths in settings mean what they meant at the terminal."""
        return Path.cwd()

    def _start(self) -> None:
        environment = {**self.settings, MARK: str(self.folder.resolve())}
        self._spawn([sys.executable, "-m", "server", self.role, "--workers", str(self.workers)], env=environment)

    def ready(self) -> bool:
        """Whether the standard health service says SERVING."""
        # First a plain connection: asked a hundred times a second, gRPC channels would take a core from the server.
        try:
            socket.create_connection(listen_address(self.address, setting="GRPC_LISTEN"), timeout=1).close()
        except OSError:
            return False
        with grpc.insecure_channel(self.address) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            try:
                return bool(check(HealthCheckRequest(), timeout=1).status == HealthCheckResponse.SERVING)
            except grpc.RpcError:
                return False

    def stop(self) -> None:
        ours = self._lock is not None
        super().stop()
        if ours:
            signal_all(self._left_behind(), signal.SIGKILL)

    def _left_behind(self) -> list[int]:
        mark = f"{MARK}={self.folder.resolve()}".encode()
        found = []
        for process in filter(lambda entry: entry.name.isdigit(), Path("/proc").iterdir()):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0") and int(process.name) != os.getpid():
                    found.append(int(process.name))
            except OSError:
                continue
        return found
