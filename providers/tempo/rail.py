"""The one place where the parts of the Tempo adapter are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from domain.clock import Clock
from domain.money import Asset
from providers.base import Signer
from providers.tempo.contracts import Tokens
from providers.tempo.endpoints import Endpoint, Endpoints
from providers.tempo.exchange import TempoExchange
from providers.tempo.faucet import TempoFaucet
from providers.tempo.keys import LocalSigner
from providers.tempo.provider import TempoProvider
from providers.tempo.reader import TempoReader
from providers.tempo.transactions import ChainTerms


@dataclass(frozen=True, slots=True)
class TempoConfig:
    """Where the chain is, what our tokens are there, and how long we wait. Who signs elsewhere has no keys here.

    `fee_token` is a token in US dollars with liquidity in the fee AMM; our USDC unless told otherwise.
    """

    rpc_urls: Sequence[str]
    chain_id: int
    tokens: Mapping[Asset, str]
    operator_key: bytes = field(default=b"", repr=False)
    fee_payer_key: bytes = field(default=b"", repr=False)
    seed: bytes = field(default=b"", repr=False)
    api_key: str | None = field(default=None, repr=False)
    fee_token: str | None = None
    window: timedelta = timedelta(seconds=25)
    max_head_drift: timedelta = timedelta(seconds=3)
    request_timeout: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class TempoRail:
    """The adapter, ready to work."""

    provider: TempoProvider
    reader: TempoReader
    exchange: TempoExchange
    signer: Signer
    endpoints: Endpoints
    terms: ChainTerms

    def faucet(self, key: bytes) -> TempoFaucet:
        """Development only: pay anybody from the account of this key."""
        return TempoFaucet(self.endpoints, self.terms, key=key)

    async def close(self) -> None:
        await self.endpoints.close()


def connect(config: TempoConfig, *, clock: Clock, signer: Signer | None = None) -> TempoRail:
    """Build the adapter, around a signer elsewhere or one with the keys of `config`. Nothing is sent yet."""
    terms = _terms(config)
    signer = signer or local_signer(config)
    endpoints = Endpoints(_endpoints(config, clock), clock=clock, max_head_drift=config.max_head_drift)
    provider = TempoProvider(
        endpoints, signer, terms, clock=clock, window=config.window, max_head_drift=config.max_head_drift
    )
    operator = signer.operator_address
    reader = TempoReader(endpoints, tokens=terms.tokens, fee_token=terms.fee_token, operator_address=operator)
    return TempoRail(provider, reader, TempoExchange(endpoints, terms.tokens), signer, endpoints, terms)


def local_signer(config: TempoConfig) -> LocalSigner:
    """A signer with the keys of `config`."""
    return LocalSigner(
        operator_key=config.operator_key,
        fee_payer_key=config.fee_payer_key,
        seed=config.seed,
        terms=_terms(config),
    )


def _terms(config: TempoConfig) -> ChainTerms:
    tokens = Tokens(dict(config.tokens))
    return ChainTerms(config.chain_id, tokens, (config.fee_token or tokens.address(Asset.USDC)).lower())


def _endpoints(config: TempoConfig, clock: Clock) -> list[Endpoint]:
    """Endpoints named by their host, and numbered where one host serves several."""
    seen: Counter[str] = Counter()
    endpoints = []
    for url in config.rpc_urls:
        endpoint = Endpoint(url, api_key=config.api_key, timeout=config.request_timeout, clock=clock)
        seen[endpoint.name] += 1
        if seen[endpoint.name] > 1:
            endpoint.name = f"{endpoint.name}#{seen[endpoint.name]}"
        endpoints.append(endpoint)
    return endpoints
