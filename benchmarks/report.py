"""What was measured: as JSON, as tables in docs/performance.md, as a picture; with the machine it was measured on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from benchmarks.measurement import Load, Measurement
from benchmarks.transfers import EMPTY, ROW_FOR_ROW, SIX, TARGET_P99_MS, TARGETS, WALLET, Bulk, Pace, Results, ratio
from sandbox.endpoints import ROOT

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "transfers.png"

_BEGIN = "<!-- figures: begin (written by `make bench`) -->"
_END = "<!-- figures: end -->"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one `make bench` found out."""

    machine: dict[str, str]
    pace: Pace
    workers: int
    accounts: int
    transfers: Results
    bulk: dict[Bulk, Measurement]
    settlement: tuple[str, ...]
    """What benchmarks/settlement.py said."""

    def as_json(self) -> str:
        shown = asdict(self)
        shown["transfers"] = [
            {"load": asdict(load), "who": name, **asdict(found)}
            for load, by_name in self.transfers.items()
            for name, found in by_name.items()
        ]
        shown["bulk"] = [{**asdict(bulk), **asdict(found)} for bulk, found in self.bulk.items()]
        return json.dumps(shown, indent=2) + "\n"


def machine(database_url: str) -> dict[str, str]:
    """What the figures belong to: hardware, kernel, versions."""
    with psycopg.connect(database_url) as connection:
        version = connection.execute("SHOW server_version").fetchone()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "revision": _said("git", "rev-parse", "--short", "HEAD"),
        "processors": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "grpcio": importlib.metadata.version("grpcio"),
        "Postgres": version[0] if version else "",
        "Go": _said("go", "env", "GOVERSION").removeprefix("go"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def tables(report: Report) -> str:
    """All tables, in Markdown."""
    parts = (_machine(report), _rates(report), _shares(report), _bulks(report), report.settlement)
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def publish(report: Report) -> None:
    """Write the JSON, the picture, and the document's part between the two marks."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json").write_text(report.as_json())
    (RESULTS / "newest.json").write_text(report.as_json())
    _draw(report.transfers)
    before, _, rest = DOCUMENT.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    DOCUMENT.write_text(f"{before}{_BEGIN}\n\n{tables(report)}\n\n{_END}{after}")


def _machine(report: Report) -> Iterator[str]:
    yield ", ".join(f"{name} {value}" for name, value in report.machine.items()) + "."
    pace = report.pace
    yield (
        f"{report.accounts:,} accounts, {report.workers} API processes, {pace.repetitions} interleaved repetitions of "
        f"{pace.seconds:g} seconds, medians."
    )


def _rates(report: Report) -> Iterator[str]:
    yield (
        "| load | six statements | row for row | empty rpc | **wallet** | wallet : six | to reach "
        "| wallet : row for row | empty rpc : six |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for load, by_name in report.transfers.items():
        rates = " | ".join(_rate(by_name[name]) for name in (SIX, ROW_FOR_ROW, EMPTY, WALLET))
        own, rows = ratio(report.transfers, load), ratio(report.transfers, load, to=ROW_FOR_ROW)
        most = ratio(report.transfers, load, of=EMPTY)
        yield f"| {load} | {rates} | **{own:.2f}** | {_target(load)} | {rows:.2f} | {most:.2f} |"


def _rate(found: Measurement) -> str:
    return f"{found.per_second:,.0f}/s, {found.p50_ms:.1f} / {found.p99_ms:.1f} ms"


def _target(load: Load) -> str:
    rate = f"{TARGETS[load]:g}" if load in TARGETS else "–"
    return f"{rate}, p99 < {TARGET_P99_MS[load]:g} ms" if load in TARGET_P99_MS else rate


def _shares(report: Report) -> Iterator[str]:
    yield "| load | wallet: server | Postgres | load generator | six statements: Postgres | pgbench |"
    yield "|---|---|---|---|---|---|"
    for load, by_name in report.transfers.items():
        own, six = by_name[WALLET], by_name[SIX]
        cells = [_share(own, who) for who in ("server", "Postgres", "load")]
        cells += [_share(six, who) for who in ("Postgres", "load")]
        yield f"| {load} | {' | '.join(cells)} |"


def _bulks(report: Report) -> Iterator[str]:
    yield "| many in one message | transfers a second | × six statements at 64 | message p50 / p99 |"
    yield "|---|---|---|---|"
    six = report.transfers[Load(64)][SIX].per_second
    for bulk, found in report.bulk.items():
        waits = f"{found.p50_ms:.0f} / {found.p99_ms:.0f} ms"
        yield f"| {bulk} | {found.per_second:,.0f} | **{found.per_second / six:.1f}** | {waits} |"


def _share(found: Measurement, who: str) -> str:
    return f"{found.processors[who]:.2f} ({found.micros_each(who):,.0f} µs)"


def _draw(results: Results) -> None:
    # Only here: a quick run draws nothing, and matplotlib takes a second.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    colours = {SIX: "#9aa5b1", ROW_FOR_ROW: "#cbd2d9", EMPTY: "#e6c27a", WALLET: "#2f6f4f"}
    figure, (rates, waits) = pyplot.subplots(1, 2, figsize=(11, 4))
    places = range(len(results))
    for number, name in enumerate(colours):
        shifted = [place + (number - 1.5) * 0.21 for place in places]
        found = [by_name[name] for by_name in results.values()]
        rates.bar(shifted, [one.per_second for one in found], 0.19, label=name, color=colours[name])
        waits.bar(shifted, [one.p99_ms for one in found], 0.19, label=name, color=colours[name])
    for axes, title in ((rates, "transfers a second"), (waits, "99th percentile, ms")):
        axes.set_title(title)
        axes.set_xticks(list(places), [str(load).replace(", ", ",\n") for load in results], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    waits.set_yscale("log")
    rates.legend(frameon=False)
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
