"""The load generator where there is no Go: the same flags and the same JSON, from a Python client.

It takes as much of the processors as the server does, so its figures show that everything works and nothing more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks.measurement import percentile
from domain.clock import SystemClock, SystemEntropy
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest

DEADLINE_SECONDS = 10.0
_ENTROPY = SystemEntropy(SystemClock())


@dataclass
class Tally:
    """What ended inside the measured time."""

    begin: float
    end: float
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def ended(self, started: float, error: str | None) -> None:
        now = time.monotonic()
        if not self.begin <= now <= self.end:
            return
        if error is None:
            self.latencies.append((now - started) * 1000)
        else:
            self.errors[error] += 1


def main() -> None:
    """Drive Transfer and print what was measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.smoke")
    for name in ("target", "token-file", "accounts-file", "rpc", "hot"):
        parser.add_argument(f"-{name}", default="")
    for name, value in (("in-flight", 64), ("connections", 8), ("size", 1)):
        parser.add_argument(f"-{name}", type=int, default=value)
    parser.add_argument("-seconds", type=float, default=5.0)
    parser.add_argument("-warmup", type=float, default=0.5)
    options = parser.parse_args()
    if options.rpc != "transfer":
        parser.error("without Go only Transfer is driven")
    accounts, token = Path(options.accounts_file).read_text().split(), Path(options.token_file).read_text().strip()
    print(json.dumps(asyncio.run(_run(options, accounts, token)), indent=2))


async def _run(options: argparse.Namespace, accounts: list[str], token: str) -> dict[str, object]:
    metadata = (("authorization", f"Bearer {token}"),)
    # Else all channels of one address would share a connection.
    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(options.target, options=own) for _ in range(options.connections)]
    begin = time.monotonic() + options.warmup
    tally = Tally(begin, begin + options.seconds)
    async with asyncio.TaskGroup() as tasks:
        for number in range(options.in_flight):
            stub = ConsumerWalletServiceStub(channels[number % len(channels)])
            tasks.create_task(_drive(stub, metadata, accounts, options.hot == "true", tally))
    for channel in channels:
        await channel.close()
    return _summary(tally, options.seconds)


async def _drive(
    stub: ConsumerWalletServiceStub,
    metadata: tuple[tuple[str, str], ...],
    accounts: list[str],
    hot: bool,
    tally: Tally,
) -> None:
    while (started := time.monotonic()) < tally.end:
        error = None
        try:
            await stub.Transfer(_transfer(accounts, hot), metadata=metadata, timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as failure:
            error = failure.code().name
        tally.ended(started, error)


def _transfer(accounts: list[str], hot: bool) -> TransferRequest:
    to = len(accounts) // 2 if hot else random.randrange(len(accounts))
    sender = accounts[(to + random.randrange(1, len(accounts))) % len(accounts)]
    return TransferRequest(
        consumer_id=sender,
        request_id=str(_ENTROPY.uuid7()),
        recipient=Recipient(consumer_id=accounts[to]),
        amount=Money(asset="USDC", micros=random.randint(1, 1000)),
    )


def _summary(tally: Tally, seconds: float) -> dict[str, object]:
    ordered = sorted(tally.latencies)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "calls": len(ordered),
        "transfers": len(ordered),
        "seconds": seconds,
        "calls_per_second": len(ordered) / seconds,
        "transfers_per_second": len(ordered) / seconds,
        "errors": dict(tally.errors),
        "p50_ms": percentile(ordered, 0.50),
        "p95_ms": percentile(ordered, 0.95),
        "p99_ms": percentile(ordered, 0.99),
        "max_ms": percentile(ordered, 1.0),
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


if __name__ == "__main__":
    main()
