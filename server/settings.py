"""Everything the environment can say, read once at start and frozen.

The names are those of the deployment guide and of docs/operations.md; what a deployment does not set has a default that
is safe in production, or none. Every fault is found before anything starts, and all of them are told in one message: an
operator who mends one variable after the other has lost a quarter of an hour before the first real look at the service.

Secrets are `SecretStr`, so that neither a log line nor a traceback can print them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.clock import SystemClock, SystemEntropy
from domain.money import Asset
from domain.pricing import FeeSchedule
from domain.routing import RoutingPolicy
from domain.swaps import SwapPolicy
from server.circle_settings import circle_faults, circle_production_faults
from server.origins import Network, networks
from server.token_keys import ConfiguredKey, KeyUnusable
from storage.sealing import KeyFileUnusable, KeyRing

DEVELOPMENT_CHAIN_ID = 31337

_FEES = FeeSchedule()
_SWAPS = SwapPolicy()

# Only workers hold these. The supervisor takes them out of the environment of its API processes, and an API process
# that finds one in production does not start.
WORKER_SECRETS = (
    "TEMPO_PRIVATE_KEY",
    "TEMPO_FEE_PAYER_KEY",
    "TEMPO_SEED",
    "TEMPO_FAUCET_KEY",
    "CIRCLE_API_KEY",
    "CIRCLE_ENTITY_SECRET",
    "CIRCLE_MINT_API_KEY",
)


class Environment(StrEnum):
    """Where the service runs. Production refuses every convenience of a sandbox."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Role(StrEnum):
    """What one process is for. `all` is a supervisor with API processes and a worker process around it."""

    API = "api"
    WORKERS = "workers"
    ALL = "all"


class SettingsFaults(Exception):
    """What is wrong with the environment, fault by fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _token_addresses(value: Any) -> Any:
    """`USDC=0x…,USDT=0x…`, as pairs; what is not of that form is left for the address check to name."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _listed(value)]
    return {asset.strip().upper(): address.strip().lower() for asset, _, address in pairs}


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("is not of the form host:port")
    return value


def _networks(value: Any) -> Any:
    """CIDRs; a network whose host bits are set is refused, because it was meant otherwise."""
    if not isinstance(value, str):
        return value
    try:
        return networks(value)
    except ValueError:
        raise ValueError("is not a list of networks such as 10.0.0.0/8, 2001:db8::/32") from None


Listen = Annotated[str, BeforeValidator(_listen)]
Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
Address = Annotated[str, Field(pattern="^0x[0-9a-f]{40}$")]
Tokens = Annotated[dict[Asset, Address], NoDecode, BeforeValidator(_token_addresses)]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Millionths = Annotated[int, Field(ge=0, lt=1_000_000)]


