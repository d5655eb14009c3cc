"""Alice and Bob: consumers that every development wallet has, so that the first calls somebody pastes do something.

They come in through the front door, by rpc. Fixed request ids make that repeatable: every start asks, only the first
one onboards and pays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import NAMESPACE_DNS, uuid5

import grpc

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import GetBalanceRequest, GetBalanceResponse, Money
from monay.wallet.v1.operations_service_pb2 import SetReferenceRateRequest
from monay.wallet.v1.operations_service_pb2_grpc import OperationsServiceStub
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from monay.wallet.v1.sandbox_service_pb2_grpc import SandboxServiceStub

Answer = TypeVar("Answer")

TIMEOUT_SECONDS = 60
FUNDS_MICROS = 250_000_000
EUR_USD_MICROS = 1_080_000


@dataclass(frozen=True)
class Residents:
    """The ids of the two."""

    alice: str
    bob: str


async def settle_in(address: str, token: str, *, operator_token: str) -> Residents:
    """Onboard both, let the faucet pay Alice once, and say what a euro is worth.

    Raises grpc.aio.AioRpcError, TimeoutError.
    """
    metadata = grpc.aio.Metadata(("authorization", f"Bearer {token}"))
    async with grpc.aio.insecure_channel(address) as channel:
        await _set_rate(channel, operator_token)
        wallet, sandbox = ConsumerWalletServiceStub(channel), SandboxServiceStub(channel)
        ids = {}
        for name, phone in (("Alice", "+14155551001"), ("Bob", "+14155551002")):
            person = OnboardRequest(
                email=f"{name.lower()}@example.com", phone=phone, full_name=name, request_id=_request_id(name)
            )
            ids[name] = (await _patiently(partial(wallet.Onboard, person, metadata=metadata))).consumer.id
        funds = Money(asset="USDC", micros=FUNDS_MICROS)
        gift = FaucetRequest(consumer_id=ids["Alice"], request_id=_request_id("faucet"), amount=funds)
        await _patiently(partial(sandbox.Faucet, gift, metadata=metadata))
        await _credited(partial(wallet.GetBalance, GetBalanceRequest(consumer_id=ids["Alice"]), metadata=metadata))
        return Residents(alice=ids["Alice"], bob=ids["Bob"])


async def _set_rate(channel: grpc.aio.Channel, operator_token: str) -> None:
    """Without a fresh rate of the euro, whatever moves EURC is refused. Every start refreshes it."""
    rate = SetReferenceRateRequest(
        base_currency="EUR", quote_currency="USD", rate_micros=EUR_USD_MICROS, source="sandbox"
    )
    metadata = grpc.aio.Metadata(("authorization", f"Bearer {operator_token}"))
    await _patiently(partial(OperationsServiceStub(channel).SetReferenceRate, rate, metadata=metadata))


async def _credited(get_balance: Callable[..., Awaitable[GetBalanceResponse]]) -> None:
    """Wait until what the faucet paid on chain has been seen and booked; at a later start it was long ago."""
    for _ in range(TIMEOUT_SECONDS * 10):
        if any(balance.version for balance in (await _patiently(get_balance)).balances):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


async def _patiently(call: Callable[..., Awaitable[Answer]]) -> Answer:
    """Call again while the workers still prepare what it needs: addresses, the chain's health."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
    while True:
        try:
            return await call(timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.2)


def _request_id(what: str) -> str:
    return str(uuid5(NAMESPACE_DNS, f"{what}.sandbox.wallet.monay.com"))
