"""`make plots`: the dashboards of deploy/monitoring as pictures, drawn from what a real Prometheus answers.

It needs the wallet of `make run`. A Prometheus of its own scrapes that wallet while the acceptance plays on it a few
times; then every panel's query is asked for the whole time, as Grafana would ask it, and drawn into docs/images.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates as time_axis
from matplotlib import pyplot as plot

from sandbox.component import Refused, free_port
from sandbox.endpoints import ROOT, Endpoints
from sandbox.prometheus import DASHBOARDS, Prometheus, panels, program

IMAGES = ROOT / "docs" / "images"
COLUMNS = 3
STEP_SECONDS = 2
# More lines than this make a panel unreadable; the legend of Grafana scrolls.
MOST_LABELS = 6

Panels = Mapping[str, Sequence[tuple[str, str]]]


def targets(http: str) -> list[str]:
    """The metrics of every process: each has the port after the one before."""
    host, _, first = http.rpartition(":")
    found = []
    for port in range(int(first), int(first) + 32):
        try:
            urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=2).close()
        except (urllib.error.URLError, OSError):
            break
        found.append(f"{host}:{port}")
    if not found:
        raise Refused(f"Nobody shows metrics at {http}.")
    return found


def play(times: int, transfers: int) -> None:
    """Something to see: deposits, transfers, a batch, a swap, a withdrawal, a failover, each time anew."""
    for _ in range(times):
        command = [sys.executable, "-m", "sandbox.acceptance", "--transfers", str(transfers), "--concurrency", "2"]
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode != 0:
            raise Refused("The acceptance fell short: `make acceptance` says where.")
        time.sleep(10)


def draw(name: str, shown: Panels, prometheus: Prometheus, *, start: float, end: float) -> Path:
    """One dashboard as one picture."""
    rows = -(-len(shown) // COLUMNS)
    figure, grid = plot.subplots(rows, COLUMNS, figsize=(5 * COLUMNS, 2.4 * rows), squeeze=False)
    for axes, (title, queries) in zip(grid.flat, shown.items(), strict=False):
        draw_panel(axes, title, queries, prometheus, start=start, end=end)
    for unused in list(grid.flat)[len(shown) :]:
        unused.set_axis_off()
    figure.tight_layout()
    path = IMAGES / f"dashboard-{name}.png"
    figure.savefig(path, dpi=70)
    plot.close(figure)
    return path


def draw_panel(
    axes: Any,
    title: str,
    queries: Sequence[tuple[str, str]],
    prometheus: Prometheus,
    *,
    start: float,
    end: float,
) -> None:
    """All series of one panel, with the names that Grafana would give them."""
    lines = [
        (named(legend, series["metric"]), series["values"])
        for expression, legend in queries
        for series in prometheus.query_range(expression, start=start, end=end, step=STEP_SECONDS)
    ]
    if not lines:
        raise Refused(f"{title}: Prometheus has no series for it.")
    for number, (label, values) in enumerate(sorted(lines, key=lambda line: -float(line[1][-1][1]))):
        when = [moment / 86_400 for moment, _ in values]  # matplotlib counts days
        shown = label if number < MOST_LABELS else None
        axes.plot(when, [float(value) for _, value in values], linewidth=1.2, label=shown)
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(time_axis.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, loc="best")


def named(legend: str, labels: Mapping[str, str]) -> str:
    """`{{provider}} {{state}}` with a series' own values."""
    for label, value in labels.items():
        legend = legend.replace("{{" + label + "}}", value)
    return re.sub(r"\{\{\w+\}\}", "none", legend)


def main() -> int:
    """Draw them all; 1 with one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="make plots", description="Pictures of the dashboards, from a real run.")
    parser.add_argument("--times", type=int, default=4, help="how often the acceptance plays")
    parser.add_argument("--transfers", type=int, default=2_000, help="of how many transfers")
    options = parser.parse_args()
    try:
        if program("prometheus") is None:
            raise Refused("Prometheus is not here: `python -m sandbox.prometheus` fetches Debian's.")
        wallet = Endpoints.read()
        with tempfile.TemporaryDirectory() as folder:
            prometheus = Prometheus(Path(folder), port=free_port(), targets=targets(wallet.http))
            prometheus.start()
            try:
                prometheus.wait_ready()
                start = time.time()
                play(options.times, options.transfers)
                IMAGES.mkdir(exist_ok=True)
                for dashboard in sorted(DASHBOARDS.glob("*.json")):
                    shown = panels(dashboard.stem, rate_interval="15s")
                    print(draw(dashboard.stem, shown, prometheus, start=start, end=time.time()))
            finally:
                prometheus.stop()
    except Refused as refused:
        print(f"make plots: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
