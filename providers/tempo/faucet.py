"""Development only: real token transfers to anybody, from an account the books know nothing of."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import Final

from pytempo import Call

from domain.money import Asset
from providers.base import ProviderUnavailable
from providers.tempo import contracts
from providers.tempo.contracts import address_bytes
from providers.tempo.endpoints import Endpoint, Endpoints
from providers.tempo.transactions import ChainTerms, build, reference_of

_POLL_SECONDS: Final = 0.1


class TempoFaucet:
    """Pays from one key, which pays its own network fees."""

    def __init__(self, endpoints: Endpoints, terms: ChainTerms, *, key: bytes) -> None:
        self._endpoints, self._terms, self._key = endpoints, terms, key.hex()

    async def fund(self, address: str, asset: Asset, micros: int) -> str:
        """Pay, and return the hash once the payment stands in a block."""
        head = await self._endpoints.head()
        token = address_bytes(self._terms.tokens.address(asset))
        transaction = build(
            [Call(to=token, value=0, data=contracts.transfer(address, micros))],
            self._terms,
            valid_before=head.time + timedelta(seconds=25),
            sponsored=False,
            # Two equal payments in one second would be one transaction to the network; the spare gas tells them apart.
            gas_limit=self._terms.gas_limit(1) + secrets.randbelow(100_000),
        )
        return await send(self._endpoints.named(head.endpoint), transaction.sign(self._key).encode())


async def send(endpoint: Endpoint, payload: bytes, *, timeout: float = 30.0) -> str:
    """Broadcast and wait for the receipt, which must say that it worked. For tools, not for settlement."""
    reference = reference_of(payload)
    await endpoint.call("eth_sendRawTransaction", ["0x" + payload.hex()])
    async with asyncio.timeout(timeout):
        while True:
            receipt = await endpoint.call("eth_getTransactionReceipt", [reference])
            if receipt is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
    if int(receipt["status"], 16) != 1:
        raise ProviderUnavailable(f"{reference} reverted")
    return reference
