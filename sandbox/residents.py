"""Alice and Bob: consumers that every development wallet has, so that the first calls somebody pastes do something.

They come in through the front door, by rpc. Fixed request ids make that repeatable: every start asks, only the first
one onboards and pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_DNS, uuid5

import grpc

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from monay.wallet.v1.sandbox_service_pb2_grpc import SandboxServiceStub

TIMEOUT_SECONDS = 20
FUNDS_MICROS = 250_000_000


@dataclass(frozen=True)
class Residents:
    """The ids of the two."""

    alice: str
    bob: str


async def settle_in(address: str, token: str) -> Residents:
    """Onboard both, and let the faucet pay Alice once. Raises grpc.RpcError."""
    async with grpc.aio.insecure_channel(address) as channel:
        residents = Residents(
            alice=await _onboard(channel, token, name="Alice", phone="+14155551001"),
            bob=await _onboard(channel, token, name="Bob", phone="+14155551002"),
        )
        funds = Money(asset="USDC", micros=FUNDS_MICROS)
        request = FaucetRequest(consumer_id=residents.alice, request_id=_request_id("faucet"), amount=funds)
        await SandboxServiceStub(channel).Faucet(request, timeout=TIMEOUT_SECONDS, metadata=_metadata(token))
        return residents


async def _onboard(channel: grpc.aio.Channel, token: str, *, name: str, phone: str) -> str:
    email = f"{name.lower()}@example.com"
    request = OnboardRequest(email=email, phone=phone, full_name=name, request_id=_request_id(name))
    stub = ConsumerWalletServiceStub(channel)
    answer = await stub.Onboard(request, timeout=TIMEOUT_SECONDS, metadata=_metadata(token))
    return answer.consumer.id


def _request_id(what: str) -> str:
    return str(uuid5(NAMESPACE_DNS, f"{what}.sandbox.wallet.monay.com"))


def _metadata(token: str) -> grpc.aio.Metadata:
    return grpc.aio.Metadata(("authorization", f"Bearer {token}"))
