"""Our five stablecoins on a Tempo dev chain, with everything around them that the real ones find in place.

Tokens from the factory, roles, the operator's float, a faucet account outside the books, liquidity in the fee AMM so
that USDC can pay fees, and two-sided depth on the StablecoinDEX. Each step first looks whether it is done already, so
that a second start costs a few reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final

from eth_abi.abi import encode
from eth_account import Account
from eth_utils.crypto import keccak
from pytempo import Call

from domain.clock import SystemClock
from domain.money import MICROS_PER_UNIT, Asset
from providers.tempo import contracts
from providers.tempo.contracts import Tokens, address_bytes, address_in, pack, selector
from providers.tempo.endpoints import Endpoint, Endpoints, RpcError, block_time
from providers.tempo.faucet import TempoFaucet, send
from providers.tempo.keys import address_of
from providers.tempo.transactions import ChainTerms, build

PATH_USD: Final = "0x20c0000000000000000000000000000000000000"
TOKEN_FACTORY: Final = "0x20fc000000000000000000000000000000000000"
STABLECOIN_DEX: Final = contracts.STABLECOIN_DEX

# Anvil's public development accounts. They hold pathUSD from the first block, and the books know none of them.
DEV_MNEMONIC: Final = "test test test test test test test test test test test junk"
_OUTSIDE_ACCOUNT, _MARKET_MAKER_ACCOUNT, _BANK_ACCOUNT = 3, 4, 9

OPERATOR_FLOAT_MICROS: Final = 10_000_000 * MICROS_PER_UNIT
_OUTSIDE_MICROS: Final = 1_000_000_000 * MICROS_PER_UNIT
_MARKET_MAKER_MICROS: Final = 10_000_000 * MICROS_PER_UNIT
_FEE_PAYER_MICROS: Final = 1_000_000 * MICROS_PER_UNIT
_FEE_POOL_MICROS: Final = 1_000_000 * MICROS_PER_UNIT
_PATH_USD_MICROS: Final = 10_000_000 * MICROS_PER_UNIT
_ORDER_MICROS: Final = 1_000_000 * MICROS_PER_UNIT

# One tick is a thousandth of a percent; the DEX takes orders at every tenth.
_SPREAD_TICKS: Final = 10

_NAMES: Final = {
    Asset.USDC: "USD Coin",
    Asset.USDT: "Tether USD",
    Asset.PYUSD: "PayPal USD",
    Asset.EURC: "Euro Coin",
    Asset.USDB: "Bridge USD",
}


@dataclass(frozen=True, slots=True)
class SeededTokens:
    """Where our tokens are on this chain, and the account that plays everybody else."""

    tokens: dict[Asset, str]
    chain_id: int
    outside_address: str
    outside_key: bytes


@cache
def dev_key(account: int) -> bytes:
    """The private key of one of the chain's public development accounts."""
    Account.enable_unaudited_hdwallet_features()
    return bytes(Account.from_mnemonic(DEV_MNEMONIC, account_path=f"m/44'/60'/0'/0/{account}").key)


async def seed(rpc_url: str, *, operator_key: bytes, fee_payer_key: bytes) -> SeededTokens:
    """Bring the chain to where the wallet can start, from whatever state it is in."""
    async with open_endpoint(rpc_url) as endpoint:
        chain_id = int(await endpoint.call("eth_chainId", []), 16)
        seeder = _Seeder(endpoint, chain_id, operator_key=operator_key, fee_payer_key=fee_payer_key)
        tokens = await seeder.token_addresses()
        await seeder.create_tokens(tokens)
        await seeder.mint(tokens)
        await asyncio.gather(seeder.open_fee_pool(tokens[Asset.USDC]), seeder.open_market(_dollar_tokens(tokens)))
    outside_key = dev_key(_OUTSIDE_ACCOUNT)
    return SeededTokens(tokens, chain_id, address_of(outside_key), outside_key)


