"""One `make run` as a test starts it: a folder and ports of its own, everything it said, and nothing left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.component import free_port, processes_in
from sandbox.listen import PARTS
from sandbox.wallet_server import MARK

ROOT = Path(__file__).parent.parent.parent
# Generous: the machine may be busy with much else.
START_SECONDS = 150
STOP_SECONDS = 60


class Run:
    """One `make run` with a folder and ports of its own, started anew as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Process i of the server takes the i-th port after HTTP_LISTEN.
        self.addresses = {setting: f"127.0.0.1:{free_port(following=3)}" for setting in PARTS}
        self.process: subprocess.Popen[str] | None = None

    def start(self, **settings: str) -> subprocess.Popen[str]:
        """Start it; the settings come on top of the environment."""
        environment = {**os.environ, **self.addresses, "DATA_DIR": str(self.folder), **settings}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.run"],
            cwd=ROOT,
            env=environment,
            stdout=(self.folder.parent / f"{self.folder.name}.out").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    @property
    def said(self) -> str:
        """All it printed since its last start."""
        return (self.folder.parent / f"{self.folder.name}.out").read_text()

    def wait_greeting(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "GetBalance" not in self.said:
            assert self.process
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def ends(self) -> int:
        """Its exit code."""
        assert self.process
        return self.process.wait(STOP_SECONDS)

    def left(self) -> list[int]:
        """Processes that it started and that still run."""
        folders = {
            "postgres": "postgres-18/data",
            "valkey-server": "valkey",
            "anvil": "tempo",
            "envoy": "gateway",
            "python": "circle",
        }
        parts = [pid for name, folder in folders.items() for pid in processes_in(self.folder / folder, name=name)]
        return parts + marked(f"{MARK}={self.folder / 'server'}")


def marked(mark: str) -> list[int]:
    """Processes with this in their environment: the server's, and whatever those started."""
    found = []
    for process in filter(lambda entry: entry.name.isdigit(), Path("/proc").iterdir()):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def new_run(parent: Path) -> Iterator[Run]:
    folder = parent / f"run-{time.monotonic_ns()}"
    folder.mkdir(mode=0o755)
    run = Run(folder)
    yield run
    if run.process and run.process.poll() is None:
        run.process.terminate()
        run.ends()


def command(run: Run, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the commands that go with `make run`."""
    environment = {**os.environ, "DATA_DIR": str(run.folder)}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def alice(said: str) -> str:
    """Her id, out of the printed call for her balance."""
    line = next(line for line in said.splitlines() if "GetBalance" in line)
    return line.split('"consumer_id": "')[1].split('"')[0]
