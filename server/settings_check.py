"""The environment, judged before anything starts: every fault in one message, for the role of a process."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from domain.clock import SystemClock, SystemEntropy
from domain.money import Asset
from server.circle_settings import circle_faults, circle_production_faults
from server.settings import DEVELOPMENT_CHAIN_ID, WORKER_SECRETS, Role, Settings, revealed
from server.signing_keys import SigningKeys
from server.token_keys import ConfiguredKey, KeyUnusable
from storage.sealing import KeyFileUnusable, KeyRing

_TEMPO_KEYS = ("tempo_private_key", "tempo_fee_payer_key", "tempo_seed")


class SettingsFaults(Exception):
    """What is wrong with the environment, fault by fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def read_settings(role: Role) -> Settings:
    """The settings of a process with that role, or every fault of the environment at once."""
    faults: list[str] = []
    bad: set[str] = set()
    try:
        settings = Settings()
    except ValidationError as error:
        faults = [_told(fault) for fault in error.errors(include_url=False, include_context=False)]
        bad = {str(fault["loc"][0]) for fault in error.errors()}
        # The rest is judged as if the bad ones were not set, so that one slip does not hide the next.
        settings = Settings(**{name: Settings.model_fields[name].default for name in bad})
    faults += [fault for name, fault in _contradictions(settings, role) if name not in bad]
    if faults:
        raise SettingsFaults(faults)
    return settings


def _told(fault: Mapping[str, Any]) -> str:
    """One sentence about one variable, without its value: it may be a secret."""
    name, *place = (str(part) for part in fault["loc"])
    where = f" ({'.'.join(place)})" if place else ""
    return f"{name.upper()}{where}: {fault['msg'].removeprefix('Value error, ')}"


Fault = tuple[str, str]
Check = Callable[[Settings], Iterator[Fault]]


def _contradictions(settings: Settings, role: Role) -> Iterator[Fault]:
    """What each variable alone cannot show, as (field, sentence)."""
    checks: list[Check] = [_storage_faults]
    if role is Role.SIGNER:
        checks += [_signer_faults]
    if role in (Role.API, Role.ALL):
        checks += [_identity_faults, _tls_faults, _mtls_faults, _sealing_faults]
    if role in (Role.WORKERS, Role.ALL):
        checks += [_tempo_faults, circle_faults, _treasury_faults]
    if settings.production:
        checks += [_production_faults, circle_production_faults]
    if settings.production and role in (Role.API, Role.ALL):
        checks += [_production_edge_faults]
    if settings.production and role is Role.API:
        checks += [_api_secret_faults]
    for check in checks:
        yield from check(settings)


def _storage_faults(settings: Settings) -> Iterator[Fault]:
    url = settings.database_url.get_secret_value()
    if not url:
        yield "database_url", "DATABASE_URL: is missing"
    elif not urlsplit(url).scheme.startswith("postgres"):
        yield "database_url", "DATABASE_URL: must begin with postgresql://"


def _identity_faults(settings: Settings) -> Iterator[Fault]:
    given = [settings.jwt_jwks_url, settings.jwt_public_key, settings.jwt_secret]
    if sum(one is not None for one in given) != 1:
        yield "jwt_public_key", "JWT_JWKS_URL, JWT_PUBLIC_KEY, JWT_SECRET: set exactly one of them"
    if settings.jwt_secret and len(settings.jwt_secret.get_secret_value()) < 32:
        yield "jwt_secret", "JWT_SECRET: must have at least 32 characters, or it can be guessed"
    if settings.jwt_public_key and not _is_token_key(settings.jwt_public_key):
        yield "jwt_public_key", "JWT_PUBLIC_KEY: is not a public key in PEM, of P-256 or Ed25519"
    if settings.jwt_jwks_url and urlsplit(settings.jwt_jwks_url).scheme not in ("http", "https"):
        yield "jwt_jwks_url", "JWT_JWKS_URL: must begin with https://"


