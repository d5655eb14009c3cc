"""`make simulate`: many seeds in a row, with what they cost, and the whole trace of those that fail."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from sandbox.component import free_port
from sandbox.postgres import Postgres
from tests.conftest import migrate
from tests.simulation.stage import FORGETFUL, Played, stage_of

TELL_SECONDS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description="Play random histories of settlement.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--trace", action="store_true", help="print the traces of those that pass, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="monay-simulation-", dir=_memory()) as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder, "postgres"), port=free_port(), settings=FORGETFUL)
        server.start()
        try:
            server.wait_ready()
            with psycopg.connect(server.database_url("postgres"), autocommit=True) as admin:
                admin.execute("CREATE DATABASE simulation")
            url = server.database_url("simulation")
            migrate(url)
            return asyncio.run(_play(url, range(options.start, options.start + options.seeds), trace=options.trace))
        finally:
            server.stop()


def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


async def _play(url: str, seeds: range, *, trace: bool) -> int:
    failed: list[int] = []
    cpu_seconds, started = 0.0, time.monotonic()
    told = started
    async with stage_of(url) as stage:
        for count, seed in enumerate(seeds, start=1):
            played = await stage.play(seed)
            cpu_seconds += played.cpu_seconds
            if played.failure:
                failed.append(seed)
            if played.failure or trace:
                _show(played)
            if time.monotonic() - told > TELL_SECONDS or count == len(seeds):
                told = time.monotonic()
                each = f"{(told - started) / count:.2f} s a seed, {cpu_seconds / count:.2f} s of it on the CPU here"
                print(f"{count} of {len(seeds)} histories, {len(failed)} failed; {each}", flush=True)
    if failed:
        print(f"Failed: {' '.join(map(str, failed))}. Play one again: make simulate SEEDS=1 SEED_START={failed[0]}")
    return 1 if failed else 0


def _show(played: Played) -> None:
    print(f"--- seed {played.seed} ---\n{played.text}\n--- {played.failure or 'passed'} ---", flush=True)


if __name__ == "__main__":
    sys.exit(main())
