"""The one place where the parts of the Circle adapter are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from domain.clock import Clock
from domain.money import Asset
from providers.base import Retryable
from providers.circle.budget import RateBudget, Rates
from providers.circle.chains import CircleChain
from providers.circle.ciphertext import EntitySecret
from providers.circle.client import CircleClient
from providers.circle.events import CircleEvents, EventRules
from providers.circle.mint import CircleMint, CircleMockWires
from providers.circle.subscriptions import CircleSubscriptions
from providers.circle.wallets import CircleWallets


@dataclass(frozen=True, slots=True, kw_only=True)
class CircleConfig:
    """Where Circle is, who we are there, and how long we wait. Without a key for Mint there is no bank."""

    wallets_url: str
    mint_url: str
    api_key: str = field(repr=False)
    entity_secret: bytes = field(repr=False)
    mint_api_key: str | None = field(default=None, repr=False)
    wallet_set: str
    chain: str
    tokens: Mapping[Asset, str]
    redis_url: str | None = field(default=None, repr=False)
    """Where processes count their requests together."""
    request_timeout: timedelta = timedelta(seconds=15)
    rates: Rates = field(default_factory=Rates)
    events: EventRules
    transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)
    """How requests get there, where somebody wants to see them on their way."""


@dataclass(frozen=True, slots=True)
class CircleRail:
    """The adapter, ready to work."""

    wallets: CircleWallets
    mint: CircleMint | None
    mock_wires: CircleMockWires | None
    events: CircleEvents
    subscriptions: CircleSubscriptions
    clients: tuple[CircleClient, ...]

    name = "circle"

    async def check(self) -> timedelta | Retryable:
        """Whether all that we use of Circle answers: the slower one's time, or what the first to fail said."""
        taken = await self.wallets.check()
        if self.mint is None or isinstance(taken, Retryable):
            return taken
        other = await self.mint.check()
        return other if isinstance(other, Retryable) else max(taken, other)

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        await self.events.close()


def connect(config: CircleConfig, *, clock: Clock) -> CircleRail:
    """Build the adapter. Nothing is sent until something is asked."""
    budget = RateBudget("wallets", clock=clock, redis_url=config.redis_url, rates=config.rates)
    client = CircleClient(
        config.wallets_url,
        api_key=config.api_key,
        budget=budget,
        clock=clock,
        timeout=config.request_timeout,
        product="wallets",
        transport=config.transport,
    )
    wallets = CircleWallets(
        client,
        EntitySecret(config.entity_secret, client),
        CircleChain(config.chain, config.tokens),
        wallet_set=config.wallet_set,
    )
    mint_client = _mint_client(config, clock)
    subscriptions = CircleSubscriptions(client, mint_client)
    return CircleRail(
        wallets=wallets,
        mint=CircleMint(mint_client) if mint_client else None,
        mock_wires=CircleMockWires(mint_client) if mint_client else None,
        events=CircleEvents(client, subscriptions, config.events, clock=clock),
        subscriptions=subscriptions,
        clients=(client, mint_client) if mint_client else (client,),
    )


def _mint_client(config: CircleConfig, clock: Clock) -> CircleClient | None:
    if config.mint_api_key is None:
        return None
    return CircleClient(
        config.mint_url,
        api_key=config.mint_api_key,
        budget=RateBudget("mint", clock=clock, redis_url=config.redis_url, rates=config.rates),
        clock=clock,
        timeout=config.request_timeout,
        product="mint",
        transport=config.transport,
    )
