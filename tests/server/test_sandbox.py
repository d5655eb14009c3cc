"""What a request asks of a provider: a row that a worker answers while the caller waits, or later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from domain.clock import SystemClock
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from server.workers.jobs import Handler, JobWorker
from storage.database import create_engine

from .conftest import ENTROPY, Wallet, consumer, refused, service, serving, wallet_settings

HASH = "0x" + "ab" * 32


@asynccontextmanager
async def working(wallet: Wallet, **handlers: Handler) -> AsyncIterator[None]:
    """A worker that does the jobs of the wallet under test."""
    engine = create_engine(wallet.settings.database_url.get_secret_value())
    stop = asyncio.Event()
    worker = JobWorker(engine=engine, handlers=handlers, clock=SystemClock(), lease=timedelta(seconds=5))
    running = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await engine.dispose()


async def ann(wallet: Wallet) -> Any:
    request = OnboardRequest(email="ann@example.com", phone="+14155550100")
    return (await wallet.consumers.Onboard(request, metadata=service())).consumer


def faucet(**fields: Any) -> FaucetRequest:
    return FaucetRequest(amount=Money(asset="USDC", micros=5_000_000), **fields)


async def test_the_faucet_pays_the_consumers_address_and_says_how(wallet: Wallet) -> None:
    paid: list[dict[str, Any]] = []

    async def pay(body: dict[str, Any]) -> dict[str, Any]:
        paid.append(body)
        return {"reference": HASH}

    made = await ann(wallet)
    async with working(wallet, faucet=pay):
        answer = await wallet.sandbox.Faucet(faucet(), metadata=consumer(made.id))
    assert (answer.address, answer.chain_transaction_hash) == (made.addresses[0].address, HASH)
    assert paid == [{"address": answer.address.lower(), "asset": "USDC", "micros": 5_000_000}]


async def test_a_request_id_is_paid_once_and_its_absence_every_time(wallet: Wallet) -> None:
    paid = 0

    async def pay(_: dict[str, Any]) -> dict[str, Any]:
        nonlocal paid
        paid += 1
        return {"reference": HASH}

    made = await ann(wallet)
    async with working(wallet, faucet=pay):
        request_id = str(ENTROPY.uuid7())
        for given in (request_id, request_id, request_id.upper(), "", ""):
            await wallet.sandbox.Faucet(faucet(request_id=given), metadata=consumer(made.id))
    assert paid == 3


async def test_without_a_worker_the_payment_is_pending_within_the_callers_deadline(wallet: Wallet) -> None:
    """The row stays, and is done when a worker comes."""
    made = await ann(wallet)
    request = faucet(request_id=str(ENTROPY.uuid7()))
    answer = await wallet.sandbox.Faucet(request, metadata=consumer(made.id), timeout=1)
    assert (answer.address, answer.chain_transaction_hash) == (made.addresses[0].address, "")

    async def pay(_: dict[str, Any]) -> dict[str, Any]:
        return {"reference": HASH}

    async with working(wallet, faucet=pay):
        answer = await wallet.sandbox.Faucet(request, metadata=consumer(made.id))
    assert answer.chain_transaction_hash == HASH


async def test_a_faucet_that_nobody_works_is_unavailable(wallet: Wallet) -> None:
    made = await ann(wallet)
    async with working(wallet):
        refusal = await refused(wallet.sandbox.Faucet(faucet(), metadata=consumer(made.id)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert refusal.metadata == {"provider": "tempo"}


async def test_nobody_is_paid_who_is_nobody(wallet: Wallet) -> None:
    request = faucet(consumer_id=str(ENTROPY.uuid7()))
    refusal = await refused(wallet.sandbox.Faucet(request, metadata=service()))
    assert refusal.reason == "CONSUMER_NOT_FOUND"


@pytest.mark.parametrize(
    "changes",
    [
        {"sandbox_enabled": False},
        {"sandbox_enabled": True, "environment": "production", "synchronous_standby": "none"},
    ],
)
async def test_outside_a_sandbox_the_service_does_not_exist(
    service_database: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Not even for an operator: there is nothing to be let into."""
    async with serving(wallet_settings(service_database, tmp_path, **changes)) as wallet:
        refusal = await refused(wallet.sandbox.Faucet(faucet(), metadata=service()))
        assert refusal.code == grpc.StatusCode.UNIMPLEMENTED
        assert refusal.reason == ""
