"""Every SDK behaves the same: each scenario, played by each language against the same live wallet."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable

import pytest

from tests.sdks.conformance import SCENARIOS, play
from tests.sdks.conftest import RunningWallet
from tests.sdks.driver import Driver, driving

pytestmark = pytest.mark.timeout(300)


def python(face: str) -> list[str]:
    return [sys.executable, "-m", f"tests.sdks.drivers.python_{face}"]


LANGUAGES: dict[str, Callable[[], list[str]]] = {
    "python": lambda: python("async"),
    "python-sync": lambda: python("sync"),
}


@pytest.fixture
async def driver(language: str) -> AsyncIterator[Driver]:
    """The SDK under test, in a process of its own."""
    async with driving(LANGUAGES[language]()) as running:
        yield running


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_sdk_plays(language: str, scenario: str, driver: Driver, running_wallet: RunningWallet) -> None:
    await play(scenario, driver, running_wallet.grpc, running_wallet.token)
