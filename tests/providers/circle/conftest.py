"""The adapter against the simulator, over HTTP, with everything that it sends looked at on its way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.clock import SystemClock, SystemEntropy
from domain.money import Asset, Money
from providers.circle import CircleConfig, CircleRail, EventRules, Rates, connect, known_tokens
from providers.custodian import CustodyWallet, TransferOrder, order_key
from tests.circle import API_KEY, ENTITY_ID, ENTITY_SECRET, MINT_API_KEY, CircleSandbox

UNIT = 1_000_000
CHAIN = "ARC-TESTNET"
CLOCK = SystemClock()
ENTROPY = SystemEntropy(CLOCK)


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """What goes over it, kept."""

    requests: list[httpx.Request] = field(default_factory=list)
    inner: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was posted there."""
        return [json.loads(one.content) for one in self.requests if one.url.path == path and one.method == "POST"]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def config(circle: CircleSandbox, wire: Wire) -> CircleConfig:
    return CircleConfig(
        wallets_url=circle.url,
        mint_url=circle.url,
        api_key=API_KEY,
        entity_secret=bytes.fromhex(ENTITY_SECRET),
        mint_api_key=MINT_API_KEY,
        wallet_set=circle.wallet_set_id,
        chain=CHAIN,
        tokens=known_tokens(CHAIN),
        request_timeout=timedelta(seconds=2),
        rates=Rates(reads=1_000, writes=1_000),
        events=EventRules(entity_id=ENTITY_ID, certificate_hosts=frozenset({circle.url.removeprefix("http://")})),
        transport=wire,
    )


@pytest.fixture
async def rail(circle: CircleSandbox, config: CircleConfig) -> AsyncIterator[CircleRail]:
    """The adapter. Circle's own limits are off, because tests are in a hurry."""
    circle.configure(rate_limits=False)
    rail = connect(config, clock=CLOCK)
    yield rail
    await rail.close()


@pytest.fixture
def operator_wallet(circle: CircleSandbox) -> CustodyWallet:
    found = circle.operator_wallet(CHAIN)
    return CustodyWallet(found["id"], found["address"].lower())


async def consumer_wallet(rail: CircleRail) -> CustodyWallet:
    """A wallet that nobody has used."""
    made = await rail.wallets.create_wallets(key=order_key(ENTROPY), count=1, own=False)
    assert isinstance(made, list), made
    wallet: CustodyWallet = made[0]
    return wallet


def order(source: CustodyWallet, destination: str, micros: int = UNIT, asset: Asset = Asset.USDC) -> TransferOrder:
    return TransferOrder(
        key=order_key(ENTROPY),
        item_id=ENTROPY.uuid7(),
        amount=Money(asset, micros),
        source=source,
        destination_address=destination,
        ordered_at=CLOCK.now(),
    )


def ordered_again(given: TransferOrder, *, at: datetime | None = None) -> TransferOrder:
    """The same item, ordered once more: another key."""
    return replace(given, key=order_key(ENTROPY), ordered_at=at or CLOCK.now())
