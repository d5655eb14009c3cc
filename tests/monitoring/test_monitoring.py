"""Alerts and dashboards under a real Prometheus over a running wallet: what finds nothing warns of nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.component import Refused, free_port
from sandbox.prometheus import ALERTS, DASHBOARDS, Prometheus, fetch, measured, panels, program
from tests.sandbox.wallet_run import ROOT, Run, new_run

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
QUERIES = [
    (dashboard.stem, title, expression)
    for dashboard in sorted(DASHBOARDS.glob("*.json"))
    for title, targets in panels(dashboard.stem, rate_interval="1m").items()
    for expression, _ in targets
]


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Prometheus' own checker; fetched where Debian's packages can be had."""
    path = program("promtool")
    if path is None:
        try:
            fetch()
        except Refused as refused:
            (pytest.fail if os.environ.get("REQUIRE_ALL") == "1" else pytest.skip)(str(refused))
        path = program("promtool")
    assert path is not None
    return path


@pytest.fixture(scope="module")
def accepted(sandbox_folder: Path, promtool: Path) -> Iterator[tuple[Prometheus, str]]:
    """A wallet under Prometheus' eyes while the acceptance plays on it, and what that printed."""
    for run in new_run(sandbox_folder):
        run.start()
        run.wait_greeting()
        host, _, port = run.addresses["HTTP_LISTEN"].rpartition(":")
        targets = [f"{host}:{int(port) + number}" for number in range(2)]
        prometheus = Prometheus(sandbox_folder / "prometheus", port=free_port(), targets=targets)
        prometheus.start()
        try:
            prometheus.wait_ready()
            said = acceptance(run)
            wait_for_figures(prometheus)
            yield prometheus, said
        finally:
            prometheus.stop()


def acceptance(run: Run) -> str:
    """What it prints with few transfers; here it has to pass, not to impress."""
    command = [sys.executable, "-m", "sandbox.acceptance", "--transfers", "100", "--concurrency", "4"]
    environment = {**os.environ, "DATA_DIR": str(run.folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What comes last of what the acceptance leaves behind; an average over an hour needs two scrapes in a row.
LAST = (
    "wallet_day_settled_micros",
    'wallet_day_volume_micros{kind="withdrawal"}',
    "wallet_owed_micros",
    "avg_over_time((max by (provider) (wallet_provider_up))[1h:15s])",
)


def wait_for_figures(prometheus: Prometheus) -> None:
    """Until what happened is in the figures of the day, which are added up now and then, and in a proof."""
    deadline = time.monotonic() + 180
    while not all(prometheus.query(series) for series in LAST):
        assert time.monotonic() < deadline, "the figures of the day never came"
        time.sleep(0.5)


# --- against the running wallet -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_every_alert_looks_at_something(accepted: tuple[Prometheus, str], rule: dict[str, Any]) -> None:
    """What it compares with its threshold has series, so it can fire; and it does not fire at a wallet that is well."""
    prometheus, _ = accepted
    assert prometheus.query(measured(rule["expr"])), rule["expr"]
    assert prometheus.alerts()[rule["alert"]]["health"] == "ok"


def test_no_page_is_sent_for_a_wallet_that_is_well(accepted: tuple[Prometheus, str]) -> None:
    """Whoever is woken for nothing sleeps through the next one."""
    prometheus, _ = accepted
    firing = [name for name, rule in prometheus.alerts().items() if rule["state"] == "firing"]
    assert firing == []


@pytest.mark.parametrize(("dashboard", "title", "expression"), QUERIES)
def test_every_panel_shows_something(
    accepted: tuple[Prometheus, str], dashboard: str, title: str, expression: str
) -> None:
    """A panel without series looks like a quiet day."""
    prometheus, _ = accepted
    assert prometheus.query(expression), f"{dashboard}: {title}"


@pytest.mark.parametrize(
    "series",
    [
        "wallet_provider_up",
        "wallet_settlement_items_hour",
        "wallet_provider_latency_seconds",
        "wallet_provider_success_ratio",
        "wallet_day_active_consumers",
        "wallet_day_settled_micros",
        'wallet_day_volume_micros{kind="deposit"}',
        'wallet_day_volume_micros{kind="withdrawal"}',
        "wallet_day_batches",
        "wallet_consumers",
    ],
)
def test_the_guides_key_metrics_are_there(accepted: tuple[Prometheus, str], series: str) -> None:
    """Provider health and business metrics, one by one as the deployment guide lists them."""
    prometheus, _ = accepted
    assert prometheus.query(series)


def test_the_acceptance_table_names_what_it_could_not_show(accepted: tuple[Prometheus, str]) -> None:
    """Nothing fell short, and a small run does not claim the thousand transactions it did not make."""
    _, said = accepted
    assert re.search(r"\d+ met, 0 MISSED, \d+ not shown here", said)
    assert re.search(r"1,000\+ transactions processed +not shown here", said)
    assert re.search(r"Zero data loss +met", said)


# --- the files alone ----------------------------------------------------------------------------------------------


def test_prometheus_accepts_the_rules(promtool: Path) -> None:
    """Its own checker, over the file that is deployed."""
    done = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guides_alerts_fire_when_they_should(promtool: Path) -> None:
    """Over made-up series, in time that passes as fast as it can be computed."""
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yaml"], cwd=ALERTS.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_every_alert_leads_to_a_chapter_of_the_runbook(rule: dict[str, Any]) -> None:
    """Whoever is woken reads what to do, not how it works."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
