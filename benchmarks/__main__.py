"""`make bench`: transfers beside pgbench, and settlement, on servers of their own.

make bench                    everything, about ten minutes; brings docs/performance.md up to date
make bench ARGS=--quick       a minute, printed only
make bench ARGS=--history     pages of a history of five million entries, a few minutes, printed only
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys

from benchmarks import books, history, report, transfers, world
from benchmarks.generator import Generator
from benchmarks.measurement import Load
from benchmarks.world import World
from benchmarks.yardsticks import TRANSFER, Pgbench
from sandbox.component import Refused
from sandbox.endpoints import ROOT

ACCOUNTS = 10_000
WORKERS = 2


def main() -> int:
    """Measure, prove the books, report."""
    parser = argparse.ArgumentParser(prog="make bench", description="Figures of the wallet, measured on this machine.")
    parser.add_argument("--quick", action="store_true", help="a minute, one repetition, nothing written")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS, help="consumers to pay each other")
    parser.add_argument("--workers", type=int, default=WORKERS, help="API processes")
    parser.add_argument("--history", action="store_true", help="pages of a long history, and nothing else")
    options = parser.parse_args()
    if options.history:
        return _history()
    pace = transfers.QUICK if options.quick else transfers.FULL
    try:
        with world.running(account_count=options.accounts, workers=options.workers) as running:
            _require_same_rows(running)
            results = transfers.measure(running, pace, _say, workers=options.workers)
            bulk = transfers.measure_bulk(running, pace, _say)
            proven = asyncio.run(books.require_clean(running.database_url))
            machine = report.machine(running.database_url)
        settled = _settlement(quick=options.quick)
    except Refused as refusal:
        print(f"make bench: {refusal}", file=sys.stderr)
        return 1
    _say(f"books clean: {proven} balances proven after the run")
    found = report.Report(
        machine=machine,
        pace=pace,
        workers=options.workers,
        accounts=options.accounts,
        transfers=results,
        bulk=bulk,
        settlement=settled,
    )
    print("\n" + report.tables(found))
    if not options.quick:
        report.publish(found)
    return 0


def _history() -> int:
    try:
        _say("\n".join(history.measure()))
    except Refused as refusal:
        print(f"make bench: {refusal}", file=sys.stderr)
        return 1
    return 0


def _settlement(*, quick: bool) -> tuple[str, ...]:
    """Settlement end to end, which has a world of its own with a chain in it."""
    sizes = ["--items", "2000", "--consumers", "200"] if quick else ["--items", "10000", "--runs", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.settlement", *sizes], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        _say(line.rstrip())
        lines.append(line.rstrip())
    if process.wait() != 0:
        raise Refused("Settlement could not be measured; what was said is above.")
    return tuple(f"* Settlement: {line}" for line in lines if "finalized per second" in line)


def _require_same_rows(running: World) -> None:
    """transfer.sql is a yardstick only as long as it writes what the wallet writes."""
    Generator(running).run(Load(1), seconds=0.2, warmup=0.0)
    ours = books.newest_transfer(running.database_url)
    pgbench = Pgbench(
        running.database_url, account_count=running.account_count, postgres_pid=running.processes["Postgres"]
    )
    pgbench.run(TRANSFER, Load(1), seconds=0.2, warmup=0.0)
    theirs = books.newest_transfer(running.database_url)
    for table, rows in ours.items():
        if rows != theirs[table]:
            raise Refused(
                f"transfer.sql does not write what a transfer writes in {table}:\n{theirs[table]}\nnot\n{rows}"
            )


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
