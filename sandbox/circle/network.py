"""The network between the client and Circle, with the faults that were ordered for a request.

It stands around the whole application: what it does to an answer is unknown to whatever made the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.circle.exchange import Exchange
from sandbox.circle.faults import Fault, Faults

REMEMBERED_REQUESTS = 5000
# Closing with a linger time of zero sends a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)
_transports: dict[tuple[str, int], asyncio.Transport] = {}


class ReachableProtocol(H11Protocol):
    """uvicorn's own, which lets a request find the connection that it came over, in order to break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            _transports[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            _transports.pop(self.client, None)
        super().connection_lost(exc)


@dataclass
class Seen:
    """One request, for whoever tests: what came, what became of it, and what went wrong on purpose."""

    method: str
    path: str
    request_id: str
    # What the application answered; 0 if it was never asked.
    status: int = 0
    faults: str = ""
    # All that was said, where it is recorded: for tests that compare it with the contract.
    exchange: dict[str, Any] | None = None


class FaultyNetwork:
    def __init__(self, app: ASGIApp, faults: Faults, *, record: bool = False) -> None:
        self._app = app
        self._faults = faults
        self._record = record
        self.seen: deque[Seen] = deque(maxlen=REMEMBERED_REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hits = self._faults.hitting(scope["method"], scope["path"])
        seen = Seen(scope["method"], scope["path"], _request_id(scope), faults=", ".join(hit.kind for hit in hits))
        self.seen.append(seen)
        for fault in (hit for hit in hits if hit.kind == "latency"):
            await asyncio.sleep(fault.seconds)
        fault_before = next((hit for hit in hits if hit.kind != "latency" and hit.when == "before"), None)
        fault_after = next((hit for hit in hits if hit.kind != "latency" and hit.when == "after"), None)
        if fault_before:
            await _strike(fault_before, scope, receive, send)
            return
        exchange = Exchange(scope, receive, None if fault_after else send)
        await self._app(scope, exchange.receive, exchange.send)
        seen.status = exchange.status
        seen.exchange = exchange.told() if self._record else None
        if fault_after:
            await _strike(fault_after, scope, receive, send)


async def _strike(fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    match fault.kind:
        case "reset":
            await _reset(scope)
        case "silence":
            await _silence(fault.seconds, scope, receive)
        case "rate_limit":
            body = {"code": 429, "message": "Limit exceeded"}
            await _answer(429, body, {"Retry-After": str(fault.retry_after)}, scope, receive, send)
        case _:
            await _answer(fault.status, {"code": fault.code, "message": fault.message}, {}, scope, receive, send)


async def _answer(
    status: int, body: dict[str, Any], headers: dict[str, str], scope: Scope, receive: Receive, send: Send
) -> None:
    response = JSONResponse(body, status, {**headers, "X-Request-Id": _request_id(scope) or str(uuid4())})
    await response(scope, receive, send)


async def _silence(seconds: float, scope: Scope, receive: Receive) -> None:
    """Say nothing until the client has had enough, or for so long; then close without a word."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds or None):
            while (await receive())["type"] != "http.disconnect":
                pass
    await _reset(scope)


async def _reset(scope: Scope) -> None:
    transport = _transports.get(tuple(scope["client"]))
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
    # uvicorn learns of it in the next turn of the loop, and then expects no answer.
    await asyncio.sleep(0.01)


def _request_id(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
