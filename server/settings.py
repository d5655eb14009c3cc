"""Everything the environment can say, read once at start and frozen.

The names are those of the deployment guide and of docs/operations.md; what a deployment does not set has a default that
is safe in production, or none. Every fault is found before anything starts, and all of them are told in one message: an
operator who mends one variable after the other has lost a quarter of an hour before the first real look at the service.

Secrets are `SecretStr`, so that neither a log line nor a traceback can print them.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.pricing import FeeSchedule
from domain.routing import BankTerms, RoutingPolicy
from domain.swaps import SwapPolicy
from domain.treasury import Bounds, TreasuryPolicy
from server.settings_types import Address, Count, Listed, Listen, MicrosByAsset, Millionths, Networks, Seconds, Tokens

DEVELOPMENT_CHAIN_ID = 31337

_FEES = FeeSchedule()
_SWAPS = SwapPolicy()
_BANK = BankTerms()
_TREASURY = TreasuryPolicy()

# Only workers hold these. The supervisor takes them out of the environment of its API processes, and an API process
# that finds one in production does not start.
WORKER_SECRETS = (
    "TEMPO_PRIVATE_KEY",
    "TEMPO_FEE_PAYER_KEY",
    "TEMPO_SEED",
    "TEMPO_FAUCET_KEY",
    "SIGNING_KEYS_FILE",
    "SIGNER_KEY_FILE",
    "CIRCLE_API_KEY",
    "CIRCLE_ENTITY_SECRET",
    "CIRCLE_MINT_API_KEY",
)


class Environment(StrEnum):
    """Where the service runs. Production refuses every convenience of a sandbox."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Role(StrEnum):
    """What one process is for. `all` is a supervisor with API processes and a worker process around it; a `signer`
    holds the keys in the workers' place.
    """

    API = "api"
    WORKERS = "workers"
    ALL = "all"
    SIGNER = "signer"


class Standby(StrEnum):
    """Where a commit is before it counts, besides the disk of the database."""

    REQUIRED = "required"
    MANAGED = "managed"
    NONE = "none"


class Settings(BaseSettings):
    """One field for each variable, whose name is the field's in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False, hide_input_in_errors=True
    )

    environment: Environment = Environment.DEVELOPMENT
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    otel_exporter_otlp_endpoint: Annotated[str, Field(pattern="^https?://")] | None = None
    """Where traces are sent, by OTLP over gRPC. Without it there are none, and they cost nothing."""

    # Storage.
    database_url: SecretStr = SecretStr("")
    database_owner_url: SecretStr | None = None
    """Used by migrations only; without it they run as DATABASE_URL's role."""
    database_pool_size: Count = 8
    synchronous_standby: Standby = Standby.REQUIRED
    """In production, whether a second machine has each commit before it counts: with `required` the server looks for
    it, `managed` says that the storage below Postgres sees to it, `none` that a lost disk may lose commits."""
    redis_url: SecretStr | None = None
    sealing_keys_file: Path | None = None

    # The edge.
    grpc_listen: Listen = "127.0.0.1:50051"
    http_listen: Listen = "127.0.0.1:9464"
    """Webhooks and metrics. Process i of a supervisor listens on this port + i."""
    probe_listen: Listen | None = None
    """Health alone, without TLS, for probes that speak none. Process i of a supervisor listens on this port + i."""
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
    """Where new heads are announced. They wake the watcher, which without them asks four times a second."""
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

    # Signing: with keys of the workers' own (TEMPO_… above, or sealed in a file), or by a signer elsewhere.
    signing_keys_file: Path | None = None
    """The three keys, sealed by `python -m server.signing_keys`; in place of the variables."""
    signing_keys_ring_file: Path | None = None
    """The key ring that opens it; from another store, or the seal is worth little."""
    signer_address: Listen | None = None
    """Where the signer listens. Its workers hold no keys."""
    signer_listen: Listen = "127.0.0.1:50061"
    signer_cert_file: Path | None = None
    signer_key_file: Path | None = None
    """What a signer and its workers show each other: each its own certificate."""
    signer_ca_file: Path | None = None
    """Who issues the other side's certificate."""
    signer_client_name: str = "workers"
    """The name in the certificate of those whom the signer signs for."""
    signer_journal: Path | None = None
    """The folder where the signer writes down what it signed; it must outlive the process."""
    signer_daily_limits: MicrosByAsset = {}
    """What the signer moves in a UTC day, in micros by asset; an asset without a limit it does not move."""
    signer_daily_outside_limits: MicrosByAsset = {}
    """What of it may go to addresses that are neither a consumer's nor the operator's."""

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
    bank_least_micros: Count = _BANK.least_micros
    """The smallest deposit or withdrawal through a bank."""
    bank_most_micros: Count = _BANK.most_micros
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
    treasury_least_micros: MicrosByAsset = {}
    """How little of each dollar the treasury is content with on Tempo. Below that it buys on the exchange."""
    treasury_most_micros: MicrosByAsset = {}
    """How much of each. Above that it sells."""
    treasury_worst_price_micros: Millionths = _TREASURY.worst_price_micros
    """How far below one for one such a trade may go, in millionths."""
    treasury_sale_most_micros: Count = _TREASURY.most_micros
    """What one such trade sells at most."""
    dex_price_max_age_seconds: Seconds = _SWAPS.ladder_max_age.total_seconds()
    sandbox_enabled: bool = False

    # The workers.
    settlement_lease_seconds: Seconds = 30
    bank_poll_seconds: Seconds = 10
    """How often the bank rail is looked at when no event wakes its worker."""
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
    def wants_standby(self) -> bool:
        return self.production and self.synchronous_standby is Standby.REQUIRED

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
    def treasury(self) -> TreasuryPolicy:
        least, most = self.treasury_least_micros, self.treasury_most_micros
        return TreasuryPolicy(
            bounds={asset: Bounds(least[asset], most[asset]) for asset in least.keys() & most.keys()},
            worst_price_micros=self.treasury_worst_price_micros,
            most_micros=self.treasury_sale_most_micros,
        )

    @property
    def bank(self) -> BankTerms:
        return BankTerms(least_micros=self.bank_least_micros, most_micros=self.bank_most_micros)

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
