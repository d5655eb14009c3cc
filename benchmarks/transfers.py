"""Transfers: the wallet through gRPC beside pgbench on the same database, at several loads, interleaved.

Runs of one kind differ by a fifth from minute to minute, so every repetition runs everybody at every load, each time in
another order, and what counts is the ratio of the medians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import empty
from benchmarks.generator import Generator
from benchmarks.measurement import Load, Measurement, median
from benchmarks.world import World
from benchmarks.yardsticks import SIX_STATEMENTS, TRANSFER, Pgbench

WALLET = "wallet"
SIX = "six statements"
ROW_FOR_ROW = "row for row"
EMPTY = "empty rpc"

LOADS = (Load(1), Load(16), Load(64), Load(256), Load(64, hot=True))

# What is to be reached, as a multiple of the six-statement transfer.
TARGETS = {Load(64): 1.0, Load(256): 2.0, Load(64, hot=True): 3.0}
TARGET_P99_MS = {Load(64): 100.0}


@dataclass(frozen=True, slots=True)
class Bulk:
    """Many transfers in one message."""

    method: str
    rpc: str
    transfers_each: int
    in_flight: int

    def __str__(self) -> str:
        return f"{self.method}, {self.transfers_each:,} each, {self.in_flight} in flight"


BULKS = (
    Bulk("SubmitTransfers", "submit", 100, 8),
    Bulk("SubmitTransfers", "submit", 1_000, 2),
    Bulk("BatchTransfer", "batch", 100, 8),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often to measure."""

    repetitions: int
    seconds: float
    warmup: float


QUICK = Pace(repetitions=1, seconds=2.0, warmup=0.5)
FULL = Pace(repetitions=3, seconds=8.0, warmup=1.0)

Results = dict[Load, dict[str, Measurement]]
Progress = Callable[[str], None]
Runners = dict[str, Callable[[Load], Measurement]]


def measure(world: World, pace: Pace, progress: Progress, *, workers: int) -> Results:
    """The medians of everybody at every load."""
    with empty.running(world, processes=workers) as nothing:
        return _measure(world, _runners(world, nothing, pace), pace, progress)


def _measure(world: World, runners: Runners, pace: Pace, progress: Progress) -> Results:
    if Generator(world).is_smoke:
        progress("there is no go here: the load comes from Python clients, and the wallet's figures are a smoke test")
    progress("warming up")
    for run in runners.values():
        run(Load(16))
    runs: dict[Load, dict[str, list[Measurement]]] = {load: {name: [] for name in runners} for load in LOADS}
    for repetition in range(pace.repetitions):
        for load in LOADS:
            for name in _rotated(list(runners), repetition):
                found = runners[name](load)
                runs[load][name].append(found)
                progress(f"{repetition + 1}/{pace.repetitions}  {load!s:32} {name:16} {_told(found)}")
    return {load: {name: median(found) for name, found in by_name.items()} for load, by_name in runs.items()}


def measure_bulk(world: World, pace: Pace, progress: Progress) -> dict[Bulk, Measurement]:
    """Transfers a second where one message carries many."""
    generator = Generator(world)
    if generator.is_smoke:
        return {}
    runs: dict[Bulk, list[Measurement]] = {bulk: [] for bulk in BULKS}
    for repetition in range(pace.repetitions):
        for bulk, found in runs.items():
            load = Load(bulk.in_flight)
            seconds, warmup = pace.seconds, pace.warmup
            run = generator.run(load, seconds=seconds, warmup=warmup, rpc=bulk.rpc, transfers_each=bulk.transfers_each)
            found.append(run)
            progress(f"{repetition + 1}/{pace.repetitions}  {bulk!s:49} {_told(run)}")
    return {bulk: median(found) for bulk, found in runs.items()}


def ratio(results: Results, load: Load, *, of: str = WALLET, to: str = SIX) -> float:
    """How many of the wallet's transfers there are for each of the yardstick's."""
    return results[load][of].per_second / results[load][to].per_second


def _runners(world: World, nothing: World, pace: Pace) -> Runners:
    generator, on_empty = Generator(world), Generator(nothing)
    pgbench = Pgbench(world.database_url, account_count=world.account_count, postgres_pid=world.processes["Postgres"])
    seconds, warmup = pace.seconds, pace.warmup
    return {
        SIX: lambda load: pgbench.run(SIX_STATEMENTS, load, seconds=seconds, warmup=warmup),
        ROW_FOR_ROW: lambda load: pgbench.run(TRANSFER, load, seconds=seconds, warmup=warmup),
        EMPTY: lambda load: on_empty.run(load, seconds=seconds, warmup=warmup),
        WALLET: lambda load: generator.run(load, seconds=seconds, warmup=warmup),
    }


def _rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def _told(found: Measurement) -> str:
    errors = f"  ERRORS {found.errors}" if found.errors else ""
    return f"{found.per_second:7.0f}/s  p50 {found.p50_ms:6.1f} ms  p99 {found.p99_ms:6.1f} ms{errors}"