async def faucet(rpc_url: str, seeded: SeededTokens, *, to: str, asset: Asset, micros: int) -> str:
    """Pay somebody from the outside account with a real transfer; returns its hash once it stands in a block."""
    tokens = Tokens(seeded.tokens)
    terms = ChainTerms(seeded.chain_id, tokens, tokens.address(Asset.USDC))
    async with open_endpoint(rpc_url) as endpoint:
        endpoints = Endpoints([endpoint], clock=SystemClock(), max_head_drift=timedelta(seconds=3))
        return await TempoFaucet(endpoints, terms, key=seeded.outside_key).fund(to, asset, micros)


async def run_calls(
    endpoint: Endpoint, chain_id: int, calls: Sequence[tuple[str, bytes]], *, key: bytes, gas: int
) -> str:
    """Run any calls as one transaction of the key's owner, who pays in pathUSD, and wait until it stands in a block."""
    head: dict[str, Any] = await endpoint.call("eth_getBlockByNumber", ["latest", False])
    transaction = build(
        [Call(to=address_bytes(target), value=0, data=data) for target, data in calls],
        ChainTerms(chain_id, Tokens({}), PATH_USD),
        valid_before=block_time(head) + timedelta(seconds=25),
        sponsored=False,
        gas_limit=gas,
    )
    return await send(endpoint, transaction.sign(key.hex()).encode())


def _dollar_tokens(tokens: dict[Asset, str]) -> list[str]:
    """The DEX trades dollars against dollars only: it refuses a pair for EURC."""
    return [token for asset, token in tokens.items() if asset.is_usd]


@asynccontextmanager
async def open_endpoint(rpc_url: str) -> AsyncIterator[Endpoint]:
    """One connection set to one node, for the length of a tool's run."""
    endpoint = Endpoint(rpc_url, api_key=None, timeout=timedelta(seconds=10), clock=SystemClock())
    try:
        yield endpoint
    finally:
        await endpoint.close()


def _salt(asset: Asset) -> bytes:
    return keccak(text=f"wallet:{asset}:1")


def _create_token(asset: Asset, operator: str) -> bytes:
    signature = "createToken(string,string,string,address,address,bytes32)"
    values = (_NAMES[asset], str(asset), "USD" if asset.is_usd else "EUR", PATH_USD, operator, _salt(asset))
    return selector(signature) + encode(["string", "string", "string", "address", "address", "bytes32"], values)


