"""ExportStatement: the whole history as a document that adds up, in pieces, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from monay.wallet.v1 import transaction_pb2 as pb
from sandbox.postgres import Postgres
from server.api import statements
from tests.books import DOLLAR, FEE, payment

from .conftest import consumer, refused, service
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

CSV, JSON = pb.STATEMENT_FORMAT_CSV, pb.STATEMENT_FORMAT_JSON


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR, EURC=50 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob")


async def document(town: Town, person: Person, form: pb.StatementFormat.ValueType = JSON, **fields: Any) -> str:
    """All pieces of it; each ends between lines, and says how many transactions were sent."""
    request = pb.ExportStatementRequest(format=form, **fields)
    text, count = "", 0
    async for piece in town.wallet.consumers.ExportStatement(request, metadata=person.token):
        assert piece.data.endswith(b"\n")
        text += piece.data.decode()
        assert piece.transaction_count >= count
        count = piece.transaction_count
    heading = 1 if form == CSV else 0
    assert count == len(text.splitlines()) - heading
    return text


async def rows(town: Town, person: Person, **fields: Any) -> list[dict[str, str]]:
    return [json.loads(line) for line in (await document(town, person, **fields)).splitlines()]


async def test_a_statement_tells_everything_oldest_first(town: Town, ann: Person, bob: Person) -> None:
    """What was paid to whom, what it cost, and the balance after it."""
    await town.name(bob)
    paid = await town.pay(ann, bob, 30 * DOLLAR, memo="rent, November")
    first, second, third = await rows(town, ann)
    assert [row["asset"] for row in (first, second)] == ["USDC", "EURC"]
    assert (first["kind"], first["direction"], first["state"]) == ("deposit", "in", "completed")
    assert (third["kind"], third["direction"]) == ("transfer", "out")
    assert (third["amount"], third["fee"], third["balance"]) == ("30.000000", "0.000100", "69.999900")
    assert (third["counterparty"], third["handle"]) == (str(bob.id), bob.handle)
    assert (third["memo"], third["transaction_id"]) == ("rent, November", paid.transaction.id)
    time = datetime.fromisoformat(third["time"].replace("Z", "+00:00"))
    assert abs(time - datetime.now(UTC)) < timedelta(minutes=1)


async def test_both_forms_say_the_same(town: Town, ann: Person, bob: Person) -> None:
    """CSV as RFC 4180 has it, with a heading line; JSON one object a line."""
    await town.pay(ann, bob, DOLLAR, memo='said "hi", and left')
    await town.pay(ann, bob, DOLLAR, memo="ünïcode ☕")
    text = await document(town, ann, CSV)
    assert text.startswith(",".join(statements.COLUMNS) + "\r\n")
    assert text.count("\r\n") == text.count("\n")
    assert list(csv.DictReader(io.StringIO(text))) == await rows(town, ann)


async def test_a_memo_is_no_formula(town: Town, ann: Person, bob: Person) -> None:
    """Whoever pays somebody must not be able to make their spreadsheet compute."""
    await town.pay(ann, bob, DOLLAR, memo='=HYPERLINK("https://evil.example","refund")')
    [line] = csv.DictReader(io.StringIO(await document(town, bob, CSV)))
    assert line["memo"] == '\'=HYPERLINK("https://evil.example","refund")'
    [row] = await rows(town, bob)
    assert row["memo"].startswith("=HYPERLINK")


async def test_an_empty_wallet_has_an_empty_statement(town: Town, bob: Person) -> None:
    """A heading and nothing below it; and no wallet at all is an error."""
    assert await document(town, bob, CSV) == ",".join(statements.COLUMNS) + "\r\n"
    assert await document(town, bob, JSON) == ""
    request = pb.ExportStatementRequest(format=CSV, consumer_id=str(uuid.uuid4()))
    call = town.wallet.consumers.ExportStatement(request, metadata=service())
    assert (await refused(call.read())).reason == "CONSUMER_NOT_FOUND"


async def test_a_statement_covers_what_was_asked_for(town: Town, ann: Person, bob: Person) -> None:
    """One asset, or one span of time: from its start on, up to but not including its end."""
    await town.pay(ann, bob, DOLLAR)
    await town.pay(ann, bob, DOLLAR)
    everything = await rows(town, ann)
    assert [row["asset"] for row in await rows(town, ann, asset="EURC")] == ["EURC"]
    second, last = (datetime.fromisoformat(everything[i]["time"].replace("Z", "+00:00")) for i in (1, -1))
    assert await rows(town, ann, start_time=second, end_time=last) == everything[1:-1]
    assert await rows(town, ann, start_time=last) == everything[-1:]
    assert await rows(town, ann, end_time=second) == everything[:1]


async def test_a_statement_adds_up(town: Town, ann: Person, bob: Person) -> None:
    """Line by line, in each asset, to what the wallet holds."""
    await town.books.execute("INSERT INTO reference_rates VALUES ('EUR/USD', 1080000, 'test', now(), now())")
    for number in range(30):
        await town.pay(ann, bob, 1_000 + number, asset="USDC" if number % 3 else "EURC")
    held = {"USDC": Decimal(0), "EURC": Decimal(0)}
    for row in await rows(town, ann):
        amount, fee = Decimal(row["amount"]), Decimal(row["fee"])
        held[row["asset"]] += amount if row["direction"] == "in" else -amount - fee
        assert Decimal(row["balance"]) == held[row["asset"]]
    for asset, micros in held.items():
        assert int(micros * DOLLAR) == (await town.balance(ann, asset)).available_micros


async def test_a_statement_is_the_wallet_as_it_was_when_it_was_asked_for(
    town: Town, ann: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens while it is being sent is not in it."""
    monkeypatch.setattr(statements, "PAGE", 5)
    for _ in range(12):
        await town.pay(ann, bob, 1)
    pieces = aiter(town.wallet.consumers.ExportStatement(pb.ExportStatementRequest(format=JSON), metadata=ann.token))
    first = await anext(pieces)
    await asyncio.gather(*(town.pay(ann, bob, 1) for _ in range(10)))
    text = first.data + b"".join([piece.data async for piece in pieces])
    assert len(text.splitlines()) == 14


