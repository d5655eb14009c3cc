"""GetPortfolio: what there is, what it is worth, where it stands, and what a day has changed."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from domain.clock import SystemClock
from domain.money import Asset
from monay.wallet.v1.money_pb2 import GetPortfolioRequest, GetPortfolioResponse, Money
from monay.wallet.v1.transfer_pb2 import WithdrawRequest
from sandbox.postgres import Postgres
from storage import portfolios
from tests.books import DOLLAR, FEE, payment

from .conftest import refused, service
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

EURO = 1_080_000
OUTSIDE = "0x" + "cd" * 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest.fixture(autouse=True)
def rates_are_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.services.rates.REREAD_SECONDS", 0)


async def portfolio(town: Town, person: Person) -> GetPortfolioResponse:
    answer: GetPortfolioResponse = await town.wallet.consumers.GetPortfolio(
        GetPortfolioRequest(), metadata=person.token
    )
    return answer


async def set_rate(town: Town, micros: int = EURO) -> None:
    await town.books.execute(
        "INSERT INTO reference_rates (pair, rate_micros, source, quoted_at) VALUES ('EUR/USD', :rate, 'test', :at)"
        " ON CONFLICT (pair) DO UPDATE SET rate_micros = :rate, quoted_at = :at",
        rate=micros,
        at=datetime.now(UTC),
    )


async def grow_old(town: Town, person: Person, *, days: int) -> None:
    """Let everything that has happened so far have happened days ago."""
    await town.books.execute(
        "UPDATE entries SET created_at = created_at - make_interval(days => :days) WHERE consumer_id = :id",
        days=days,
        id=person.id,
    )


async def test_dollars_without_a_rate_and_euros_never(town: Town) -> None:
    """Who holds no euros needs no rate; who holds one is told that nobody knows what it is worth."""
    ann = await town.settle_in("ann", usdc=10 * DOLLAR)
    found = await portfolio(town, ann)
    assert found.total_usd_micros == 10 * DOLLAR
    assert (found.eur_usd_micros, found.HasField("rate_time")) == (0, False)
    emma = await town.settle_in("emma", EURC=1)
    refusal = await refused(town.wallet.consumers.GetPortfolio(GetPortfolioRequest(), metadata=emma.token))
    assert refusal.reason == "RATE_TOO_OLD"


async def test_all_assets_are_there_with_worth_and_place(town: Town) -> None:
    """One line for each asset, also those that are empty, and the positions that workers last confirmed."""
    await set_rate(town)
    ann = await town.settle_in("ann", usdc=100 * DOLLAR, EURC=10 * DOLLAR, USDT=DOLLAR)
    bob = await town.settle_in("bob")
    await town.pay(ann, bob, 30 * DOLLAR)
    found = await portfolio(town, ann)
    assert [one.balance.asset for one in found.assets] == list(Asset)
    lines = {one.balance.asset: one for one in found.assets}
    assert lines["USDC"].value_usd_micros == 70 * DOLLAR - FEE
    assert lines["EURC"].value_usd_micros == 10_800_000
    assert found.total_usd_micros == 70 * DOLLAR - FEE + 10_800_000 + DOLLAR
    assert (found.eur_usd_micros, lines["PYUSD"].value_usd_micros) == (EURO, 0)
    assert abs(found.rate_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert [(one.rail, one.micros) for one in lines["USDC"].positions] == [("tempo", 100 * DOLLAR)]
    assert list(lines["PYUSD"].positions) == []

    received = {one.balance.asset: one for one in (await portfolio(town, bob)).assets}["USDC"]
    assert (received.balance.available_micros, received.balance.settling_micros) == (30 * DOLLAR, 30 * DOLLAR)
    assert list(received.positions) == [], "nothing stands on a rail for him yet"


async def test_held_money_is_still_the_consumers(town: Town) -> None:
    """A withdrawal under way changes what can be spent, and not yet what there is."""
    await town.books.execute(
        "INSERT INTO provider_health VALUES ('tempo', true, 'closed', false, 5, 1000000, '', now())"
        " ON CONFLICT (provider) DO UPDATE SET checked_at = now()"
    )
    await town.books.execute("INSERT INTO destination_checks VALUES ('USDC', :to, true, now())", to=OUTSIDE)
    ann = await town.settle_in("ann", usdc=100 * DOLLAR)
    request = WithdrawRequest(
        request_id=str(uuid.uuid4()), amount=Money(asset="USDC", micros=40 * DOLLAR), address=OUTSIDE
    )
    await town.wallet.consumers.Withdraw(request, metadata=ann.token)
    line = (await portfolio(town, ann)).assets[0]
    assert (line.balance.available_micros, line.balance.held_micros) == (60 * DOLLAR - FEE, 40 * DOLLAR + FEE)
    assert line.value_usd_micros == 100 * DOLLAR


async def test_the_change_of_a_day_is_what_moved_and_not_what_the_rate_did(town: Town) -> None:
    """Both ends are valued at today's rate; what is older than a day is where the change starts from."""
    await set_rate(town, EURO)
    ann = await town.settle_in("ann", usdc=100 * DOLLAR, EURC=10 * DOLLAR)
    bob = await town.settle_in("bob")
    fresh = await portfolio(town, ann)
    assert fresh.change_usd_micros == fresh.total_usd_micros, "all of it came today"

    await grow_old(town, ann, days=2)
    assert (await portfolio(town, ann)).change_usd_micros == 0
    await set_rate(town, 2 * EURO)
    assert (await portfolio(town, ann)).change_usd_micros == 0
    await town.pay(ann, bob, 30 * DOLLAR)
    await town.pay(ann, bob, 5 * DOLLAR, asset="EURC")
    lines = {one.balance.asset: one.change_usd_micros for one in (await portfolio(town, ann)).assets}
    assert lines == {
        "USDC": -(30 * DOLLAR + FEE),
        "EURC": -(5 * DOLLAR + FEE) * 2 * EURO // DOLLAR,
        "USDT": 0,
        "PYUSD": 0,
        "USDB": 0,
    }


