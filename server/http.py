"""The HTTP side of a process: metrics for Prometheus and, where there are any, webhooks. Never a consumer's request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.process import StartRefused


class HttpServer:
    """Serves in the process' own event loop until told to stop."""

    def __init__(
        self, address: str, *, offset: int, registry: CollectorRegistry, routes: Sequence[BaseRoute] = ()
    ) -> None:
        """Listen at `host:port + offset`: each process of a supervisor has a port of its own."""
        self._listener = _listen(address, offset)
        self._registry = registry
        app = Starlette(routes=[Route("/metrics", self._metrics), *routes])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        self._server = _Uvicorn(config)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.serve(sockets=[self._listener]))
            try:
                await stop.wait()
            finally:
                self._server.should_exit = True

    async def _metrics(self, _request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the process has handlers of its own, and this server is only a part of it."""
        yield


def _listen(address: str, offset: int) -> socket.socket:
    host, _, port = address.rpartition(":")
    number = int(port) + offset if int(port) else 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), number), family=family)
    except OSError as error:
        raise StartRefused(f"HTTP cannot listen on {host}:{number} (HTTP_LISTEN): {error.strerror}.") from error
