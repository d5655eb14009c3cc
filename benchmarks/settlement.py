"""`python -m benchmarks.settlement`: movements finalized per second on a real Tempo chain, end to end.

A queue of transfers among consumers whose money stands on the chain and whose allowance is granted; then the worker
process of a deployment, as it is, until the last of them is confirmed in the books. The chain makes a block every half
second and keeps no state on disk. The clock starts when the paused provider is resumed, so that starting the process is
not measured, and stops when nothing is open any more. Afterwards the books are proven, down to `balanceOf`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.processes import cpu_seconds
from benchmarks.settlement_world import ACTIVE_SEED, FEE_PAYER_KEY, OPERATOR_KEY, SettlementWorld, settlement_world
from sandbox import tempo_tokens
from sandbox.component import Refused, free_port
from sandbox.endpoints import ROOT
from sandbox.postgres import Postgres
from sandbox.tempo_node import TempoNode
from sandbox.tempo_tokens import SeededTokens

POLL_SECONDS = 0.02
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Settled:
    """What one run measured."""

    movements: int
    seconds: float
    transactions: int
    blocks: int
    cpu_seconds: Mapping[str, float]

    @property
    def per_second(self) -> float:
        return self.movements / self.seconds

    def __str__(self) -> str:
        shares = ", ".join(
            f"{name} {seconds / self.movements * 1e6:.0f} µs ({seconds / self.seconds:.2f} processors)"
            for name, seconds in self.cpu_seconds.items()
        )
        return (
            f"{self.per_second:.0f} movements finalized per second: {self.movements} in {self.seconds:.2f} s, "
            f"{self.transactions} transactions in {self.blocks} blocks; processor time each: {shares}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settlement", description=__doc__.split("\n\n")[0])
    parser.add_argument("--items", type=int, default=10_000, help="transfers in the queue")
    parser.add_argument("--consumers", type=int, default=1_000, help="who pay each other")
    parser.add_argument("--runs", type=int, default=1, help="how often, one queue after the other")
    options = parser.parse_args()
    try:
        with parts() as (postgres, node):
            asyncio.run(_measure(postgres, node, options))
    except Refused as refusal:
        print(f"benchmarks.settlement: {refusal}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def parts() -> Iterator[tuple[Postgres, TempoNode]]:
    """A migrated database with every durability on, and a chain in memory."""
    folder = Path(tempfile.mkdtemp(prefix="monay-bench-"))
    folder.chmod(0o755)
    postgres = Postgres(folder / "postgres", port=free_port())
    node = TempoNode(folder / "tempo", port=free_port(), state_seconds=None)
    try:
        for part in (postgres, node):
            part.start()
        for part in (postgres, node):
            part.wait_ready()
        environment = {**os.environ, "DATABASE_URL": postgres.url, "DATABASE_OWNER_URL": postgres.url}
        subprocess.run([sys.executable, "-m", "storage.migrations", "upgrade"], cwd=ROOT, env=environment, check=True)
        yield postgres, node
    finally:
        node.stop()
        postgres.stop()
        postgres.erase()
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(postgres: Postgres, node: TempoNode, options: argparse.Namespace) -> None:
    tokens = await tempo_tokens.seed(node.url, operator_key=OPERATOR_KEY, fee_payer_key=FEE_PAYER_KEY)
    async with settlement_world(postgres.url, node.url, tokens) as world:
        await world.furnish(options.consumers)
        print(f"{options.consumers} consumers have money on the chain and have granted their allowance", flush=True)
        for _ in range(options.runs):
            await world.enqueue(options.items)
            with paused(postgres.url), worker(postgres.url, node.url, tokens) as process:
                await asyncio.to_thread(_wait_for_probe, postgres.url)
                roots = {"worker": process.pid, "Postgres": _pid(postgres), "chain": _pid(node)}
                print(await asyncio.to_thread(_run, postgres.url, world, roots, options.items), flush=True)
        proof = await world.prove()
        print(f"books clean: {proof.equations[1].checked} balances proven, down to balanceOf", flush=True)


def _run(database_url: str, world: SettlementWorld, roots: Mapping[str, int], items: int) -> Settled:
    with psycopg.connect(database_url, autocommit=True) as connection:
        before, started = {name: cpu_seconds(pid) for name, pid in roots.items()}, time.monotonic()
        [first_block] = connection.execute("SELECT number FROM chain_cursors").fetchone() or (0,)
        connection.execute("UPDATE provider_health SET paused = false")
        while connection.execute("SELECT 1 FROM settlement_items WHERE state <> 'CONFIRMED' LIMIT 1").fetchone():
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - started
        used = {name: cpu_seconds(pid) - before[name] for name, pid in roots.items()}
        newest = (
            "SELECT max(block_number), count(DISTINCT transaction_hash) FROM settlement_items WHERE block_number > %s"
        )
        [last_block, transactions] = connection.execute(newest, [first_block]).fetchone() or (0, 0)
    return Settled(items, seconds, transactions, last_block - first_block, used)


def _pid(part: Postgres | TempoNode) -> int:
    assert part.process is not None
    return part.process.pid


@contextlib.contextmanager
def paused(database_url: str) -> Iterator[None]:
    """The provider paused by an operator: the worker starts, and settles nothing yet."""
    row = """
        INSERT INTO provider_health
            (provider, healthy, breaker, paused, latency_ms, success_rate_micros, detail, checked_at)
        VALUES ('tempo', false, 'closed', true, 0, 0, '', '-infinity')
        ON CONFLICT (provider) DO UPDATE SET paused = true, checked_at = '-infinity'
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(row)
        connection.execute("VACUUM ANALYZE")
    yield


def _wait_for_probe(database_url: str) -> None:
    """Until the worker process runs and reaches the chain."""
    deadline = time.monotonic() + START_SECONDS
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM provider_health WHERE checked_at > '-infinity'").fetchone():
            if time.monotonic() > deadline:
                raise Refused("The worker process did not come up.")
            time.sleep(0.1)
    time.sleep(1.0)


@contextlib.contextmanager
def worker(database_url: str, chain_url: str, tokens: SeededTokens) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m server workers`, as a deployment runs it."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "HTTP_LISTEN": f"127.0.0.1:{free_port(following=1)}",
        "TEMPO_RPC_URL": chain_url,
        "TEMPO_CHAIN_ID": str(tokens.chain_id),
        "TEMPO_TOKENS": ",".join(f"{asset}={address}" for asset, address in tokens.tokens.items()),
        "TEMPO_PRIVATE_KEY": OPERATOR_KEY.hex(),
        "TEMPO_FEE_PAYER_KEY": FEE_PAYER_KEY.hex(),
        "TEMPO_SEED": ACTIVE_SEED.hex(),
        "PROOF_INTERVAL_SECONDS": "3600",
        "ADDRESS_POOL_SIZE": "1",
        "LOG_LEVEL": "warning",
    }
    profile = os.environ.get("PROFILE")
    program = ["-m", "cProfile", "-o", profile, "-m", "server"] if profile else ["-m", "server"]
    process = subprocess.Popen([sys.executable, *program, "workers"], cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


if __name__ == "__main__":
    sys.exit(main())
