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
from server.signing_keys import SigningKeys
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


def test_the_treasurys_bounds_say_both_ends_of_dollars_only(environment: pytest.MonkeyPatch) -> None:
    """Half a bound would mean to sell everything, or to buy without an end; the exchange trades no euros."""
    environment.setenv("TREASURY_LEAST_MICROS", "USDC=1000000, USDT=2000000")
    environment.setenv("TREASURY_MOST_MICROS", "USDC=5000000, USDT=6000000")
    bounds = read_settings(Role.WORKERS).treasury.bounds
    assert (bounds[Asset.USDC].least, bounds[Asset.USDT].most) == (1_000_000, 6_000_000)
    for most in ("USDC=5000000", "USDC=5000000, USDT=2000000"):
        environment.setenv("TREASURY_MOST_MICROS", most)
        assert [fault.partition(":")[0] for fault in faults(Role.WORKERS)] == [
            "TREASURY_LEAST_MICROS, TREASURY_MOST_MICROS"
        ]
    environment.setenv("TREASURY_LEAST_MICROS", "EURC=1")
    environment.setenv("TREASURY_MOST_MICROS", "EURC=2")
    assert faults(Role.WORKERS) == ["TREASURY_LEAST_MICROS: the exchange trades no EURC"]


# --- signing ----------------------------------------------------------------------------------------------------------

SIGNER = {
    "SIGNER_JOURNAL": "journal",
    "SIGNER_DAILY_LIMITS": "USDC=1000000,EURC=5",
    "SIGNER_DAILY_OUTSIDE_LIMITS": "USDC=10",
}


@pytest.fixture
def signing(environment: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that production accepts, for a signer."""
    for name, value in SIGNER.items():
        environment.setenv(name, value)
    for name in ("CERT", "KEY", "CA"):
        environment.setenv(f"SIGNER_{name}_FILE", str(tmp_path / f"{name.lower()}.pem"))
    return environment


def test_a_signer_has_limits_by_asset_and_needs_neither_tokens_nor_nodes(signing: pytest.MonkeyPatch) -> None:
    for name in ("JWT_PUBLIC_KEY", "JWT_ISSUER", "SEALING_KEYS_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TEMPO_RPC_URL"):
        signing.delenv(name)
    settings = read_settings(Role.SIGNER)
    assert settings.signer_daily_limits == {Asset.USDC: 1_000_000, Asset.EURC: 5}
    assert settings.signer_daily_outside_limits == {Asset.USDC: 10}


@pytest.mark.parametrize("name", ["SIGNER_JOURNAL", "SIGNER_DAILY_LIMITS", "SIGNER_CA_FILE", "TEMPO_SEED"])
def test_a_signer_without_limits_journal_certificates_or_keys_does_not_start(
    signing: pytest.MonkeyPatch, name: str
) -> None:
    signing.delenv(name)
    assert [fault.split(":")[0] for fault in faults(Role.SIGNER)] == [name]


def test_workers_of_a_signer_hold_no_keys_in_production(signing: pytest.MonkeyPatch) -> None:
    signing.setenv("SIGNER_ADDRESS", "127.0.0.1:50061")
    named = {fault.split(":")[0] for fault in faults(Role.WORKERS)}
    assert named == {"TEMPO_PRIVATE_KEY", "TEMPO_FEE_PAYER_KEY", "TEMPO_SEED"}
    for name in named:
        signing.delenv(name)
    assert read_settings(Role.WORKERS).signer_address == "127.0.0.1:50061"


def sealed_keys(folder: Path, environment: pytest.MonkeyPatch) -> None:
    """The keys of the environment, moved into a file by the command that a deployment uses."""
    (folder / "ring.json").write_text(new_key_file(ENTROPY, name="signing"))
    command = [sys.executable, "-m", "server.signing_keys", str(folder / "ring.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "keys.json").write_text(done.stdout)
    environment.setenv("SIGNING_KEYS_FILE", str(folder / "keys.json"))
    environment.setenv("SIGNING_KEYS_RING_FILE", str(folder / "ring.json"))


def test_keys_come_out_of_a_sealed_file_as_they_went_in(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sealed_keys(tmp_path, environment)
    for name in ("TEMPO_PRIVATE_KEY", "TEMPO_FEE_PAYER_KEY", "TEMPO_SEED"):
        environment.delenv(name)
    settings = read_settings(Role.WORKERS)
    assert settings.signing_keys_file is not None
    keys = SigningKeys.read(settings.signing_keys_file, settings.signing_keys_ring_file)
    assert (keys.operator, keys.fee_payer, keys.seed) == (b"\x11" * 32, b"\x22" * 32, b"\x33" * 32)
    text = (tmp_path / "keys.json").read_text()
    assert "11" * 8 not in text
    assert "1111" not in repr(keys)


def test_a_sealed_file_with_another_ring_is_a_fault(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sealed_keys(tmp_path, environment)
    (tmp_path / "ring.json").write_text(new_key_file(ENTROPY, name="signing"))
    assert any("do not open with this ring" in fault for fault in faults(Role.WORKERS))


# --- the edge ---------------------------------------------------------------------------------------------------------


def test_networks_and_the_services_listener_are_checked_at_the_start(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("IP_ALLOW_LIST", "10.0.0.0/8, 192.168.1.7/24")
    environment.setenv("TRUSTED_PROXIES", "the balancer")
    environment.setenv("MTLS_LISTEN", "0.0.0.0:50052")
    named = [fault.split(":")[0] for fault in faults()]
    assert named == ["IP_ALLOW_LIST", "TRUSTED_PROXIES", "MTLS_LISTEN, MTLS_CLIENT_CA_FILE"]