async def test_a_stranger_has_no_portfolio(town: Town) -> None:
    """A service that asks for nobody is told so."""
    request = GetPortfolioRequest(consumer_id=str(uuid.uuid4()))
    assert (
        await refused(town.wallet.consumers.GetPortfolio(request, metadata=service()))
    ).reason == "CONSUMER_NOT_FOUND"


@pytest.mark.parametrize("seed", range(10))
async def test_what_was_held_at_a_time_is_found_by_halving(town: Town, seed: int) -> None:
    """The last entry before any moment, whatever the history: the same as reading all of it."""
    chance = random.Random(seed)
    ann, bob = await town.books.open(2, usdc=1_000 * DOLLAR)
    for _ in range(chance.randrange(12)):
        sender, recipient = chance.sample([ann, bob], 2)
        await town.books.apply(payment(sender, recipient, chance.randrange(1, DOLLAR)))
    now = SystemClock().now()
    rows = await town.books.execute(
        "SELECT version, available_after + held_after AS held FROM entries"
        " WHERE consumer_id = :id AND asset = 'USDC' ORDER BY version",
        id=ann,
    )
    times = sorted(now - timedelta(minutes=chance.randrange(100)) for _ in rows)
    for row, time in zip(rows, times, strict=True):
        await town.books.execute(
            "UPDATE entries SET created_at = :time WHERE consumer_id = :id AND asset = 'USDC' AND version = :version",
            time=time,
            id=ann,
            version=row.version,
        )
    for minutes in range(-1, 102, 3):
        moment = now - timedelta(minutes=minutes)
        expected = [row.held for row, time in zip(rows, times, strict=True) if time < moment]
        async with town.books.engine.connect() as tx:
            found = await portfolios.held_before(tx, ann, {Asset.USDC: len(rows)}, moment)
        assert found.get(Asset.USDC, 0) == (expected[-1] if expected else 0)
