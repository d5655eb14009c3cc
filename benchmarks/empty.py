"""An rpc that does nothing: what grpc.aio alone leaves of a machine, with as many processes as the wallet has.

It answers Transfer with an empty message: no token, no rule, no database. Nothing that is built on grpc.aio can do more
calls a second here, so this says how much of a distance to the yardsticks is the framework's and how much is ours.

    python -m benchmarks.empty 127.0.0.1:PORT     one such process
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import grpc
import uvloop

from benchmarks.world import World
from monay.wallet.v1.transfer_pb2 import TransferRequest, TransferResponse
from sandbox.component import free_port
from sandbox.endpoints import ROOT

_START_SECONDS = 20


async def _nothing(_request: TransferRequest, _context: object) -> TransferResponse:
    return TransferResponse()


@contextlib.contextmanager
def running(world: World, *, processes: int) -> Iterator[World]:
    """Such processes on one port, as a world that the load generator can be sent to."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "benchmarks.empty", address]
    started = [subprocess.Popen(command, cwd=ROOT) for _ in range(processes)]
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=_START_SECONDS)
        yield replace(
            world, grpc=address, processes={f"server {number}": process.pid for number, process in enumerate(started)}
        )
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=_START_SECONDS)


async def _serve(address: str) -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
        ]
    )
    handler = grpc.unary_unary_rpc_method_handler(
        _nothing, TransferRequest.FromString, TransferResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("monay.wallet.v1.ConsumerWalletService", {"Transfer": handler})]
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))