def _is_token_key(pem: str) -> bool:
    try:
        ConfiguredKey.public(pem)
    except KeyUnusable:
        return False
    return True


def _tls_faults(settings: Settings) -> Iterator[Fault]:
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        yield "tls_cert_file", "TLS_CERT_FILE, TLS_KEY_FILE: one without the other is of no use"
    for name in ("tls_cert_file", "tls_key_file"):
        path: Path | None = getattr(settings, name)
        if path is not None and not path.is_file():
            yield name, f"{name.upper()}: there is no file {path}"
            return
    if settings.tls_cert_file and settings.tls_key_file:
        try:
            ssl.create_default_context().load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
        except (ssl.SSLError, OSError) as error:
            yield "tls_cert_file", f"TLS_CERT_FILE, TLS_KEY_FILE: are no certificate with its key ({error})"


def _mtls_faults(settings: Settings) -> Iterator[Fault]:
    if (settings.mtls_listen is None) != (settings.mtls_client_ca_file is None):
        yield "mtls_listen", "MTLS_LISTEN, MTLS_CLIENT_CA_FILE: one without the other is of no use"
    if settings.mtls_listen and settings.tls_cert_file is None:
        yield "mtls_listen", "MTLS_LISTEN: needs TLS_CERT_FILE and TLS_KEY_FILE"
    if settings.mtls_client_ca_file is not None:
        try:
            ssl.create_default_context(cafile=str(settings.mtls_client_ca_file))
        except (ssl.SSLError, OSError) as error:
            yield "mtls_client_ca_file", f"MTLS_CLIENT_CA_FILE: holds no certificates ({type(error).__name__})"


def _sealing_faults(settings: Settings) -> Iterator[Fault]:
    path = settings.sealing_keys_file
    if path is None:
        yield "sealing_keys_file", "SEALING_KEYS_FILE: is missing"
        return
    try:
        KeyRing.read(path, entropy=SystemEntropy(SystemClock()))
    except KeyFileUnusable as fault:
        yield "sealing_keys_file", f"SEALING_KEYS_FILE: {fault}"


def _tempo_faults(settings: Settings) -> Iterator[Fault]:
    if settings.signer_address is not None:
        yield from _remote_signer_faults(settings)
    elif settings.signing_keys_file is not None:
        yield from _sealed_key_faults(settings)
    else:
        keys = _TEMPO_KEYS if not settings.tempo_mock_mode else ("tempo_seed",)
        yield from _missing(settings, *keys)
    if not settings.tempo_mock_mode:
        yield from _missing(settings, "tempo_rpc_url", "tempo_tokens")
    yield from _token_faults(settings)
    yield from _key_faults(settings)


def _key_faults(settings: Settings) -> Iterator[Fault]:
    for name in (*_TEMPO_KEYS, "tempo_faucet_key"):
        secret: SecretStr | None = getattr(settings, name)
        if secret and not _is_hex(secret.get_secret_value(), least=16 if name == "tempo_seed" else 32):
            yield name, f"{name.upper()}: is not a key in hexadecimal digits"


def _treasury_faults(settings: Settings) -> Iterator[Fault]:
    least, most = settings.treasury_least_micros, settings.treasury_most_micros
    for asset in sorted(least.keys() | most.keys()):
        if not asset.is_usd:
            yield "treasury_least_micros", f"TREASURY_LEAST_MICROS: the exchange trades no {asset}"
        elif least.keys() != most.keys() or least[asset] >= most[asset]:
            text = "TREASURY_LEAST_MICROS, TREASURY_MOST_MICROS: say for each asset how little and how much is enough"
            yield "treasury_most_micros", text
            return


def _missing(settings: Settings, *names: str) -> Iterator[Fault]:
    for name in names:
        if not getattr(settings, name):
            yield name, f"{name.upper()}: is missing"


