"""A live wallet for the SDKs, tokens for it, and a table of who passed what."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.keys import DevelopmentKeys
from sandbox.token import ALL_SERVICE_SCOPES, Claims, development_token
from tests.sandbox.wallet_run import new_run

TABLE = pytest.StashKey[dict[tuple[str, str], str]]()


@dataclass(frozen=True)
class RunningWallet:
    """Where it is, and the folder with the keys that it trusts."""

    grpc: str
    gateway: str
    folder: Path

    def token(self, kind: str) -> str:
        """A token by its kind: that of a service, or the same one an hour too late."""
        seconds = {"service": 3600, "expired": -3600}[kind]
        claims = Claims("backend", "service", ALL_SERVICE_SCOPES, seconds)
        return development_token(DevelopmentKeys(self.folder / "keys"), claims)


@pytest.fixture(scope="session")
def running_wallet(sandbox_folder: Path) -> Iterator[RunningWallet]:
    """A whole wallet, as `make run` starts it; with RUNNING_WALLET=folder, the one that runs with that DATA_DIR.

    Settlement is simulated: no SDK can tell.
    """
    given = os.environ.get("RUNNING_WALLET")
    if given:
        yield wallet_in(Path(given))
        return
    for run in new_run(sandbox_folder):
        run.start(TEMPO_MOCK_MODE="true")
        run.wait_greeting()
        yield wallet_in(run.folder)


def wallet_in(folder: Path) -> RunningWallet:
    """The wallet whose state is there, by what it has published of itself."""
    published = json.loads((folder / "endpoints.json").read_text())
    return RunningWallet(published["grpc"], published.get("gateway") or "", folder)


@pytest.fixture
def example_environment(running_wallet: RunningWallet) -> dict[str, str]:
    """What the examples of the READMEs read."""
    return {**os.environ, "MONAY_TARGET": running_wallet.grpc, "MONAY_TOKEN": running_wallet.token("service")}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note how each scenario came out."""
    report = yield
    if isinstance(item, pytest.Function) and "scenario" in getattr(item, "fixturenames", ()):
        table = item.config.stash.setdefault(TABLE, {})
        place = (str(item.callspec.params["language"]), str(item.callspec.params["scenario"]))
        if report.when == "call" or report.outcome != "passed":
            table[place] = {"passed": "yes", "failed": "NO", "skipped": "-"}[report.outcome]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table: languages across, scenarios down."""
    table = config.stash.get(TABLE, {})
    if not table:
        return
    languages = list(dict.fromkeys(language for language, _ in table))
    terminalreporter.section("SDK conformance")
    terminalreporter.write_line(f"{'scenario':36}" + "".join(f"{language:>14}" for language in languages))
    for scenario in dict.fromkeys(scenario for _, scenario in table):
        cells = "".join(f"{table.get((language, scenario), ''):>14}" for language in languages)
        terminalreporter.write_line(f"{scenario:36}{cells}")
    path = os.environ.get("CONFORMANCE_JSON")
    if path:
        Path(path).write_text(json.dumps([[*place, outcome] for place, outcome in table.items()]))