class Settings(BaseSettings):
    """One field for each variable, whose name is the field's in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False, hide_input_in_errors=True
    )

    environment: Environment = Environment.DEVELOPMENT
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    # Storage.
    database_url: SecretStr = SecretStr("")
    database_owner_url: SecretStr | None = None
    """Used by migrations only; without it they run as DATABASE_URL's role."""
    database_pool_size: Count = 8
    redis_url: SecretStr | None = None
    sealing_keys_file: Path | None = None

    # The edge.
    grpc_listen: Listen = "127.0.0.1:50051"
    http_listen: Listen = "127.0.0.1:9464"
    """Webhooks and metrics. Process i of a supervisor listens on this port + i."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    """Both are read again when they change, for the connections that begin afterwards."""
    mtls_listen: Listen | None = None
    """A second listener for services, whose client certificates must name them as their tokens do (`sub`). With it, the
    first listener takes no service's token."""
    mtls_client_ca_file: Path | None = None
    """Who issues the client certificates."""
    ip_allow_list: Networks = ()
    """Networks whose calls are served; without any, all are. Health checks are answered to everybody."""
    trusted_proxies: Networks = ()
    """Networks of proxies whose `x-forwarded-for` is believed."""
    grpc_max_message_bytes: Count = 4 * 1024 * 1024
    grpc_max_concurrent_streams: Count = 10_000
    """Of one connection: a backend that watches for all its consumers does so over few connections."""
    grpc_max_connection_age_seconds: Seconds | None = None
    default_deadline_seconds: Seconds = 10
    """For calls that bring no deadline of their own; streams need none."""
    longest_deadline_seconds: Seconds = 120
    """No call is worked on for longer, whatever its deadline."""
    consumer_rate_limit: Annotated[int, Field(ge=0)] = 100
    """Calls a minute of one consumer, over all processes that share a cache. 0: no limit; so the next two."""
    service_rate_limit: Annotated[int, Field(ge=0)] = 1_000_000
    operator_rate_limit: Annotated[int, Field(ge=0)] = 1_000
    grace_seconds: Seconds = 20
    """How long calls in flight may take to finish once the process was told to stop."""

    # Identity.
    jwt_jwks_url: str | None = None
    jwt_public_key: str | None = None
    """PEM, P-256 (ES256) or Ed25519 (EdDSA)."""
    jwt_secret: SecretStr | None = None
    """HS256. Whoever can verify tokens can also make them, so production is better off with a public key."""
    jwt_issuer: str | None = None
    jwt_audience: str = "monay-wallet"
    jwt_leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 10

    # The ledger.
    ledger_committers: Count = 1
    ledger_queue_limit: Count = 10_000

    # Tempo.
    tempo_rpc_url: Listed = ()
    tempo_ws_url: str | None = None
    tempo_api_key: SecretStr | None = None
    tempo_chain_id: Count = DEVELOPMENT_CHAIN_ID
    tempo_tokens: Tokens = {}
    tempo_fee_token: Address | None = None
    tempo_private_key: SecretStr | None = None
    tempo_fee_payer_key: SecretStr | None = None
    tempo_seed: SecretStr | None = None
    tempo_faucet_key: SecretStr | None = None
    """Development only: an account outside the books that SandboxService.Faucet pays from."""
    tempo_mock_mode: bool = False
    tempo_mock_file: Path | None = None
    """Where the chain of the mock mode is kept; without it the chain is gone with the process."""
    tempo_start_block: Annotated[int, Field(ge=0)] | None = None
    """Where the watcher of an empty database begins; without it, at the head of that moment."""
    tempo_valid_before_seconds: Annotated[float, Field(gt=0, le=29)] = 25
    """A signed transaction can land until then; the network admits at most 30 seconds."""

    # Circle.
    circle_api_key: SecretStr | None = None
    """Of Circle's Wallets; its prefix says which environment it is for. Without it there is no Circle."""
    circle_entity_secret: SecretStr | None = None
    """Thirty-two bytes in hexadecimal digits; whoever has them moves all that stands in our wallets."""
    circle_wallet_set_id: str | None = None
    circle_mint_api_key: SecretStr | None = None
    """Of Circle Mint, which is another product. Without it there is no bank."""
    circle_entity_id: str | None = None
    """Events of Mint that are about another entity are refused."""
    circle_env: Annotated[str, Field(pattern="^(sandbox|production)$")] = "sandbox"
    circle_chain: Annotated[str, Field(pattern="^[A-Z0-9]+(-[A-Z0-9]+)?$")] | None = None
    """The chain that wallets are on, as Circle calls it; ARC-TESTNET in its sandbox, BASE in production."""
    circle_tokens: Tokens = {}
    """USDC and EURC on that chain, where it is not one of those whose addresses we know."""
    circle_base_url: str | None = None
    """In place of Circle's own hosts, of which its sandbox has two."""
    circle_webhook_url: str | None = None
    """How Circle reaches the webhooks of a worker process from outside; without it they are not subscribed to."""
    circle_sns_topics: Listed = ()
    """Topics of Amazon SNS that Mint's events may come from, besides those that Circle names for our subscription."""
    circle_sns_cert_hosts: Listed = ()
    """Development only: hosts, as host:port, that certificates may come from besides Amazon's."""
    circle_wallet_pool_size: Count = 200
    """Free wallets that the workers keep made ahead."""
    circle_writes_per_second: Count = 5
    """What Circle allows one key, over all processes."""
    circle_reads_per_second: Count = 20

    # The product.
    consumer_wallet_enabled: bool = True
    consumer_default_provider: Annotated[str, Field(pattern="^(tempo|circle)$")] = "tempo"
    consumer_fallback_enabled: bool = True
    consumer_batch_limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    transfer_fee_micros: Annotated[int, Field(ge=0)] = _FEES.transfer_micros
    batch_transfer_fee_micros: Annotated[int, Field(ge=0)] = _FEES.batch_transfer_micros
    withdrawal_fee_micros: Annotated[int, Field(ge=0)] = _FEES.withdrawal_micros
    fx_max_age: Seconds = 86_400
    """Seconds for which a reference rate may be used."""
    swap_dex_spread_micros: Millionths = _SWAPS.dex_spread_micros
    """What the operator earns by a swap of dollars for dollars, in millionths of what it is worth."""
    swap_reference_spread_micros: Millionths = _SWAPS.reference_spread_micros
    """The same for a swap with euros, whose price only the reference rate knows."""
    swap_quote_seconds: Annotated[float, Field(gt=0, le=300)] = _SWAPS.lasts.total_seconds()
    swap_least_micros: Count = _SWAPS.least_micros
    swap_most_micros: Count = _SWAPS.most_micros
    swap_price_bound_micros: Millionths = _SWAPS.price_bound_micros
    """How far the market may move against the operator between quote and swap, in millionths."""
    swap_exposure_micros: Count = _SWAPS.exposure_micros
    """What may be promised of one asset in all swaps that have not settled."""
    dex_price_max_age_seconds: Seconds = _SWAPS.ladder_max_age.total_seconds()
    sandbox_enabled: bool = False

    # The workers.
    settlement_lease_seconds: Seconds = 30
    fee_sweep_threshold_micros: Count = 1_000_000
    """What a consumer's position must owe in fees for a sweep to be worth its share of a chain transaction."""
    address_pool_size: Count = 1_000
    """Free addresses that the workers keep derived ahead, one for each consumer to come."""
    provider_health_max_age_seconds: Seconds = 15
    proof_interval_seconds: Seconds = 60
    proof_max_age_seconds: Seconds = 300

    @property
    def production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @property
    def sandbox(self) -> bool:
        """Whether what only a sandbox has is served."""
        return self.sandbox_enabled and not self.production

    def sealing_keys(self) -> Path:
        """The key file of a process that serves consumers; `read_settings` has seen that it is there."""
        assert self.sealing_keys_file is not None
        return self.sealing_keys_file

    @property
    def circle_chain_name(self) -> str:
        """The chain that wallets at Circle are on."""
        return self.circle_chain or ("BASE" if self.circle_env == "production" else "ARC-TESTNET")

    @property
    def fees(self) -> FeeSchedule:
        return FeeSchedule(
            transfer_micros=self.transfer_fee_micros,
            batch_transfer_micros=self.batch_transfer_fee_micros,
            withdrawal_micros=self.withdrawal_fee_micros,
        )

    @property
    def swaps(self) -> SwapPolicy:
        return SwapPolicy(
            dex_spread_micros=self.swap_dex_spread_micros,
            reference_spread_micros=self.swap_reference_spread_micros,
            lasts=timedelta(seconds=self.swap_quote_seconds),
            least_micros=self.swap_least_micros,
            most_micros=self.swap_most_micros,
            price_bound_micros=self.swap_price_bound_micros,
            exposure_micros=self.swap_exposure_micros,
            ladder_max_age=timedelta(seconds=self.dex_price_max_age_seconds),
        )

    @property
    def routing(self) -> RoutingPolicy:
        return RoutingPolicy(
            default_provider=self.consumer_default_provider,
            fallback_enabled=self.consumer_fallback_enabled,
            health_max_age=timedelta(seconds=self.provider_health_max_age_seconds),
        )


