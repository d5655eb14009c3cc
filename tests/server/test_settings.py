"""The environment, read once: every fault named in one message, and production without a sandbox's conveniences."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from domain.money import Asset
from server.settings import WORKER_SECRETS, Role, Settings
from server.settings_check import SettingsFaults, read_settings
from storage.sealing import new_key_file

from .conftest import ENTROPY, SIGNING_KEY

ROOT = Path(__file__).parent.parent.parent
TOKENS = ",".join(f"{asset}=0x{index:040x}" for index, asset in enumerate(Asset, 1))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that production accepts, for every role."""
    for name in (*os.environ, *(field.upper() for field in Settings.model_fields)):
        if name.upper() in {field.upper() for field in Settings.model_fields}:
            monkeypatch.delenv(name, raising=False)
    certificate = trustme.CA().issue_cert("wallet.test")
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    (tmp_path / "sealing.json").write_text(new_key_file(ENTROPY, name="2026-01"))
    values = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": "postgresql://wallet:secret@db.test/wallet",
        "TLS_CERT_FILE": str(tmp_path / "cert.pem"),
        "TLS_KEY_FILE": str(tmp_path / "key.pem"),
        "SEALING_KEYS_FILE": str(tmp_path / "sealing.json"),
        "JWT_PUBLIC_KEY": SIGNING_KEY.as_pem(private=False).decode(),
        "JWT_ISSUER": "https://issuer.test",
        "TEMPO_RPC_URL": "https://one.test, https://two.test",
        "TEMPO_CHAIN_ID": "42431",
        "TEMPO_TOKENS": TOKENS,
        "TEMPO_PRIVATE_KEY": "0x" + "11" * 32,
        "TEMPO_FEE_PAYER_KEY": "0x" + "22" * 32,
        "TEMPO_SEED": "33" * 32,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def faults(role: Role = Role.ALL) -> list[str]:
    with pytest.raises(SettingsFaults) as caught:
        read_settings(role)
    return caught.value.faults


def test_a_complete_environment_is_accepted_and_lists_are_split(environment: pytest.MonkeyPatch) -> None:
    settings = read_settings(Role.ALL)
    assert settings.tempo_rpc_url == ("https://one.test", "https://two.test")
    assert settings.tempo_tokens[Asset.USDC] == f"0x{1:040x}"


def test_the_names_of_the_deployment_guide_are_honoured(environment: pytest.MonkeyPatch) -> None:
    """Operators come with that guide in hand."""
    environment.setenv("CONSUMER_WALLET_ENABLED", "false")
    environment.setenv("CONSUMER_DEFAULT_PROVIDER", "circle")
    environment.setenv("CONSUMER_FALLBACK_ENABLED", "false")
    environment.setenv("CONSUMER_BATCH_LIMIT", "250")
    environment.setenv("CIRCLE_API_KEY", "LIVE_API_KEY:id:secret")
    environment.setenv("CIRCLE_ENTITY_SECRET", "44" * 32)
    environment.setenv("CIRCLE_WALLET_SET_ID", "set")
    environment.setenv("CIRCLE_ENTITY_ID", "entity")
    environment.setenv("CIRCLE_ENV", "production")
    environment.setenv("TEMPO_API_KEY", "key")
    settings = read_settings(Role.ALL)
    assert not settings.consumer_wallet_enabled
    assert (settings.consumer_default_provider, settings.consumer_batch_limit) == ("circle", 250)
    assert (settings.circle_entity_id, settings.circle_env) == ("entity", "production")


def test_every_fault_is_named_in_one_message(environment: pytest.MonkeyPatch) -> None:
    """Who mends one variable after the other starts the service five times."""
    environment.setenv("CONSUMER_BATCH_LIMIT", "0")
    environment.setenv("TEMPO_CHAIN_ID", "testnet")
    environment.setenv("GRPC_LISTEN", "everywhere")
    environment.setenv("TEMPO_TOKENS", "USDC=0x123")
    environment.setenv("JWT_SECRET", "short")
    environment.delenv("DATABASE_URL")
    named = {fault.split(":")[0].split(" (")[0] for fault in faults()}
    wrong = {"CONSUMER_BATCH_LIMIT", "TEMPO_CHAIN_ID", "GRPC_LISTEN", "TEMPO_TOKENS", "JWT_SECRET", "DATABASE_URL"}
    assert wrong <= named


