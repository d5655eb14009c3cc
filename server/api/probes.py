"""Health for whoever restarts processes: a port of its own, without TLS, that serves grpc.health.v1.Health alone.

Kubernetes' gRPC probes speak no TLS, and production speaks nothing else. All there is to learn here is SERVING or not.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from server.process import StartRefused


class ProbeServer:
    """Serves one process' health until told to stop."""

    def __init__(self, address: str, *, offset: int, servicer: health.aio.HealthServicer | None = None) -> None:
        """Listen at `host:port + offset`. Without a servicer of its own, a process is well as long as it answers."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(servicer or health.aio.HealthServicer(), self._server)
        host, _, port = address.rpartition(":")
        where = f"{host}:{int(port) + offset if int(port) else 0}"
        try:
            self.port = self._server.add_insecure_port(where)
        except RuntimeError as error:
            raise StartRefused(f"Probes cannot listen on {where} (PROBE_LISTEN): is the port taken?") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        await self._server.start()
        try:
            await stop.wait()
        finally:
            await self._server.stop(1)
