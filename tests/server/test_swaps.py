"""QuoteSwap and Swap, as an app sees them: a price that holds, taken once, with both balances in the answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.commands import Command, CustodyChange, Request
from domain.identity import OPERATOR, TransactionId, body_hash, request_key
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, operator_account
from domain.settlement import Rail
from domain.swaps import Ladder, Rung
from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1.consumer_pb2 import GetLimitsRequest
from monay.wallet.v1.money_pb2 import Money
from monay.wallet.v1.transaction_pb2 import ListTransactionsRequest, WatchTransactionsRequest
from monay.wallet.v1.transfer_pb2 import QuoteSwapRequest, SwapQuote, SwapRequest, SwapResponse
from sandbox.postgres import Postgres
from storage import dex_ladders, rates
from storage.rates import EUR_USD, Rate
from tests.books import DOLLAR, ENTROPY, Books

from .conftest import refused
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOAT = 10_000 * DOLLAR
EXPOSURE = 2_000 * DOLLAR


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    async with new_town(postgres, migrated_template, folder, swap_exposure_micros=EXPOSURE) as town:
        for asset in (Asset.USDC, Asset.USDT, Asset.EURC):
            await town.books.apply(float_in(asset, FLOAT))
        yield town


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def market(town: Town) -> None:
    """A basis point on each side of the dollar and a fresh rate; what was promised before counts as settled."""
    await set_prices(town.books)
    await town.books.execute("UPDATE settlement_items SET group_id = NULL WHERE sender = :operator", operator=OPERATOR)


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=500 * DOLLAR, EURC=100 * DOLLAR)


def float_in(asset: Asset, micros: int) -> Command:
    """Money that the operator put on the rail."""
    transaction = Transaction(
        id=TransactionId(ENTROPY.uuid7()),
        kind=TransactionKind.FLOAT,
        consumer_id=OPERATOR,
        counterparty_id=None,
        asset=asset,
        micros=micros,
    )
    outside, treasury = operator_account(AccountKind.EXTERNAL_TEMPO), operator_account(AccountKind.TREASURY)
    name = str(ENTROPY.uuid7())
    return Command(
        transactions=(transaction,),
        postings=((Posting(outside, treasury, asset, micros),),),
        request=Request(OPERATOR, request_key(caller="test", request_id=name), body_hash("Float", name)),
        custody=(CustodyChange(OPERATOR, Rail.TEMPO, asset, micros),),
    )


async def set_prices(
    books: Books, *, bought_of_1000: int = 999_800_000, eur_usd: int = 1_080_000, age: timedelta = timedelta()
) -> None:
    """What the worker would have read on the exchange, and the rate an operator would have set."""
    now = datetime.now(UTC) - age
    rungs = tuple(Rung(units * DOLLAR, units * bought_of_1000 // 1_000) for units in (10, 100, 1_000))
    async with books.engine.begin() as tx:
        await tx.exec_driver_sql("DELETE FROM dex_ladders")
        await tx.exec_driver_sql("DELETE FROM reference_rates")
        await dex_ladders.record(tx, [Ladder(Asset.USDC, Asset.USDT, rungs, 1, now)])
        await rates.set_rate(tx, EUR_USD, Rate(eur_usd, datetime.now(UTC)), source="test", now=datetime.now(UTC))


def ask(micros: int, *, sell: str = "USDC", buy: str = "USDT") -> QuoteSwapRequest:
    return QuoteSwapRequest(sell=Money(asset=sell, micros=micros), buy_asset=buy)


async def quoted(town: Town, person: Person, micros: int, *, sell: str = "USDC", buy: str = "USDT") -> SwapQuote:
    answer = await town.wallet.consumers.QuoteSwap(ask(micros, sell=sell, buy=buy), metadata=person.token)
    quote: SwapQuote = answer.quote
    return quote


def take(quote: SwapQuote, *, request_id: str | None = None, **fields: Any) -> SwapRequest:
    return SwapRequest(request_id=request_id or str(uuid.uuid4()), quote_id=quote.id, **fields)


async def swapped(town: Town, person: Person, request: SwapRequest) -> SwapResponse:
    answer: SwapResponse = await town.wallet.consumers.Swap(request, metadata=person.token)
    return answer


async def test_a_quote_of_dollars_comes_from_the_exchange(town: Town, ann: Person) -> None:
    """100 USDC at 0.9998 are 99.98, of which five hundredths of a percent stay with the operator, to the micro."""
    quote = await quoted(town, ann, 100 * DOLLAR)
    assert (quote.source, quote.buy.asset, quote.buy.micros) == ("dex", "USDT", 99_930_010)
    assert (quote.spread.asset, quote.spread.micros) == ("USDT", 49_990)
    assert quote.rate_micros == 999_300
    assert quote.expire_time.ToDatetime() - quote.create_time.ToDatetime() == timedelta(seconds=30)


async def test_a_quote_of_euros_comes_from_the_reference_rate(town: Town, ann: Person) -> None:
    """10 EURC at 1.08 are 10.80, less half a percent."""
    quote = await quoted(town, ann, 10 * DOLLAR, sell="EURC", buy="USDC")
    assert (quote.source, quote.buy.micros, quote.spread.micros) == ("reference", 10_746_000, 54_000)


async def test_a_swap_answers_with_both_balances_and_can_be_spent_at_once(town: Town, ann: Person) -> None:
    """One transaction, shown once in the history, that counts towards no limit and costs no fee."""
    before = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    quote = await quoted(town, ann, 100 * DOLLAR)
    answer = await swapped(town, ann, take(quote))
    shown = answer.transaction
    assert shown.kind == transaction_pb2.TRANSACTION_KIND_SWAP
    assert shown.direction == transaction_pb2.DIRECTION_BOTH
    assert (shown.amount.micros, shown.bought, shown.fee.micros) == (100 * DOLLAR, quote.buy, 0)
    assert not shown.HasField("counterparty")
    assert [settlement.amount.asset for settlement in shown.settlements] == ["USDC", "USDT"]
    sold, bought = answer.balances
    assert (sold.asset, sold.available_micros) == ("USDC", 400 * DOLLAR)
    assert (bought.asset, bought.available_micros, bought.version) == ("USDT", quote.buy.micros, 1)
    assert (await town.balance(ann, "USDT")).available_micros == quote.buy.micros
    listed = await town.wallet.consumers.ListTransactions(ListTransactionsRequest(), metadata=ann.token)
    [found] = [one for one in listed.transactions if one.id == shown.id]
    assert found.bought == quote.buy
    of_usdt = await town.wallet.consumers.ListTransactions(ListTransactionsRequest(asset="USDT"), metadata=ann.token)
    assert [one.id for one in of_usdt.transactions] == [shown.id]
    after = await town.wallet.consumers.GetLimits(GetLimitsRequest(), metadata=ann.token)
    assert after.used_usd_micros == before.used_usd_micros


async def test_a_swap_is_made_once_when_it_is_sent_twice(town: Town, ann: Person) -> None:
    """The same request id answers the same, also when the price is gone meanwhile; another one is told whose it is."""
    quote = await quoted(town, ann, 10 * DOLLAR)
    request = take(quote)
    first = await swapped(town, ann, request)
    await town.books.execute("DELETE FROM dex_ladders")
    again = await swapped(town, ann, request)
    assert again.replayed
    assert (again.transaction.id, list(again.balances)) == (first.transaction.id, list(first.balances))
    assert (await town.balance(ann)).available_micros == 490 * DOLLAR
    refusal = await refused(swapped(town, ann, take(quote)))
    assert (refusal.reason, refusal.metadata) == ("QUOTE_USED", {"transaction_id": first.transaction.id})


async def test_a_quote_is_taken_once_by_many_at_the_same_time(town: Town, ann: Person) -> None:
    """Eight taps on one button with eight request ids are one swap and seven refusals that name it."""
    quote = await quoted(town, ann, 10 * DOLLAR)
    answers = await asyncio.gather(*(swapped(town, ann, take(quote)) for _ in range(8)), return_exceptions=True)
    done = [answer for answer in answers if isinstance(answer, SwapResponse)]
    assert len(done) == 1
    assert (await town.balance(ann)).available_micros == 490 * DOLLAR
    assert (await town.balance(ann, "USDT")).available_micros == quote.buy.micros
    refusal = await refused(swapped(town, ann, take(quote)))
    assert refusal.metadata == {"transaction_id": done[0].transaction.id}
    assert all(
        isinstance(a, grpc.aio.AioRpcError) and "request id" in (a.details() or "") for a in answers if a != done[0]
    )


async def test_an_expired_quote_is_refused_for_good(town: Town, ann: Person) -> None:
    """The refusal is remembered under its request id, and says when the quote ended."""
    quote = await quoted(town, ann, 10 * DOLLAR)
    await town.books.execute(
        "UPDATE swap_quotes SET expires_at = now() - interval '1 second' WHERE id = :id", id=uuid.UUID(quote.id)
    )
    request = take(quote)
    refusal = await refused(swapped(town, ann, request))
    assert (refusal.reason, refusal.code) == ("QUOTE_EXPIRED", grpc.StatusCode.FAILED_PRECONDITION)
    assert "expire_time" in refusal.metadata
    assert (await refused(swapped(town, ann, request))).metadata == refusal.metadata
    assert (await town.balance(ann)).available_micros == 500 * DOLLAR


async def test_a_quote_belongs_to_who_asked_for_it(town: Town, ann: Person) -> None:
    """Nobody learns from an id whether somebody else has such a quote."""
    bob = await town.settle_in("bob", usdc=100 * DOLLAR)
    quote = await quoted(town, ann, 10 * DOLLAR)
    assert (await refused(swapped(town, bob, take(quote)))).reason == "QUOTE_NOT_FOUND"
    unknown = SwapRequest(request_id=str(uuid.uuid4()), quote_id=str(uuid.uuid4()))
    assert (await refused(swapped(town, ann, unknown))).reason == "QUOTE_NOT_FOUND"


async def test_a_swap_of_more_than_there_is_moves_nothing_and_frees_what_was_reserved(town: Town, ann: Person) -> None:
    """A quote obliges to nothing, so it can be had without money. Taking it cannot."""
    quote = await quoted(town, ann, 900 * DOLLAR)
    request = take(quote)
    refusal = await refused(swapped(town, ann, request))
    assert (refusal.reason, refusal.metadata["required_micros"]) == ("INSUFFICIENT_FUNDS", str(900 * DOLLAR))
    assert (await refused(swapped(town, ann, request))).reason == "INSUFFICIENT_FUNDS"
    assert (await town.balance(ann)).available_micros == 500 * DOLLAR
    [row] = await town.books.execute("SELECT state, reserved FROM swap_quotes WHERE id = :id", id=uuid.UUID(quote.id))
    assert tuple(row) == ("OPEN", False)


async def test_what_the_market_does_not_give_has_no_quote(town: Town, ann: Person) -> None:
    """Beyond the largest amount that the exchange has, and beyond what any swap may be."""
    for micros in (1_000 * DOLLAR + 1, 60_000 * DOLLAR):
        refusal = await refused(quoted(town, ann, micros))
        assert (refusal.reason, refusal.metadata) == ("NO_LIQUIDITY", {"sell_asset": "USDC", "buy_asset": "USDT"})
    assert (await refused(quoted(town, ann, 1))).reason == "VALIDATION_FAILED"
    # The operator has no PYUSD on the rail, and a euro buys it at the reference rate.
    assert (await refused(quoted(town, ann, DOLLAR, sell="EURC", buy="PYUSD"))).reason == "NO_LIQUIDITY"


async def test_an_old_or_missing_price_is_no_price(town: Town, ann: Person) -> None:
    """Each source says for itself that it is too old; nothing is guessed."""
    quote = await quoted(town, ann, 10 * DOLLAR)
    await set_prices(town.books, age=timedelta(minutes=5))
    refusal = await refused(quoted(town, ann, 10 * DOLLAR))
    assert (refusal.reason, refusal.metadata) == ("PROVIDER_UNAVAILABLE", {"provider": "tempo"})
    assert (await refused(swapped(town, ann, take(quote)))).reason == "PROVIDER_UNAVAILABLE"
    await town.books.execute("UPDATE reference_rates SET quoted_at = now() - interval '3 days'")
    # A process reads the rate again after two seconds at the latest.
    async with asyncio.timeout(10):
        while True:
            try:
                await quoted(town, ann, 10 * DOLLAR, sell="EURC", buy="USDC")
            except grpc.aio.AioRpcError:
                break
            await asyncio.sleep(0.2)
    refusal = await refused(quoted(town, ann, 10 * DOLLAR, sell="EURC", buy="USDC"))
    assert refusal.reason == "RATE_TOO_OLD"
    await set_prices(town.books)
    async with asyncio.timeout(10):
        while True:
            try:
                await quoted(town, ann, 10 * DOLLAR, sell="EURC", buy="USDC")
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.2)
            else:
                break


async def test_a_market_that_moved_too_far_takes_the_price_back(town: Town, ann: Person) -> None:
    """What stays inside the bound is the operator's loss; beyond it the refusal says by how much."""
    near, far = await quoted(town, ann, 10 * DOLLAR), await quoted(town, ann, 10 * DOLLAR)
    await set_prices(town.books, bought_of_1000=996_000_000)
    assert (await swapped(town, ann, take(near))).quote.buy == near.buy
    await set_prices(town.books, bought_of_1000=900_000_000)
    refusal = await refused(swapped(town, ann, take(far)))
    assert refusal.reason == "PRICE_MOVED"
    assert refusal.metadata == {"bound_micros": "5000", "moved_micros": "99819"}


