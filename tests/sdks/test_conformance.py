"""Every SDK behaves the same: each scenario, played by each language against the same live wallet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import cache

import pytest

from tests.sdks.conformance import SCENARIOS, play
from tests.sdks.conftest import RunningWallet
from tests.sdks.driver import Driver, driving
from tests.sdks.languages import AT_HAND, LANGUAGES, Language

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """How to run the driver of a language, built when it is first asked for."""

    @cache
    def command(name: str) -> list[str]:
        language = LANGUAGES[name]
        language.require()
        return language.driver(tmp_path_factory.mktemp(name))

    return command


@pytest.fixture
async def driver(language: str, built: Callable[[str], list[str]]) -> AsyncIterator[Driver]:
    """The SDK under test, in a process of its own."""
    async with driving(built(language)) as running:
        yield running


def marked(language: Language) -> object:
    return pytest.param(language.name, marks=[] if language in AT_HAND else pytest.mark.sdk)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("language", [marked(language) for language in LANGUAGES.values()])
async def test_sdk_plays(language: str, scenario: str, driver: Driver, running_wallet: RunningWallet) -> None:
    await play(scenario, driver, running_wallet.grpc, running_wallet.token)