async def test_a_long_statement_takes_no_memory_and_no_database_transaction(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece at a time: the server keeps one, however long the document is and however slowly it is read."""
    [owner, other] = await town.books.open(2, usdc=1_000 * DOLLAR)
    await town.books.apply(payment(owner, other, 1))
    count = 6_000
    await town.books.execute(
        """
        WITH made AS (
            INSERT INTO transactions (id, kind, consumer_id, counterparty_id, asset, micros, fee_micros, memo, caller,
                                      request_id, reference, created_at)
            SELECT gen_random_uuid(), 'transfer', :owner, :other, 'USDC', 1, 0, repeat('memo ', 20), '', '', '',
                   now() + n * interval '1 microsecond'
            FROM generate_series(1, :count) AS n RETURNING id, created_at
        ), numbered AS (SELECT id, created_at, row_number() OVER (ORDER BY created_at) AS n FROM made)
        INSERT INTO entries (consumer_id, asset, version, transaction_id, kind, counterparty_id, available_delta,
                             held_delta, available_after, held_after, created_at)
        SELECT :owner, 'USDC', 2 + n, id, 'transfer', :other, 0, 0, :left, 0, created_at FROM numbered
        """,
        owner=owner,
        other=other,
        count=count,
        left=1_000 * DOLLAR - 1 - FEE,
    )
    await town.books.execute(
        "UPDATE stablecoin_balances SET version = 2 + :count WHERE consumer_id = :owner AND asset = 'USDC'",
        count=count,
        owner=owner,
    )
    request = pb.ExportStatementRequest(format=JSON)
    pieces = aiter(town.wallet.consumers.ExportStatement(request, metadata=consumer(owner)))
    await anext(pieces)
    tracemalloc.start()
    try:
        size = sent = 0
        async for piece in pieces:
            size, sent = size + len(piece.data), piece.transaction_count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == count + 2
    assert size > 2_000_000
    assert peak < 1_000_000, f"{peak} bytes at once"
    [[open_transactions]] = await town.books.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert open_transactions == 0
    await town.books.execute("DELETE FROM entries WHERE consumer_id = :owner AND version > 2", owner=owner)
    await town.books.execute(
        "UPDATE stablecoin_balances SET version = 2 WHERE consumer_id = :owner AND asset = 'USDC'", owner=owner
    )
