"""GetBalance: what a wallet holds, never older than the caller's own last write."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from domain.commands import Command, CustodyChange, ItemTransition
from domain.identity import ItemId, TransactionId
from domain.money import Asset
from domain.postings import Posting, Transaction, TransactionKind, available, held
from domain.settlement import ItemState, Rail
from monay.wallet.v1.money_pb2 import GetBalanceRequest
from sandbox.postgres import Postgres
from tests.books import DOLLAR, ENTROPY, FEE

from .conftest import refused, service
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob")


async def test_all_five_assets_are_told_in_one_order_also_those_that_are_zero(town: Town, ann: Person) -> None:
    """An app draws its list from this without knowing which assets there are."""
    answer = await town.wallet.consumers.GetBalance(GetBalanceRequest(), metadata=ann.token)
    assert [one.asset for one in answer.balances] == ["USDC", "USDT", "PYUSD", "EURC", "USDB"]
    first, second, *_ = answer.balances
    assert (first.available_micros, first.held_micros, first.version) == (100 * DOLLAR, 0, 1)
    assert first.HasField("change_time")
    assert (second.available_micros, second.version) == (0, 0)
    assert not second.HasField("change_time")


async def test_what_came_in_settles_until_a_rail_has_it(town: Town, ann: Person, bob: Person) -> None:
    """It can be spent all the same: settling is the wallet's business and makes nobody wait."""
    made = (await town.pay(ann, bob, 40 * DOLLAR)).transaction
    assert (await town.balance(ann)).settling_micros == 0
    assert (await town.balance(bob)).settling_micros == 40 * DOLLAR
    await town.pay(bob, ann, 10 * DOLLAR)
    assert (await town.balance(ann)).settling_micros == 10 * DOLLAR
    before = await town.balance(bob)
    assert (before.available_micros, before.settling_micros) == (30 * DOLLAR - FEE, 40 * DOLLAR)
    transition = ItemTransition(
        item_id=ItemId(uuid.UUID(made.settlements[0].item_id)),
        expected=frozenset({ItemState.PENDING}),
        state=ItemState.CONFIRMED,
        at=datetime.now(UTC),
    )
    moved = (
        CustodyChange(ann.id, Rail.TEMPO, Asset.USDC, -40 * DOLLAR),
        CustodyChange(bob.id, Rail.TEMPO, Asset.USDC, 40 * DOLLAR),
    )
    await town.books.apply(Command(transitions=(transition,), custody=moved))
    after = await town.balance(bob)
    assert (after.available_micros, after.settling_micros) == (before.available_micros, 0)


async def test_held_money_is_told_apart_and_is_not_available(town: Town, ann: Person) -> None:
    """Money on its way to a bank is still the consumer's, and cannot be spent twice."""
    header = Transaction(
        id=TransactionId(ENTROPY.uuid7()),
        kind=TransactionKind.WITHDRAWAL,
        consumer_id=ann.id,
        counterparty_id=None,
        asset=Asset.USDC,
        micros=30 * DOLLAR,
    )
    hold = Posting(available(ann.id), held(ann.id), Asset.USDC, 30 * DOLLAR)
    await town.books.apply(Command(transactions=(header,), postings=((hold,),), sender=ann.id))
    found = await town.balance(ann)
    assert (found.available_micros, found.held_micros, found.settling_micros) == (70 * DOLLAR, 30 * DOLLAR, 0)


async def test_a_balance_is_never_older_than_the_callers_own_last_write(town: Town, ann: Person, bob: Person) -> None:
    """Read your writes: an app that reloads after paying must not show the money again."""
    for _ in range(10):
        paid = (await town.pay(ann, bob, DOLLAR)).balance
        found = await town.balance(ann)
        assert (found.version, found.available_micros) == (paid.version, paid.available_micros)
        assert found.change_time == paid.change_time


async def test_a_service_reads_any_wallet_that_exists(town: Town, ann: Person) -> None:
    """And learns it when there is none."""
    request = GetBalanceRequest(consumer_id=str(ann.id), asset="USDC")
    (found,) = (await town.wallet.consumers.GetBalance(request, metadata=service())).balances
    assert found.available_micros == 100 * DOLLAR
    nobody = GetBalanceRequest(consumer_id=str(uuid.uuid4()))
    refusal = await refused(town.wallet.consumers.GetBalance(nobody, metadata=service()))
    assert refusal.reason == "CONSUMER_NOT_FOUND"
