"""Settings of Circle: a key of the wrong environment never gets as far as a request."""

from __future__ import annotations

import pytest

from domain.clock import SystemClock
from server.process import StartRefused
from server.rails import connect_circle
from server.settings import Role, Settings
from server.settings_check import SettingsFaults, read_settings
from tests.circle import CREDENTIALS

SANDBOX = {
    **CREDENTIALS,
    "CIRCLE_WALLET_SET_ID": "c1c1e000-0000-4000-8000-000000000001",
    "CIRCLE_ENV": "sandbox",
    "SEALING_KEYS_FILE": "sealing.json",
}
PRODUCTION = {
    **SANDBOX,
    "CIRCLE_API_KEY": "LIVE_API_KEY:id:secret",
    "CIRCLE_MINT_API_KEY": "LIVE_API_KEY:id:secret",
    "CIRCLE_ENV": "production",
}


def faults(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **changes: str) -> list[str]:
    """What is said about Circle by a worker that finds this environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {**environment, **changes}.items():
        monkeypatch.setenv(name, value)
    try:
        read_settings(Role.WORKERS)
    except SettingsFaults as found:
        return [one for one in found.faults if one.startswith("CIRCLE") or "CIRCLE" in one]
    return []


@pytest.mark.parametrize("environment", [SANDBOX, PRODUCTION], ids=["sandbox", "production"])
def test_keys_of_their_environment_are_accepted(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    assert faults(monkeypatch, environment) == []


@pytest.mark.parametrize(
    ("environment", "name", "key"),
    [
        (PRODUCTION, "CIRCLE_API_KEY", "TEST_API_KEY:id:secret"),
        (PRODUCTION, "CIRCLE_MINT_API_KEY", "SAND_API_KEY:id:secret"),
        (SANDBOX, "CIRCLE_API_KEY", "LIVE_API_KEY:id:secret"),
        (SANDBOX, "CIRCLE_MINT_API_KEY", "LIVE_API_KEY:id:secret"),
        (SANDBOX, "CIRCLE_API_KEY", "SAND_API_KEY:id:secret"),
        (SANDBOX, "CIRCLE_MINT_API_KEY", "TEST_API_KEY:id:secret"),
    ],
)
def test_a_key_of_the_other_environment_or_product_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str, key: str
) -> None:
    """Circle itself answers such a key with anything from 401 to 500, hours later."""
    [fault] = faults(monkeypatch, environment, **{name: key})
    assert fault.startswith(f"{name}: does not begin with ")
    assert key not in fault, "not even a wrong key is printed"


@pytest.mark.parametrize(
    ("environment", "name", "value"),
    [
        (SANDBOX, "CIRCLE_CHAIN", "BASE"),
        (PRODUCTION, "CIRCLE_CHAIN", "BASE-SEPOLIA"),
        (SANDBOX, "CIRCLE_ENTITY_SECRET", "11" * 31),
        (SANDBOX, "CIRCLE_ENTITY_SECRET", "no hex"),
        (PRODUCTION, "CIRCLE_BASE_URL", "http://circle.test"),
    ],
)
def test_what_does_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str, value: str
) -> None:
    [fault] = faults(monkeypatch, environment, **{name: value})
    assert fault.startswith(name)


@pytest.mark.parametrize("name", ["CIRCLE_ENTITY_SECRET", "CIRCLE_WALLET_SET_ID"])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    left = {given: value for given, value in SANDBOX.items() if given != name}
    [fault] = faults(monkeypatch, left)
    assert fault == f"{name}: is missing, and CIRCLE_API_KEY is set"


def test_a_bank_needs_the_keys_that_open_bank_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {given: value for given, value in SANDBOX.items() if given != "SEALING_KEYS_FILE"}
    [fault] = faults(monkeypatch, left)
    assert fault.startswith("SEALING_KEYS_FILE")


@pytest.mark.parametrize(
    ("name", "value"),
    [("CIRCLE_SNS_CERT_HOSTS", "127.0.0.1:58080"), ("CIRCLE_WEBHOOK_URL", "http://wallet.test")],
)
def test_production_believes_amazon_alone_and_hears_circle_over_tls_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    [fault] = faults(monkeypatch, PRODUCTION, ENVIRONMENT="production", **{name: value})
    assert fault.startswith(name)


def test_a_sandbox_key_in_production_is_refused_whatever_circle_env_says(monkeypatch: pytest.MonkeyPatch) -> None:
    found = faults(monkeypatch, SANDBOX, ENVIRONMENT="production")
    assert any(fault.startswith("CIRCLE_ENV: must be production") for fault in found)


def test_a_chain_whose_tokens_nobody_knows_needs_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, PRODUCTION, CIRCLE_CHAIN="ARC") == []
    with pytest.raises(StartRefused, match="CIRCLE_TOKENS"):
        connect_circle(Settings(), clock=SystemClock())
