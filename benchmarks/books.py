"""The books after a run: what was measured must also have been right."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg

from benchmarks import accounts
from sandbox.component import Refused
from storage import proofs
from storage.database import create_engine

# What one transfer leaves behind, by the column that names its transaction.
_TABLES = {
    "transactions": "id",
    "postings": "transaction_id",
    "entries": "transaction_id",
    "requests": "transaction_id",
    "settlement_items": "transaction_id",
}


async def require_clean(database_url: str) -> int:
    """Refuse figures from books that are not right; how many balances were proven."""
    engine = create_engine(database_url, statement_timeout_ms=600_000)
    try:
        async with engine.connect() as connection:
            tx = await connection.execution_options(isolation_level="REPEATABLE READ")
            unbalanced = {asset: micros for asset, micros in (await proofs.ledger_sums(tx)).items() if micros}
            checked, consumers = await proofs.consumer_differences(tx)
            differences = [*await proofs.entry_differences(tx), *consumers, *await proofs.operator_differences(tx)]
    finally:
        await engine.dispose()
    if unbalanced or differences:
        raise Refused(f"The books are not clean after the run: sums {unbalanced}, differences {differences[:5]}.")
    return checked


def newest_transfer(database_url: str) -> dict[str, list[Any]]:
    """The shape of the rows that the newest transfer wrote: constants as they are, the rest by its kind."""
    with psycopg.connect(database_url) as connection:
        newest = "SELECT id FROM transactions WHERE caller = %s ORDER BY created_at DESC, id DESC LIMIT 1"
        row = connection.execute(newest, (accounts.CALLER,)).fetchone()
        if row is None:
            raise Refused("No transfer was written.")
        return {table: _shapes(connection, table, column, row[0]) for table, column in _TABLES.items()}


def _shapes(connection: psycopg.Connection, table: str, column: str, transaction_id: object) -> list[Any]:
    found = connection.execute(f"SELECT to_jsonb(t) FROM {table} t WHERE {column} = %s", (transaction_id,))
    return sorted(({name: _kind(value) for name, value in row.items()} for (row,) in found), key=json.dumps)


def _kind(value: object) -> object:
    """Identifiers, times and amounts differ between any two transfers; everything else must not."""
    text = str(value)
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        return "the operator" if text.startswith("00000000-0000-0000") else "an identifier"
    if re.match(r"\d{4}-\d\d-\d\dT", text):
        return "a time"
    if re.fullmatch(r"\\x[0-9a-f]{64}", text):
        return "a hash"
    if isinstance(value, int) and not isinstance(value, bool):
        return "nothing" if value == 0 else "less than nothing" if value < 0 else "more than nothing"
    return value