def revealed(secret: SecretStr | None) -> str | None:
    """A secret's text, for the one part that needs it."""
    return None if secret is None else secret.get_secret_value()


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
    if role is not Role.WORKERS:
        checks += [_identity_faults, _tls_faults, _mtls_faults, _sealing_faults]
    if role is not Role.API:
        checks += [_tempo_faults]
    if role in (Role.WORKERS, Role.ALL):
        checks += [circle_faults]
    if settings.production:
        checks += [_production_faults, circle_production_faults]
    if settings.production and role is not Role.WORKERS:
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
    chain = ("tempo_rpc_url", "tempo_tokens", "tempo_private_key", "tempo_fee_payer_key")
    for name in ("tempo_seed", *(chain if not settings.tempo_mock_mode else ())):
        if not getattr(settings, name):
            yield name, f"{name.upper()}: is missing"
    for asset in Asset if settings.tempo_tokens else ():
        if asset not in settings.tempo_tokens:
            yield "tempo_tokens", f"TEMPO_TOKENS: says nothing about {asset}"
    for name in ("tempo_private_key", "tempo_fee_payer_key", "tempo_seed", "tempo_faucet_key"):
        secret: SecretStr | None = getattr(settings, name)
        if secret and not _is_hex(secret.get_secret_value(), least=16 if name == "tempo_seed" else 32):
            yield name, f"{name.upper()}: is not a key in hexadecimal digits"


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
