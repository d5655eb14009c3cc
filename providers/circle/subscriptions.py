"""Where Circle sends its webhooks: one endpoint for each product, made once and found again after that."""

from __future__ import annotations

from typing import Any

import structlog

from providers.base import ProviderUnavailable
from providers.circle.amounts import UnreadableAnswer
from providers.circle.client import CircleClient, CircleFault, Refused
from providers.circle.reading import text

log = structlog.get_logger()

WALLETS = "/v2/notifications/subscriptions"
MINT = "/v1/notifications/subscriptions"


class CircleSubscriptions:
    """Subscriptions of both products. Mint allows one endpoint in production, so it is never made twice."""

    def __init__(self, wallets: CircleClient, mint: CircleClient | None) -> None:
        self._wallets = wallets
        self._mint = mint

    async def ensure(self, *, wallets_endpoint: str, mint_endpoint: str) -> None:
        """Subscribe, where that was not done before. Raises `ProviderUnavailable`."""
        if wallets_endpoint not in await self._endpoints(self._wallets, WALLETS):
            await _create(
                self._wallets, WALLETS, {"endpoint": wallets_endpoint, "notificationTypes": ["transactions.*"]}
            )
        if self._mint is not None and mint_endpoint not in await self._endpoints(self._mint, MINT):
            await _create(self._mint, MINT, {"endpoint": mint_endpoint})

    async def topics(self) -> frozenset[str]:
        """The topics of SNS that Mint's events come from, as Circle itself names them."""
        if self._mint is None:
            return frozenset()
        details = [part for one in await _listed(self._mint, MINT) for part in one.get("subscriptionDetails") or ()]
        return frozenset(text(part, "url") for part in details if text(part, "url"))

    async def _endpoints(self, client: CircleClient, path: str) -> set[str]:
        return {text(one, "endpoint") for one in await _listed(client, path)}


async def _listed(client: CircleClient, path: str) -> list[Any]:
    try:
        found = (await client.get(path)).data
    except Refused as refusal:
        raise ProviderUnavailable(f"circle: {refusal}") from refusal
    if not isinstance(found, list):
        raise UnreadableAnswer("the subscriptions are no list")
    return [one for one in found if isinstance(one, dict)]


async def _create(client: CircleClient, path: str, body: dict[str, Any]) -> None:
    try:
        await client.post(path, body)
    except CircleFault as fault:
        raise ProviderUnavailable(f"circle: {fault}") from fault
    log.info("circle.subscribed", path=path)
