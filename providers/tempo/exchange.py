"""Prices on the StablecoinDEX, as the finalized head shows them. It trades dollars against dollars only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from providers.base import ProviderUnavailable
from providers.market import ExchangePrices, Sale
from providers.tempo import contracts
from providers.tempo.contracts import Tokens
from providers.tempo.endpoints import Call, Endpoint, Endpoints, RpcError, head_of

_QUOTE: Final = "quoteSwapExactAmountIn(address,address,uint128)"

# What the exchange says where it has nothing to give. Anything else is no answer.
_NOTHING: Final = frozenset(
    "0x" + contracts.selector(signature).hex() for signature in ("PairDoesNotExist()", "InsufficientLiquidity()")
)


class TempoExchange:
    """Reads of the exchange through the chain's endpoints."""

    def __init__(self, endpoints: Endpoints, tokens: Tokens) -> None:
        self._endpoints = endpoints
        self._tokens = tokens
        self.assets = frozenset(asset for asset in tokens.assets if asset.is_usd)

    async def prices(self, sales: Sequence[Sale]) -> ExchangePrices:
        return await self._endpoints.read(lambda endpoint: self._prices_at(endpoint, sales))

    async def _prices_at(self, endpoint: Endpoint, sales: Sequence[Sale]) -> ExchangePrices:
        calls: list[Call] = [("eth_getBlockByNumber", ["finalized", False])]
        header, *answers = await endpoint.batch(calls + [self._quote(sale) for sale in sales])
        if header is None or isinstance(header, RpcError):
            raise ProviderUnavailable(f"{endpoint.name}: no finalized head")
        return ExchangePrices(head_of(header, endpoint.name), tuple(_bought(answer, endpoint) for answer in answers))

    def _quote(self, sale: Sale) -> Call:
        sold, bought = self._tokens.address(sale.sell_asset), self._tokens.address(sale.buy_asset)
        data = contracts.pack(_QUOTE, sold, bought, sale.sell_micros)
        return ("eth_call", [{"to": contracts.STABLECOIN_DEX, "data": "0x" + data.hex()}, "finalized"])


def _bought(answer: Any, endpoint: Endpoint) -> int | None:
    if isinstance(answer, RpcError):
        if answer.data[:10] in _NOTHING:
            return None
        raise ProviderUnavailable(f"{endpoint.name}: {answer}")
    return int(answer, 16)