async def test_rule_18_open_swaps_up_to_the_bound_suspend_further_ones(town: Town) -> None:
    """The bound holds for swaps that race each other, because each is reserved under one lock; settling frees it."""
    rich = await town.settle_in("rich", usdc=5_000 * DOLLAR)
    quotes = [await quoted(town, rich, 900 * DOLLAR) for _ in range(4)]
    answers = await asyncio.gather(*(swapped(town, rich, take(q)) for q in quotes), return_exceptions=True)
    assert sum(isinstance(answer, SwapResponse) for answer in answers) == 2
    refusal = await refused(quoted(town, rich, 900 * DOLLAR))
    assert (refusal.reason, refusal.code) == ("SWAPS_SUSPENDED", grpc.StatusCode.UNAVAILABLE)
    await town.books.execute("UPDATE settlement_items SET group_id = NULL WHERE sender = :operator", operator=OPERATOR)
    assert (await quoted(town, rich, 900 * DOLLAR)).buy.micros > 0


async def test_rule_25_a_checked_swap_says_what_the_real_one_says(town: Town, ann: Person) -> None:
    """Same amounts, same balances, same refusals; nothing is written, not even the reservation."""
    quote = await quoted(town, ann, 100 * DOLLAR)
    request_id = str(uuid.uuid4())
    checked = await swapped(town, ann, take(quote, request_id=request_id, validate_only=True))
    assert not checked.transaction.id
    [row] = await town.books.execute("SELECT state, reserved FROM swap_quotes WHERE id = :id", id=uuid.UUID(quote.id))
    assert tuple(row) == ("OPEN", False)
    done = await swapped(town, ann, take(quote, request_id=request_id))
    for told, found in zip(checked.balances, done.balances, strict=True):
        assert (told.available_micros, told.held_micros) == (found.available_micros, found.held_micros)
        assert told.version == found.version - 1
    assert (checked.quote, checked.transaction.bought) == (done.quote, done.transaction.bought)
    replay = await swapped(town, ann, take(quote, request_id=request_id, validate_only=True))
    assert (replay.replayed, replay.transaction.id) == (True, done.transaction.id)
    for only_check in (True, False):
        assert (await refused(swapped(town, ann, take(quote, validate_only=only_check)))).reason == "QUOTE_USED"
        poor = await quoted(town, ann, 900 * DOLLAR)
        refusal = await refused(swapped(town, ann, take(poor, validate_only=only_check)))
        assert refusal.reason == "INSUFFICIENT_FUNDS"


async def test_a_frozen_wallet_swaps_nothing(town: Town, ann: Person) -> None:
    """A freeze stops everything that leaves, also into another asset."""
    quote = await quoted(town, ann, 10 * DOLLAR)
    await town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=ann.id)
    assert (await refused(swapped(town, ann, take(quote)))).reason == "CONSUMER_FROZEN"


async def test_a_stream_tells_a_swap_once(town: Town, ann: Person) -> None:
    """It has an entry in each of two assets, and is one event."""
    bob = await town.settle_in("bob")
    stream = town.wallet.consumers.WatchTransactions(WatchTransactionsRequest(), metadata=ann.token)
    async with asyncio.timeout(20):
        first = await stream.read()
        assert first.HasField("heartbeat")
        done = await swapped(town, ann, take(await quoted(town, ann, 10 * DOLLAR)))
        paid = await town.pay(ann, bob, DOLLAR, asset="USDT")
        told = [await stream.read() for _ in range(2)]
    stream.cancel()
    assert [message.transaction.id for message in told] == [done.transaction.id, paid.transaction.id]
    assert told[0].transaction.bought == done.quote.buy
