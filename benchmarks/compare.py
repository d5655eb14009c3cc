"""`make bench-compare BASE=<revision>`: that revision's server and this one's, beside each other, in turns.

Whatever else the machine does falls on both alike when their turns are short and many. What is told is the median of
the rates and, because that is hardly touched by others' work, the lower quintile of processor time for each transfer.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import world
from benchmarks.generator import Generator
from benchmarks.measurement import Load, Measurement
from sandbox.component import Refused
from sandbox.endpoints import ROOT

ACCOUNTS = 10_000
SECONDS = 1.0
WARMUP = 0.3
LOADS = (Load(1), Load(16), Load(64), Load(256), Load(64, hot=True))


def main() -> int:
    """Compare and tell."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__.split("\n")[0])
    parser.add_argument("base", help="the revision to compare with")
    parser.add_argument("--turns", type=int, default=12, help="how often each is measured at each load")
    parser.add_argument("--workers", type=int, default=2, help="API processes")
    options = parser.parse_args()
    try:
        with (
            _checked_out(options.base) as source,
            _running(source, options.workers) as base,
            _running(ROOT, options.workers) as now,
        ):
            for load in LOADS:
                print(_compared(load, *_in_turns(base, now, load, options.turns)), flush=True)
    except Refused as refusal:
        print(f"make bench-compare: {refusal}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """The files of a revision, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="monay-base-") as name:
        folder = Path(name)
        archive = folder / "files.tar"
        command = ["git", "archive", f"--output={archive}", revision]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Refused(f"{revision} cannot be had: {done.stderr.strip()}")
        with tarfile.open(archive) as files:
            files.extractall(folder / "source", filter="data")
        yield folder / "source"


@contextlib.contextmanager
def _running(source: Path, workers: int) -> Iterator[Generator]:
    with world.running(account_count=ACCOUNTS, workers=workers, source=source) as running:
        yield Generator(running)


def _in_turns(base: Generator, now: Generator, load: Load, turns: int) -> tuple[list[Measurement], list[Measurement]]:
    runs: tuple[list[Measurement], list[Measurement]] = ([], [])
    for turn in range(turns):
        order = ((base, runs[0]), (now, runs[1]))
        for generator, found in order if turn % 2 else order[::-1]:
            found.append(generator.run(load, seconds=SECONDS, warmup=WARMUP))
    return runs


def _compared(load: Load, base: Sequence[Measurement], now: Sequence[Measurement]) -> str:
    figures: dict[str, tuple[Callable[[Sequence[float]], float], Callable[[Measurement], float]]] = {
        "transfers/s": (statistics.median, lambda run: run.per_second),
        "p50 ms": (statistics.median, lambda run: run.p50_ms),
        "p99 ms": (statistics.median, lambda run: run.p99_ms),
        "server µs": (_lower_quintile, lambda run: run.micros_each("server")),
        "Postgres µs": (_lower_quintile, lambda run: run.micros_each("Postgres")),
    }
    lines = [f"{load}:"]
    for name, (summary, figure) in figures.items():
        before, after = summary([figure(run) for run in base]), summary([figure(run) for run in now])
        lines.append(f"  {name:12} {before:10,.1f} -> {after:10,.1f}   × {after / before:.2f}")
    errors = {reason for run in (*base, *now) for reason in run.errors}
    return "\n".join([*lines, *(["  errors: " + ", ".join(sorted(errors))] if errors else [])])


def _lower_quintile(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 5]


if __name__ == "__main__":
    sys.exit(main())
