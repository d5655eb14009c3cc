"""`make simulate`: many seeds, in as many processes as there are cores, and the whole trace of those that fail.

Each process has a database of its own on one throw-away server in memory, and takes the next few seeds whenever it is
done with its own. A seed does not depend on what was played before it, so one that fails is played again alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from sandbox.component import free_port
from sandbox.postgres import Postgres
from tests.conftest import migrate
from tests.simulation.mutants import MUTANTS
from tests.simulation.players import begin, play_some
from tests.simulation.stage import FORGETFUL, Played

TELL_SECONDS = 5.0
SEEDS_AT_ONCE = 10


def main() -> int:
    """Play the seeds; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="make simulate", description="Play random histories of settlement.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="as many as cores")
    parser.add_argument("--trace", action="store_true", help="print the traces of those that pass, too")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="plant this bug, which some seed has to find")
    options = parser.parse_args()
    seeds = range(options.start, options.start + options.seeds)
    processes = max(1, min(options.processes, -(-len(seeds) // SEEDS_AT_ONCE)))
    with _databases(processes) as urls:
        queue: multiprocessing.Queue[str] = multiprocessing.get_context("spawn").Queue()
        for url in urls:
            queue.put(url)
        with multiprocessing.get_context("spawn").Pool(processes, begin, (queue, options.mutant)) as pool:
            return _tell(pool, seeds, trace=options.trace)


@contextmanager
def _databases(count: int) -> Iterator[list[str]]:
    """One migrated database for each process, behind a socket in memory where there is memory to have it in."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="monay-simulation-", dir=memory) as folder:
        Path(folder).chmod(0o777)
        port = free_port()
        server = Postgres(
            Path(folder, "postgres"), port=port, settings={**FORGETFUL, "unix_socket_directories": folder}
        )
        server.start()
        try:
            server.wait_ready()
            names = [f"simulation{number}" for number in range(count)]
            with psycopg.connect(server.database_url("postgres"), autocommit=True) as admin:
                for name in names:
                    admin.execute(f"CREATE DATABASE {name}".encode())
            for name in names:
                migrate(server.database_url(name))
            yield [_by_socket(server.database_url(name), folder, port) for name in names]
        finally:
            server.stop()


def _by_socket(url: str, folder: str, port: int) -> str:
    parts = make_url(url).set(host=None, port=None, query={"host": folder, "port": str(port)})
    return parts.render_as_string(hide_password=False)


def _tell(pool: Pool, seeds: range, *, trace: bool) -> int:
    """Progress now and then, every failure at once, and what a seed costs."""
    failed: list[int] = []
    cpu_seconds, started, count = 0.0, time.monotonic(), 0
    told = started
    parts = [seeds[first : first + SEEDS_AT_ONCE] for first in range(0, len(seeds), SEEDS_AT_ONCE)]
    for some in pool.imap_unordered(play_some, parts):
        for played in some:
            count += 1
            cpu_seconds += played.cpu_seconds
            failed += [played.seed] if played.failure else []
            if played.failure or trace:
                _show(played)
        if time.monotonic() - told > TELL_SECONDS or count == len(seeds):
            told = time.monotonic()
            each = f"{(told - started) / count:.3f} s a seed, {cpu_seconds / count:.3f} s of Python's CPU time"
            print(f"{count} of {len(seeds)} histories, {len(failed)} failed; {each}", flush=True)
    if failed:
        failed.sort()
        print(f"Failed: {' '.join(map(str, failed))}. Play one again: make simulate SEEDS=1 SEED_START={failed[0]}")
    return 1 if failed else 0


def _show(played: Played) -> None:
    print(f"--- seed {played.seed} ---\n{played.text}\n--- {played.failure or 'passed'} ---", flush=True)


if __name__ == "__main__":
    sys.exit(main())