def test_no_fault_quotes_a_value(environment: pytest.MonkeyPatch) -> None:
    """The value may be the secret."""
    environment.setenv("TEMPO_SEED", "correct horse battery staple")
    environment.setenv("JWT_PUBLIC_KEY", "-----BEGIN PRIVATE KEY----- very private")
    text = "\n".join(faults())
    assert "TEMPO_SEED" in text
    assert "JWT_PUBLIC_KEY" in text
    assert "horse" not in text
    assert "very private" not in text


def test_secrets_are_not_printed_with_the_settings(environment: pytest.MonkeyPatch) -> None:
    text = repr(read_settings(Role.ALL))
    assert "secret@db" not in text
    assert "11" * 32 not in text


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TLS_CERT_FILE", None, "TLS only"),
        ("JWT_ISSUER", None, "JWT_ISSUER"),
        ("JWT_PUBLIC_KEY", None, "exactly one"),
        ("SEALING_KEYS_FILE", None, "SEALING_KEYS_FILE"),
        ("TEMPO_MOCK_MODE", "true", "TEMPO_MOCK_MODE"),
        ("SANDBOX_ENABLED", "true", "SANDBOX_ENABLED"),
        ("TEMPO_FAUCET_KEY", "0x" + "44" * 32, "TEMPO_FAUCET_KEY"),
        ("TEMPO_CHAIN_ID", "31337", "development chain"),
        ("JWT_JWKS_URL", "http://issuer.test/keys", "https://"),
    ],
)
def test_production_refuses(environment: pytest.MonkeyPatch, name: str, value: str | None, says: str) -> None:
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    if name == "TLS_CERT_FILE":
        environment.delenv("TLS_KEY_FILE")
    assert any(says in fault for fault in faults())


def test_production_refuses_keys_that_a_sandbox_made(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sealing.json").write_text(new_key_file(ENTROPY, name="1", development=True))
    assert any("development keys" in fault for fault in faults())


def test_an_api_process_with_a_signing_key_does_not_start_in_production(environment: pytest.MonkeyPatch) -> None:
    """What strangers talk to must hold nothing that moves money."""
    named = {fault.split(":")[0] for fault in faults(Role.API)}
    assert named == {"TEMPO_PRIVATE_KEY", "TEMPO_FEE_PAYER_KEY", "TEMPO_SEED"}
    for name in WORKER_SECRETS:
        environment.delenv(name, raising=False)
    read_settings(Role.API)


def test_workers_need_no_token_keys_and_no_certificate(environment: pytest.MonkeyPatch) -> None:
    for name in ("JWT_PUBLIC_KEY", "JWT_ISSUER", "SEALING_KEYS_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"):
        environment.delenv(name)
    read_settings(Role.WORKERS)


@pytest.mark.parametrize("contents", ["", "{}", '{"active": "x", "keys": {}, "index_key": ""}', "not json"])
def test_a_sealing_file_that_cannot_be_used_is_a_fault(
    environment: pytest.MonkeyPatch, tmp_path: Path, contents: str
) -> None:
    (tmp_path / "sealing.json").write_text(contents)
    assert any(fault.startswith("SEALING_KEYS_FILE") for fault in faults())


def test_a_certificate_without_its_key_is_a_fault(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = trustme.CA().issue_cert("other.test")
    (tmp_path / "key.pem").write_bytes(other.private_key_pem.bytes())
    assert any("TLS_CERT_FILE" in fault for fault in faults())


def test_the_process_ends_with_2_and_says_all(environment: pytest.MonkeyPatch) -> None:
    """What a person at a terminal sees."""
    environment.setenv("CONSUMER_BATCH_LIMIT", "many")
    environment.setenv("SANDBOX_ENABLED", "true")
    done = subprocess.run([sys.executable, "-m", "server", "all"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "CONSUMER_BATCH_LIMIT" in done.stderr
    assert "SANDBOX_ENABLED" in done.stderr
    assert "Traceback" not in done.stderr
