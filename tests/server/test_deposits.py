"""Deposit: where to send money, why so, and the same answer however often it is asked for."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio

from monay.wallet.v1 import provider_pb2, transfer_pb2
from monay.wallet.v1.consumer_pb2 import GetConsumerRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.provider_pb2 import GetProviderStatusRequest
from monay.wallet.v1.transfer_pb2 import DepositRequest
from sandbox.postgres import Postgres
from tests.books import DOLLAR

from .conftest import refused, service
from .people import Person, Town, new_town, transfer

pytestmark = pytest.mark.asyncio(loop_scope="module")

USDC_TOKEN = "0x20c0000000000000000000009e8d7eb59b783726"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    settings: dict[str, Any] = {"provider_health_max_age_seconds": 3600, "tempo_tokens": {"USDC": USDC_TOKEN}}
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town"), **settings) as town:
        yield town


async def set_health(town: Town, provider: str = "tempo", *, healthy: bool = True) -> None:
    await town.books.execute(
        "INSERT INTO provider_health VALUES (:provider, :healthy, 'closed', false, 5, 1000000, '', :at)"
        " ON CONFLICT (provider) DO UPDATE SET healthy = :healthy",
        provider=provider,
        healthy=healthy,
        at=datetime.now(UTC),
    )


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    await set_health(town)
    await town.books.execute("DELETE FROM provider_health WHERE provider = 'circle'")
    return await town.settle_in("ann", usdc=10 * DOLLAR)


def deposit(micros: int = 0, *, asset: str = "USDC", request_id: str | None = None, **fields: Any) -> DepositRequest:
    return DepositRequest(
        request_id=request_id or str(uuid.uuid4()), amount=Money(asset=asset, micros=micros), **fields
    )


async def test_tokens_are_sent_to_the_wallets_own_address(town: Town, ann: Person) -> None:
    """The address onboarding gave, with its checksum, the chain's id and the token's contract; and why this way."""
    for source in (transfer_pb2.DEPOSIT_SOURCE_UNSPECIFIED, transfer_pb2.DEPOSIT_SOURCE_CHAIN):
        answer = await town.wallet.consumers.Deposit(deposit(5 * DOLLAR, source=source), metadata=ann.token)
        consumer = (await town.wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=ann.token)).consumer
        assert answer.chain.address == consumer.addresses[0].address
        assert (answer.chain.rail, answer.chain.chain_id) == ("tempo", consumer.addresses[0].chain_id)
        assert answer.chain.token_address.lower() == USDC_TOKEN
        assert (answer.route.provider, answer.route.rail, answer.route.fee.micros) == ("tempo", "tempo", 0)
        assert provider_pb2.ROUTE_REASON_PREFERRED in answer.route.reasons
        assert not answer.replayed


async def test_nothing_moves(town: Town, ann: Person) -> None:
    """It only says where; money is credited when it arrives."""
    before = await town.balance(ann)
    await town.wallet.consumers.Deposit(deposit(5 * DOLLAR), metadata=ann.token)
    assert await town.balance(ann) == before


async def test_a_replay_gives_the_same_instructions_whatever_has_become_of_the_route(town: Town, ann: Person) -> None:
    """Money rule 22: the stored answer comes before routing is asked."""
    request = deposit(5 * DOLLAR)
    first = await town.wallet.consumers.Deposit(request, metadata=ann.token)
    await set_health(town, healthy=False)
    again = await town.wallet.consumers.Deposit(request, metadata=ann.token)
    assert again.replayed
    assert (again.route, again.chain) == (first.route, first.chain)
    refusal = await refused(town.wallet.consumers.Deposit(deposit(5 * DOLLAR), metadata=ann.token))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_ROUTE")


async def test_a_request_id_is_good_for_one_thing(town: Town, ann: Person) -> None:
    """Another amount, or another rpc, under the same id is a client's fault."""
    request = deposit(5 * DOLLAR)
    await town.wallet.consumers.Deposit(request, metadata=ann.token)
    refusal = await refused(
        town.wallet.consumers.Deposit(deposit(6 * DOLLAR, request_id=request.request_id), metadata=ann.token)
    )
    assert refusal.reason == "IDEMPOTENCY_KEY_REUSED"
    bob = await town.settle_in("bob")
    paid = transfer(bob.id, DOLLAR, request_id=request.request_id)
    assert (await refused(town.wallet.consumers.Transfer(paid, metadata=ann.token))).reason == "IDEMPOTENCY_KEY_REUSED"


async def test_validate_only_answers_the_same_and_keeps_nothing(town: Town, ann: Person) -> None:
    """Money rule 25: not even the request id is used."""
    request = deposit(5 * DOLLAR, validate_only=True)
    foretold = await town.wallet.consumers.Deposit(request, metadata=ann.token)
    assert await town.books.execute("SELECT 1 FROM deposits WHERE consumer_id = :id", id=ann.id) == []
    request.validate_only = False
    told = await town.wallet.consumers.Deposit(request, metadata=ann.token)
    assert told == foretold


async def test_a_bank_is_not_promised_before_there_is_one(town: Town, ann: Person) -> None:
    """Without a provider there is no route; with one, an account has to be linked that a wire can be known by."""
    request = deposit(5 * DOLLAR, source=transfer_pb2.DEPOSIT_SOURCE_BANK)
    assert (await refused(town.wallet.consumers.Deposit(request, metadata=ann.token))).reason == "NO_ROUTE"
    await set_health(town, "circle")
    refusal = await refused(town.wallet.consumers.Deposit(request, metadata=ann.token))
    assert refusal.reason == "BANK_ACCOUNT_NOT_FOUND"
    pyusd = deposit(asset="PYUSD", source=transfer_pb2.DEPOSIT_SOURCE_BANK)
    refusal = await refused(town.wallet.consumers.Deposit(pyusd, metadata=ann.token))
    assert (refusal.reason, refusal.metadata) == ("ASSET_UNSUPPORTED", {"asset": "PYUSD"})
    unknown = deposit(source=transfer_pb2.DEPOSIT_SOURCE_BANK, bank_account_id=str(uuid.uuid4()))
    assert (
        await refused(town.wallet.consumers.Deposit(unknown, metadata=ann.token))
    ).reason == "BANK_ACCOUNT_NOT_FOUND"


async def test_a_frozen_wallet_announces_nothing(town: Town, ann: Person) -> None:
    """What arrives is still credited; an invitation to send more is not given."""
    await town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=ann.id)
    assert (await refused(town.wallet.consumers.Deposit(deposit(), metadata=ann.token))).reason == "CONSUMER_FROZEN"


async def test_a_stranger_has_no_address(town: Town) -> None:
    """A service that asks for nobody is told so."""
    await set_health(town)
    request = deposit(consumer_id=str(uuid.uuid4()))
    assert (await refused(town.wallet.consumers.Deposit(request, metadata=service()))).reason == "CONSUMER_NOT_FOUND"


async def test_the_provider_status_says_what_would_carry_a_settlement(town: Town, ann: Person) -> None:
    """The same routing, for each asset: what nobody would carry now is not in the list."""
    status = await town.wallet.consumers.GetProviderStatus(GetProviderStatusRequest(), metadata=ann.token)
    assert {asset: route.provider for asset, route in status.routes.items()} == dict.fromkeys(
        ("USDC", "USDT", "PYUSD", "EURC", "USDB"), "tempo"
    )
    await set_health(town, healthy=False)
    status = await town.wallet.consumers.GetProviderStatus(GetProviderStatusRequest(), metadata=ann.token)
    assert dict(status.routes) == {}
