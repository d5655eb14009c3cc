"""A real Prometheus over the wallet's processes, for the tests of alerts and dashboards and for their plots.

It is the one on PATH, or Debian's package unpacked into build/, which installs nothing: `python -m sandbox.prometheus`
fetches that. `make run` does not need it.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sandbox.component import Component, Refused
from sandbox.endpoints import ROOT

UNPACKED = ROOT / "build" / "prometheus"
ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yaml"
DASHBOARDS = ROOT / "deploy" / "monitoring" / "dashboards"


def program(name: str) -> Path | None:
    """Where `prometheus` or `promtool` is, if it is here."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED / "usr" / "bin"))
    return Path(found) if found else None


def fetch() -> None:
    """Unpack Debian's package into build/. Raises `Refused` where that is not to be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Refused("Prometheus is not on PATH, and this machine has no apt-get to fetch it with.")
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, text=True)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if done.returncode != 0 or not packages:
            raise Refused("Prometheus is not on PATH, and `apt-get download prometheus` failed.")
        subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(UNPACKED)], check=True)


class Prometheus(Component):
    name = "Prometheus"
    program_name = "prometheus"

    def __init__(self, folder: Path, *, port: int, targets: Sequence[str], interval: str = "1s") -> None:
        """Scrape those `host:port`s, with the alert rules of a deployment."""
        super().__init__(folder, port=port)
        self._targets = list(targets)
        self._interval = interval

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self) -> None:
        path = program("prometheus")
        if path is None:
            raise Refused("Prometheus is not here: `python -m sandbox.prometheus` fetches it.")
        config = {
            "global": {"scrape_interval": self._interval, "evaluation_interval": self._interval},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "wallet", "static_configs": [{"targets": self._targets}]}],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        options = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"]
        self._spawn([str(path), f"--web.listen-address=127.0.0.1:{self.port}", *options])

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now. Raises `ValueError` with Prometheus' words for one that it refuses."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series that it had over a span of time."""
        return self._ask("query_range", query=expression, start=str(start), end=str(end), step=str(step))

    def alerts(self) -> dict[str, Any]:
        """The state of each rule."""
        return {rule["name"]: rule for group in self._get("rules")["groups"] for rule in group["rules"]}

    def _ask(self, what: str, **parameters: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(f"{what}?{urllib.parse.urlencode(parameters)}")["result"]
        return found

    def _get(self, what: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/api/v1/{what}")
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        if answer["status"] != "success":
            raise ValueError(answer.get("error", "Prometheus refused"))
        return answer["data"]


def panels(name: str, *, rate_interval: str) -> dict[str, list[tuple[str, str]]]:
    """A dashboard's panels: the queries of each, with their legends, as Grafana would send them."""
    dashboard = json.loads((DASHBOARDS / f"{name}.json").read_text())
    return {
        panel["title"]: [
            (target["expr"].replace("$__rate_interval", rate_interval), target["legendFormat"])
            for target in panel["targets"]
        ]
        for panel in dashboard["panels"]
    }


def measured(expression: str) -> str:
    """What an alert looks at: its expression without the comparison, which has no series while all is well."""
    before, comparison, threshold = expression.strip().rpartition(" < " if " < " in expression else " > ")
    assert comparison, f"no comparison in {expression}"
    float(threshold)
    return before


def main() -> int:
    """Fetch it."""
    try:
        if program("prometheus") is None:
            fetch()
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    print(program("prometheus"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
