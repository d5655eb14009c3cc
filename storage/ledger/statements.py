"""Statements of the ledger: compiled once, their rows passed as one array for each column."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Column, Select, Table, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.commands import RecordKind
from storage.arrays import given_rows, packer
from storage.committer import Answer, RoundTrip, compiled
from storage.schema import metadata

RECORD_TABLES = {kind: metadata.tables[kind] for kind in RecordKind if kind in metadata.tables}


class Statement:
    """A compiled statement and the columns of the rows it takes, as one array parameter each."""

    def __init__(self, statement: ClauseElement, columns: Sequence[Column[Any]]) -> None:
        self._text = compiled(statement)
        self._packers = [packer(column) for column in columns]

    def add_to(self, trip: RoundTrip, rows: Collection[Sequence[Any]]) -> Answer:
        """Send it with these rows. A statement without rows has nothing to look for and nothing to write."""
        if not rows:
            return Answer()
        columns = zip(*rows, strict=True)
        return trip.add(self._text, [pack(values) for pack, values in zip(self._packers, columns, strict=True)])


def insert_rows(table: Table, names: Sequence[str] = (), *, ignore_known: bool = False) -> Statement:
    """Insert rows with the named columns, or with all of them."""
    columns = [table.c[name] for name in names] or list(table.columns)
    given = given_rows(columns)
    statement = upsert(table).from_select([column.name for column in columns], select(*given.c))
    return Statement(statement.on_conflict_do_nothing() if ignore_known else statement, columns)


def update_rows(table: Table, keys: Sequence[str], names: Sequence[str]) -> Statement:
    """Set the named columns of the rows with the given keys."""
    columns = [table.c[name] for name in (*keys, *names)]
    given = given_rows(columns)
    statement = update(table).values({name: given.c[name] for name in names})
    return Statement(statement.where(*(table.c[key] == given.c[key] for key in keys)), columns)


def locking(statement: Select[Any], table: Table) -> Select[Any]:
    """FOR NO KEY UPDATE: keeps other writers out, not the foreign readers of the key."""
    return statement.with_for_update(key_share=True, of=table)
