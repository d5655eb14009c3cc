"""Thousands who watch: WatchBalances streams on one process, updates that another one commits, and all coming back.

    python -m benchmarks.streams [--streams 10000] [--rate 500] [--seconds 20]

Three phases: opening (what a stream takes of memory), updates (how long after the beginning of its commit a change
arrives, while one stream in a hundred reads nothing), and the storm in which everybody reconnects at the same moment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks import generator, world
from benchmarks.processes import Process, busy_processors
from benchmarks.world import World
from sandbox.component import Refused

_CONNECTIONS = 100
_WARMUP_SECONDS = 3.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.streams", description="Figures of balance streams.")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=500, help="transfers a second; each is two updates")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    try:
        for line in measure(streams=options.streams, rate=options.rate, seconds=options.seconds):
            print(line, flush=True)
    except Refused as refusal:
        print(f"benchmarks.streams: {refusal}", file=sys.stderr)
        return 1
    return 0


def measure(*, streams: int, rate: float, seconds: float) -> list[str]:
    """What the phases showed, a line each."""
    with world.running(account_count=streams, workers=1, second=True) as running:
        before = _memory(running)
        process = _start(running, streams=streams, rate=rate, seconds=seconds)
        opened = _phase(process)
        each = (_memory(running) - before) / streams
        _go_on(process)
        busy = busy_processors(running.processes, seconds=seconds) if seconds > 1 else {}
        updates = _phase(process)
        _go_on(process)
        storm = _phase(process)
        grown = (_memory(running) - before) / streams
        _go_on(process)
        if process.wait(timeout=60) != 0:
            raise Refused("The load generator failed; what it said is above.")
    shares = ", ".join(f"{name} {share:.2f} processors" for name, share in busy.items())
    return [
        f"{streams:,} streams open after {opened['seconds']:.1f} s, {each / 1024:.1f} KiB of the server's memory each, "
        f"{opened['failed']} failed",
        f"{updates['updates_per_second']:,.0f} updates a second: commit to client p50 {updates['p50_ms']:.1f} ms, "
        f"p99 {updates['p99_ms']:.1f} ms, longest {updates['max_ms']:.0f} ms, {updates['failed']} failed; {shares}",
        f"all of them back {storm['seconds']:.1f} s after leaving at once, {storm['failed']} failed; "
        f"{grown / 1024:.1f} KiB each after that",
    ]


def _start(running: World, *, streams: int, rate: float, seconds: float) -> subprocess.Popen[str]:
    command = generator.command()
    if command[0] == sys.executable:
        raise Refused("Streams are measured by the load generator in Go, and there is no go here.")
    options: dict[str, Any] = {
        "target": running.grpc,
        "payments-target": running.second,
        "token-file": running.token_file,
        "accounts-file": running.accounts_file,
        "rpc": "watch",
        "connections": min(_CONNECTIONS, streams),
        "streams": streams,
        "rate": rate,
        "warmup": _WARMUP_SECONDS,
        "seconds": seconds,
    }
    line = [*command, *(f"-{name}={value}" for name, value in options.items())]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _phase(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise Refused("The load generator ended early; what it said is above.")
    found: dict[str, Any] = json.loads(line)
    return found


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _memory(running: World) -> int:
    return Process(running.processes["server"], "").resident_bytes()


if __name__ == "__main__":
    sys.exit(main())