def _token_faults(settings: Settings) -> Iterator[Fault]:
    for asset in Asset if settings.tempo_tokens else ():
        if asset not in settings.tempo_tokens:
            yield "tempo_tokens", f"TEMPO_TOKENS: says nothing about {asset}"


def _remote_signer_faults(settings: Settings) -> Iterator[Fault]:
    yield from _missing(settings, "signer_cert_file", "signer_key_file", "signer_ca_file")
    for name in (*_TEMPO_KEYS, "signing_keys_file"):
        if getattr(settings, name) is not None and settings.production:
            yield name, f"{name.upper()}: with a signer elsewhere (SIGNER_ADDRESS) nothing here holds keys"


def _sealed_key_faults(settings: Settings) -> Iterator[Fault]:
    assert settings.signing_keys_file is not None
    try:
        SigningKeys.read(settings.signing_keys_file, settings.signing_keys_ring_file)
    except KeyFileUnusable as fault:
        yield "signing_keys_file", f"SIGNING_KEYS_FILE, SIGNING_KEYS_RING_FILE: {fault}"


def _signer_faults(settings: Settings) -> Iterator[Fault]:
    yield from _missing(settings, "signer_cert_file", "signer_key_file", "signer_ca_file", "signer_journal")
    yield from _missing(settings, "tempo_tokens", "signer_daily_limits")
    if settings.signing_keys_file is None:
        yield from _missing(settings, *_TEMPO_KEYS)
    else:
        yield from _sealed_key_faults(settings)
    yield from _token_faults(settings)
    yield from _key_faults(settings)


def _is_hex(text: str, *, least: int) -> bool:
    try:
        return len(bytes.fromhex(text.removeprefix("0x"))) >= least
    except ValueError:
        return False


def _production_faults(settings: Settings) -> Iterator[Fault]:
    if settings.tempo_mock_mode:
        yield "tempo_mock_mode", "TEMPO_MOCK_MODE: production moves real money"
    if settings.sandbox_enabled:
        yield "sandbox_enabled", "SANDBOX_ENABLED: production gives no money away"
    if settings.tempo_faucet_key:
        yield "tempo_faucet_key", "TEMPO_FAUCET_KEY: production gives no money away"
    if settings.tempo_chain_id == DEVELOPMENT_CHAIN_ID:
        yield "tempo_chain_id", f"TEMPO_CHAIN_ID: {DEVELOPMENT_CHAIN_ID} is a development chain"


def _production_edge_faults(settings: Settings) -> Iterator[Fault]:
    if settings.tls_cert_file is None and settings.tls_key_file is None:
        yield "tls_cert_file", "TLS_CERT_FILE, TLS_KEY_FILE: are missing, and production speaks TLS only"
    if settings.jwt_issuer is None:
        yield "jwt_issuer", "JWT_ISSUER: is missing; production accepts tokens of one issuer only"
    if settings.jwt_jwks_url and not settings.jwt_jwks_url.startswith("https://"):
        yield "jwt_jwks_url", "JWT_JWKS_URL: must begin with https:// in production"
    if settings.sealing_keys_file and _is_for_development(settings.sealing_keys_file):
        yield "sealing_keys_file", "SEALING_KEYS_FILE: holds development keys"
    if (revealed(settings.jwt_secret) or "").startswith("development"):
        yield "jwt_secret", "JWT_SECRET: is a development key"


def _is_for_development(path: Path) -> bool:
    """Whether the sandbox made the key file: it marks what it makes."""
    try:
        return bool(json.loads(path.read_text()).get("development"))
    except (OSError, ValueError, AttributeError):
        return False


def _api_secret_faults(settings: Settings) -> Iterator[Fault]:
    for name in WORKER_SECRETS:
        if getattr(settings, name.lower()) is not None:
            yield name.lower(), f"{name}: only workers hold it; an API process neither signs nor reaches a provider"
