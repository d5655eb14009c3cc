"""The load generator: the Go program in `load/`, built here and run beside the server as a client of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measurement import Load, Measurement
from benchmarks.processes import busy_processors
from benchmarks.world import World
from sandbox.component import Refused

SOURCE = Path(__file__).with_name("load")
PROGRAM = SOURCE.parent.parent / "build" / "bench-load"

# Many enough for the kernel to spread them evenly over the processes that share the port.
_CONNECTIONS = 32


def command() -> list[str]:
    """The load generator, built if there is Go (which builds nothing twice); else the Python client."""
    go = shutil.which("go")
    if go is None:
        return [sys.executable, "-m", "benchmarks.smoke"]
    done = subprocess.run([go, "build", "-o", str(PROGRAM), "."], cwd=SOURCE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Refused(f"The load generator cannot be built:\n{done.stderr}")
    return [str(PROGRAM)]


class Generator:
    """Drives a server with transfers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._command = command()

    @property
    def is_smoke(self) -> bool:
        """Whether the load comes from Python, whose figures say nothing about the server."""
        return self._command[0] == sys.executable

    def run(
        self, load: Load, *, seconds: float, warmup: float, rpc: str = "transfer", transfers_each: int = 1
    ) -> Measurement:
        """Drive one rpc. Figures are transfers; latencies are of whole calls, which may carry many."""
        options: dict[str, Any] = {
            "target": self._world.grpc,
            "token-file": self._world.token_file,
            "accounts-file": self._world.accounts_file,
            "rpc": rpc,
            "hot": str(load.hot).lower(),
            "size": transfers_each,
            "in-flight": load.in_flight,
            "connections": min(load.in_flight, _CONNECTIONS),
            "seconds": seconds,
            "warmup": warmup,
        }
        if self._world.ca_file is not None:
            options["ca-file"] = self._world.ca_file
        command = [*self._command, *(f"-{name}={value}" for name, value in options.items())]
        # On one processor it spends a fifth less, and it is far from needing two.
        process = subprocess.Popen(command, env={**os.environ, "GOMAXPROCS": "1"}, stdout=subprocess.PIPE, text=True)
        time.sleep(warmup)
        processors = busy_processors({**self._world.processes, "load": process.pid}, seconds=seconds)
        output, _ = process.communicate()
        if process.returncode != 0:
            raise Refused("The load generator failed; what it said is above.")
        return _measured(json.loads(output), processors)


def _measured(said: dict[str, Any], processors: dict[str, float]) -> Measurement:
    return Measurement(
        per_second=said["transfers_per_second"],
        p50_ms=said["p50_ms"],
        p95_ms=said["p95_ms"],
        p99_ms=said["p99_ms"],
        max_ms=said["max_ms"],
        errors=said["errors"],
        processors=processors,
    )