class _Seeder:
    """The steps, over one endpoint."""

    def __init__(self, endpoint: Endpoint, chain_id: int, *, operator_key: bytes, fee_payer_key: bytes) -> None:
        self._endpoint, self._chain_id = endpoint, chain_id
        self._operator_key, self._operator = operator_key, address_of(operator_key)
        self._fee_payer = address_of(fee_payer_key)
        self._market_maker = address_of(dev_key(_MARKET_MAKER_ACCOUNT))
        self._outside = address_of(dev_key(_OUTSIDE_ACCOUNT))

    async def token_addresses(self) -> dict[Asset, str]:
        """The factory's addresses follow from creator and salt, so they are known before the tokens exist."""
        views = [pack("getTokenAddress(address,bytes32)", self._operator, _salt(asset)) for asset in Asset]
        answers = await asyncio.gather(*(self._view(TOKEN_FACTORY, view) for view in views))
        return {asset: address_in(answer) for asset, answer in zip(Asset, answers, strict=True)}

    async def create_tokens(self, tokens: dict[Asset, str]) -> None:
        missing = [asset for asset, token in tokens.items() if not await self._exists(token)]
        if not missing:
            return
        give = contracts.transfer(self._operator, _PATH_USD_MICROS)
        await self._run([(PATH_USD, give)], key=dev_key(_BANK_ACCOUNT), gas=1_000_000)
        calls = [(TOKEN_FACTORY, _create_token(asset, self._operator)) for asset in missing]
        await self._run(calls, key=self._operator_key, gas=3_000_000 * len(calls))

    async def mint(self, tokens: dict[Asset, str]) -> None:
        """The float, the faucet's and the market maker's stock. Done once: later mints would be deposits."""
        fresh = [token for token in tokens.values() if await self._number(token, pack("totalSupply()")) == 0]
        await asyncio.gather(*(self._mint_one(token) for token in fresh))
        if tokens[Asset.USDC] in fresh:
            fee_stock = pack("mint(address,uint256)", self._fee_payer, _FEE_PAYER_MICROS)
            await self._run([(tokens[Asset.USDC], fee_stock)], key=self._operator_key, gas=1_000_000)

    async def open_fee_pool(self, usdc: str) -> None:
        """Fees paid in USDC are changed into the validators' pathUSD; without this pool they are not accepted."""
        reserves = await self._view(contracts.FEE_MANAGER, pack("getPool(address,address)", usdc, PATH_USD))
        if int(reserves[-64:], 16) > 0:
            return
        add = pack("mint(address,address,uint256,address)", usdc, PATH_USD, _FEE_POOL_MICROS, self._operator)
        await self._run([(contracts.FEE_MANAGER, add)], key=self._operator_key, gas=3_000_000)

    async def open_market(self, tokens: Sequence[str]) -> None:
        """A pair against pathUSD with flip orders a basis point on either side, which refill one another."""
        states = {token: await self._market_state(token) for token in tokens}
        missing = [token for token, state in states.items() if state == "no pair"]
        if missing:
            pairs = [(STABLECOIN_DEX, pack("createPair(address)", token)) for token in missing]
            await self._run(pairs, key=dev_key(_MARKET_MAKER_ACCOUNT), gas=2_000_000 * len(pairs))
        thin = [token for token, state in states.items() if state != "open"]
        if thin:
            allow = [(token, contracts.approve(STABLECOIN_DEX, contracts.UNLIMITED)) for token in (*thin, PATH_USD)]
            await self._run(allow, key=dev_key(_MARKET_MAKER_ACCOUNT), gas=500_000 * len(allow))
            await asyncio.gather(*(self._place_orders(token) for token in thin))

    async def _mint_one(self, token: str) -> None:
        roles = ("ISSUER_ROLE", "PAUSE_ROLE", "UNPAUSE_ROLE", "BURN_BLOCKED_ROLE")
        calls = [pack("grantRole(bytes32,address)", keccak(text=role), self._operator) for role in roles]
        for holder, micros in (
            (self._operator, OPERATOR_FLOAT_MICROS),
            (self._outside, _OUTSIDE_MICROS),
            (self._market_maker, _MARKET_MAKER_MICROS),
        ):
            calls.append(pack("mint(address,uint256)", holder, micros))
        await self._run([(token, call) for call in calls], key=self._operator_key, gas=4_000_000)

    async def _place_orders(self, token: str) -> None:
        order = "placeFlip(address,uint128,bool,int16,int16)"
        bid = pack(order, token, _ORDER_MICROS, True, -_SPREAD_TICKS, _SPREAD_TICKS)
        ask = pack(order, token, _ORDER_MICROS, False, _SPREAD_TICKS, -_SPREAD_TICKS)
        orders = [(STABLECOIN_DEX, bid), (STABLECOIN_DEX, ask)]
        await self._run(orders, key=dev_key(_MARKET_MAKER_ACCOUNT), gas=10_000_000)

    async def _market_state(self, token: str) -> str:
        quote = "quoteSwapExactAmountIn(address,address,uint128)"
        for sold, bought in ((token, PATH_USD), (PATH_USD, token)):
            try:
                await self._view(STABLECOIN_DEX, pack(quote, sold, bought, 100 * MICROS_PER_UNIT))
            except RpcError as error:
                no_pair = selector("PairDoesNotExist()").hex()
                return "no pair" if no_pair in error.data else "thin"
        return "open"

    async def _exists(self, token: str) -> bool:
        return bool(await self._endpoint.call("eth_getCode", [token, "latest"]) != "0x")

    async def _view(self, target: str, data: bytes) -> str:
        return str(await self._endpoint.call("eth_call", [{"to": target, "data": "0x" + data.hex()}, "latest"]))

    async def _number(self, target: str, data: bytes) -> int:
        return int(await self._view(target, data), 16)

    async def _run(self, calls: Sequence[tuple[str, bytes]], *, key: bytes, gas: int) -> None:
        await run_calls(self._endpoint, self._chain_id, calls, key=key, gas=gas)
