"""A server that answers as it is told, for what a healthy wallet does not say on demand: that it is full, or away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from monay.wallet.errors import DOMAIN


class StandIn(grpc.GenericRpcHandler):
    """Gives the refusals one after the other, and an empty answer when there are none left."""

    def __init__(self) -> None:
        self.refusals: list[dict[str, Any]] = []
        self.calls = 0
        self.target = ""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        self.calls += 1
        if self.refusals:
            await context.abort_with_status(rpc_status.to_status(refusal(**self.refusals.pop(0))))
        return b""


def refusal(code: str, reason: str = "", retry_after_ms: int | None = None, **facts: str) -> status_pb2.Status:
    """A status as the wallet sends it; without a reason, as some other program on the way would."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message="said the stand-in")
    if reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=facts))
    if retry_after_ms is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(retry_after_ms)
        status.details.add().Pack(info)
    return status


@asynccontextmanager
async def standing_in() -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((stand_in,))
    stand_in.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield stand_in
    finally:
        await server.stop(0)
