"""The rails that the settings name, for the process that may reach them. A further provider begins with a line here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydantic import SecretStr

from domain.clock import Clock, Entropy
from domain.money import Asset
from providers import circle, simulated, tempo
from providers.base import ChainReader, Faucet, ProviderUnavailable, SettlementProvider, Signer
from providers.market import Exchange, Trader
from server.process import StartRefused
from server.settings import Settings, revealed
from server.signing_keys import SigningKeys

log = structlog.get_logger()

# py_ecc, far below web3, lifts it to a hundred thousand on import: then whatever is nested deeply enough, a body from a
# stranger for one, overflows the stack and ends the process where it would have raised an exception.
sys.setrecursionlimit(1_000)


@dataclass(frozen=True, slots=True)
class Connected:
    """A provider's parts, whichever provider it is."""

    provider: SettlementProvider
    reader: ChainReader
    exchange: Exchange
    signer: Signer
    faucet: Faucet | None
    trader: Trader | None
    """Where the treasury can sell, if it can."""
    close: Callable[[], Awaitable[None]]


def connect(settings: Settings, *, clock: Clock, entropy: Entropy, signer: Signer | None = None) -> Connected:
    """Tempo, or with TEMPO_MOCK_MODE a chain in memory under its name. Nothing is sent yet."""
    if settings.tempo_mock_mode:
        return _simulated(settings, clock, entropy)
    return _tempo(settings, clock, signer)


def connect_circle(settings: Settings, *, clock: Clock) -> circle.CircleRail | None:
    """Circle, where there is a key for it. Nothing is sent yet."""
    if settings.circle_api_key is None:
        return None
    wallets_url, mint_url = _circle_urls(settings)
    config = circle.CircleConfig(
        wallets_url=wallets_url,
        mint_url=mint_url,
        api_key=settings.circle_api_key.get_secret_value(),
        entity_secret=_key(settings.circle_entity_secret),
        mint_api_key=revealed(settings.circle_mint_api_key),
        wallet_set=settings.circle_wallet_set_id or "",
        chain=settings.circle_chain_name,
        tokens=_circle_tokens(settings),
        redis_url=revealed(settings.redis_url),
        rates=circle.Rates(reads=settings.circle_reads_per_second, writes=settings.circle_writes_per_second),
        events=circle.EventRules(
            entity_id=settings.circle_entity_id,
            topics=frozenset(settings.circle_sns_topics),
            certificate_hosts=frozenset(settings.circle_sns_cert_hosts),
        ),
    )
    return circle.connect(config, clock=clock)


def _circle_urls(settings: Settings) -> tuple[str, str]:
    """Where Wallets and Mint are. Wallets has one host for both environments: the key's prefix tells them apart."""
    if settings.circle_base_url:
        return settings.circle_base_url, settings.circle_base_url
    in_sandbox = settings.circle_env == "sandbox"
    return "https://api.circle.com", "https://api-sandbox.circle.com" if in_sandbox else "https://api.circle.com"


def _circle_tokens(settings: Settings) -> Mapping[Asset, str]:
    chain = settings.circle_chain_name
    tokens = {**circle.known_tokens(chain), **settings.circle_tokens}
    if Asset.USDC not in tokens:
        raise StartRefused(f"CIRCLE_TOKENS: says nothing about USDC, and its address on {chain} is not known here.")
    return {asset: address for asset, address in tokens.items() if asset in (Asset.USDC, Asset.EURC)}


async def require_chain(rail: Connected, settings: Settings, *, clock: Clock, stop: asyncio.Event) -> None:
    """Wait for the chain, which may be away, and refuse another one than the settings name."""
    while not stop.is_set():
        try:
            found = await rail.reader.chain_id()
        except ProviderUnavailable as error:
            log.warning("workers.waiting_for_chain", detail=str(error)[:200])
            await clock.sleep(1.0)
            continue
        if found != settings.tempo_chain_id and not settings.tempo_mock_mode:
            raise StartRefused(f"TEMPO_CHAIN_ID is {settings.tempo_chain_id}, but the node's chain is {found}.")
        return


def _tempo(settings: Settings, clock: Clock, signer: Signer | None) -> Connected:
    rail = tempo.connect(tempo_config(settings), clock=clock, signer=signer)
    faucet = rail.faucet(_key(settings.tempo_faucet_key)) if settings.sandbox and settings.tempo_faucet_key else None
    return Connected(rail.provider, rail.reader, rail.exchange, rail.signer, faucet, rail.provider, rail.close)


def heads(settings: Settings, *, wake: asyncio.Event, clock: Clock) -> list[tempo.TempoHeads]:
    """Who hears of new heads over a WebSocket, where there is an address for it."""
    if settings.tempo_mock_mode or not settings.tempo_ws_url:
        return []
    return [tempo.TempoHeads(settings.tempo_ws_url, api_key=revealed(settings.tempo_api_key), wake=wake, clock=clock)]


def tempo_config(settings: Settings) -> tempo.TempoConfig:
    """Tempo as the settings describe it, with keys where this process holds them."""
    keys = _signing_keys(settings)
    return tempo.TempoConfig(
        rpc_urls=settings.tempo_rpc_url,
        chain_id=settings.tempo_chain_id,
        tokens=settings.tempo_tokens,
        operator_key=keys.operator,
        fee_payer_key=keys.fee_payer,
        seed=keys.seed,
        api_key=revealed(settings.tempo_api_key),
        fee_token=settings.tempo_fee_token,
        window=timedelta(seconds=settings.tempo_valid_before_seconds),
    )


def _signing_keys(settings: Settings) -> SigningKeys:
    if settings.signer_address is not None:
        return SigningKeys(b"", b"", b"")
    if settings.signing_keys_file is not None:
        return SigningKeys.read(settings.signing_keys_file, settings.signing_keys_ring_file)
    operator, fee_payer = _key(settings.tempo_private_key), _key(settings.tempo_fee_payer_key)
    return SigningKeys(operator, fee_payer, _key(settings.tempo_seed))


def _simulated(settings: Settings, clock: Clock, entropy: Entropy) -> Connected:
    config = simulated.SimulatedConfig(
        seed=_key(settings.tempo_seed),
        name="tempo",
        block_seconds=0.5,
        path=settings.tempo_mock_file,
        window=timedelta(seconds=settings.tempo_valid_before_seconds),
    )
    rail = simulated.connect(config, clock=clock, entropy=entropy)
    return Connected(rail.provider, rail.reader, rail.exchange, rail.signer, rail.faucet, None, rail.close)


def _key(secret: SecretStr | None) -> bytes:
    """The one place where a key leaves the settings."""
    assert secret is not None, "the settings were checked for this role"
    return bytes.fromhex(secret.get_secret_value().removeprefix("0x"))
