"""Histories of millions: any page of ListTransactions, through real gRPC, from a journal of five million entries.

    make bench ARGS=--history

One consumer has half of the entries; a thousand others, the other ends of the same transfers, have the rest, row by row
in between, as a busy day would leave them. Loading takes two minutes. The figures are what one client at a time sees:
the server's time, and a good half of a millisecond of gRPC at both ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import psycopg

from benchmarks import accounts, world
from benchmarks.measurement import percentile
from benchmarks.world import World
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.transaction_pb2 import TRANSACTION_KIND_DEPOSIT, ListTransactionsRequest

ENTRIES = 5_000_000
OTHERS = 1_000
CALLS = 200

_AT_ONCE = 250_000
_SECONDS_APART = 5
_RARE_EVERY = 100_000
_DEADLINE_SECONDS = 30.0

_TRANSFERS = """
    CREATE TEMPORARY TABLE made ON COMMIT DROP AS
    SELECT n, ('0191' || lpad(to_hex(n), 28, '0'))::uuid AS id, ('0192' || lpad(to_hex(n), 28, '0'))::uuid AS item_id,
           CASE WHEN n %% %(rare)s = 77 THEN %(others)s ELSE n %% (%(others)s - 1) + 1 END AS other,
           %(start)s::timestamptz + n * %(apart)s * interval '1 second' AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""

_FILL = (
    _TRANSFERS,
    "ALTER TABLE made ADD COLUMN other_id uuid",
    "UPDATE made SET other_id = lpad((%(number)s + other)::text, 32, %(id_start)s)::uuid",
    """
    INSERT INTO transactions (id, kind, consumer_id, counterparty_id, asset, micros, fee_micros, memo, caller,
                              request_id, reference, created_at)
    SELECT id, 'transfer', %(payer)s, other_id, 'USDC', 1, 0, '', %(caller)s, '', '', at FROM made
    """,
    """
    INSERT INTO entries (consumer_id, asset, version, transaction_id, kind, counterparty_id, available_delta,
                         held_delta, available_after, held_after, created_at)
    SELECT consumer, 'USDC', version, id, 'transfer', party, delta, 0, 0, 0, at
    FROM (
        SELECT n, 0 AS side, %(payer)s::uuid AS consumer, n + 2 AS version, id, other_id AS party, -1 AS delta, at
        FROM made
        UNION ALL
        SELECT n, 1, other_id, n + 2, id, %(payer)s::uuid, 1, at FROM made
    ) AS both_sides
    ORDER BY n, side
    """,
    """
    INSERT INTO settlement_items (id, transaction_id, sender, recipient, asset, micros, sender_seq, position, counts,
                                  state, created_at, confirmed_at)
    SELECT item_id, id, %(payer)s, other_id, 'USDC', 1, n + 2, 0, true, 'CONFIRMED', at, at FROM made
    """,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to ask for a page, and how to ask for the next one."""

    name: str
    request: Callable[[], ListTransactionsRequest]
    follows: bool = False
    """Whether each call asks for the page behind the one before."""


def measure(*, entries: int = ENTRIES, calls: int = CALLS) -> list[str]:
    """What pages cost, as a table in Markdown."""
    transfers = entries // 2
    with world.running(account_count=OTHERS + 1, workers=1) as running:
        start = _fill(running, transfers)
        lines = [
            f"{entries:,} entries, {transfers:,} of them one consumer's; {calls} calls of each kind, one at a time.",
            "",
            "| page | p50 | p99 | longest |",
            "|---|---|---|---|",
        ]
        lines += asyncio.run(
            _measure(running, start, lasted=timedelta(seconds=transfers * _SECONDS_APART), calls=calls)
        )
    return lines


async def _measure(running: World, start: datetime, *, lasted: timedelta, calls: int) -> list[str]:
    metadata = (("authorization", f"Bearer {running.token_file.read_text().strip()}"),)
    lines = []
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        stub = ConsumerWalletServiceStub(channel)
        for case in _cases(start, lasted):
            waits = sorted([wait async for wait in _ask(stub, metadata, case, calls)])
            p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
            lines.append(f"| {case.name} | {p50:.1f} ms | {p99:.1f} ms | {waits[-1]:.1f} ms |")
    return lines


def _fill(running: World, transfers: int) -> datetime:
    """Make the transfers, straight through SQL. Returns when the first of them was made."""
    payer = accounts.consumer_ids(1)[0]
    with psycopg.connect(running.database_url) as connection:
        # After the deposits: in a balance time never runs behind the version.
        start = datetime.now(UTC)
        fixed = {"payer": payer, "caller": accounts.CALLER, "start": start, "apart": _SECONDS_APART, "others": OTHERS}
        fixed |= {"rare": _RARE_EVERY, "number": accounts.FIRST_NUMBER, "id_start": accounts.ID_START}
        for first in range(0, transfers, _AT_ONCE):
            with connection.transaction():
                for statement in _FILL:
                    bounds = {"first": first, "last": min(first + _AT_ONCE, transfers) - 1}
                    connection.execute(statement, {**fixed, **bounds})
            print(f"{2 * min(first + _AT_ONCE, transfers):,} entries", flush=True)
        connection.execute(
            "UPDATE stablecoin_balances SET version = %s WHERE consumer_id = %s AND asset = 'USDC'",
            (transfers + 1, payer),
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    return start


def _cases(start: datetime, lasted: timedelta) -> Iterator[Case]:
    payer = str(accounts.consumer_ids(1)[0])
    chance = random.Random(1)

    def ask(size: int = 50, **fields: object) -> ListTransactionsRequest:
        return ListTransactionsRequest(consumer_id=payer, page_size=size, **fields)  # type: ignore[arg-type]

    def anywhere() -> ListTransactionsRequest:
        request = ask()
        request.end_time.FromDatetime(start + lasted * chance.random())
        return request

    def other(number: int) -> str:
        return str(accounts.consumer_ids(OTHERS + 1)[number])

    yield Case("the newest 50", ask)
    yield Case("the newest 500", lambda: ask(500))
    yield Case("50 from any time on", anywhere)
    yield Case("page after page of 50, by token", ask, follows=True)
    yield Case("50 in one asset", lambda: ask(asset="USDC"))
    yield Case("50 with one of a thousand others", lambda: ask(counterparty_id=other(chance.randrange(1, OTHERS))))
    yield Case("one in 100,000, as far as a page looks", lambda: ask(counterparty_id=other(OTHERS)))
    yield Case("deposits, of which there is one", lambda: ask(kinds=[TRANSACTION_KIND_DEPOSIT]))


async def _ask(
    stub: ConsumerWalletServiceStub, metadata: tuple[tuple[str, str], ...], case: Case, calls: int
) -> AsyncIterator[float]:
    """How long each call took, in milliseconds."""
    request = case.request()
    for _ in range(calls):
        started = time.perf_counter()
        answer = await stub.ListTransactions(request, metadata=metadata, timeout=_DEADLINE_SECONDS)
        yield (time.perf_counter() - started) * 1_000
        token = answer.next_page_token if case.follows else ""
        request = case.request()
        request.page_token = token
