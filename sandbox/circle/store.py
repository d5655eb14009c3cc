"""What the simulator remembers, in one SQLite file: it survives a restart, and goes with its folder.

A resource is kept as the JSON that is answered for it; fields that begin with `_` are the simulator's own and never
leave it. The process has one thread and one connection, and nothing is awaited inside a transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

Body = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS resources (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
    owner TEXT NOT NULL, open INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS resources_in_order ON resources (kind, number);
CREATE INDEX IF NOT EXISTS resources_by_owner ON resources (owner, kind, open);
CREATE INDEX IF NOT EXISTS resources_by_address ON resources (kind, json_extract(body, '$.address'));
CREATE TABLE IF NOT EXISTS balances (
    holder TEXT NOT NULL, token TEXT NOT NULL, micros INTEGER NOT NULL CHECK (micros >= 0), changed INTEGER NOT NULL,
    PRIMARY KEY (holder, token));
CREATE TABLE IF NOT EXISTS steps (
    number INTEGER PRIMARY KEY, due INTEGER NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS steps_by_due ON steps (due, number);
CREATE TABLE IF NOT EXISTS requests (
    product TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, ids TEXT NOT NULL, PRIMARY KEY (product, key));
CREATE TABLE IF NOT EXISTS ciphertexts (digest TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY, subscription TEXT NOT NULL, event TEXT NOT NULL, type TEXT NOT NULL,
    state TEXT NOT NULL, due INTEGER NOT NULL, attempts INTEGER NOT NULL, answer TEXT NOT NULL,
    headers TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (state, due, number);
"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which part of a list is wanted."""

    size: int
    after: str | None = None
    before: str | None = None
    since: int | None = None
    until: int | None = None
    ascending: bool = False


@dataclass
class Listed:
    """One page, and whether there are others on either side."""

    bodies: list[Body] = field(default_factory=list)
    more_before: bool = False
    more_after: bool = False


class UnknownCursor(Exception):
    """The cursor names nothing in this list."""


class Store:
    def __init__(self, path: Path) -> None:
        # Autocommit: transactions are begun and ended by `transaction` alone.
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # Safe against a killed process; only a power cut could cost the last moments of a sandbox.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._db.execute(statement, values)

    def forget_everything(self) -> None:
        tables = self.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        for row in tables.fetchall():
            self.execute(f"DELETE FROM {row['name']}")

    # Facts.

    def fact(self, name: str, otherwise: str) -> str:
        row = self.execute("SELECT value FROM facts WHERE name = ?", name).fetchone()
        return str(row["value"]) if row else otherwise

    def set_fact(self, name: str, value: str) -> None:
        self.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    def next_number(self, name: str) -> int:
        number = int(self.fact(f"next.{name}", "0")) + 1
        self.set_fact(f"next.{name}", str(number))
        return number

    def new_id(self) -> str:
        """The next UUID. They look random, and are the same ones after each reset, so that tests read alike."""
        digest = hashlib.sha256(f"id {self.next_number('id')}".encode()).digest()
        return str(UUID(bytes=digest[:16], version=4))

    # Resources.

    def add(self, kind: str, body: Body, *, created: int, owner: str = "", is_open: bool = False) -> None:
        self.execute(
            "INSERT INTO resources (kind, id, created, owner, open, body) VALUES (?, ?, ?, ?, ?, ?)",
            *(kind, body["id"], created, owner, is_open, json.dumps(body)),
        )

    def update(self, body: Body, *, is_open: bool = False) -> None:
        self.execute("UPDATE resources SET body = ?, open = ? WHERE id = ?", json.dumps(body), is_open, body["id"])

    def remove(self, resource_id: str) -> None:
        self.execute("DELETE FROM resources WHERE id = ?", resource_id)

    def get(self, kind: str, resource_id: str) -> Body | None:
        row = self.execute("SELECT body FROM resources WHERE kind = ? AND id = ?", kind, resource_id.lower()).fetchone()
        return json.loads(row["body"]) if row else None

    def all(self, kind: str) -> list[Body]:
        rows = self.execute("SELECT body FROM resources WHERE kind = ? ORDER BY number", kind)
        return [json.loads(row["body"]) for row in rows]

    def at_address(self, kind: str, address: str) -> list[Body]:
        rows = self.execute(
            "SELECT body FROM resources WHERE kind = ? AND json_extract(body, '$.address') = ? ORDER BY number",
            *(kind, address.lower()),
        )
        return [json.loads(row["body"]) for row in rows]

    def open_of(self, kind: str, owner: str) -> list[Body]:
        """What is still under way for this owner."""
        rows = self.execute(
            "SELECT body FROM resources WHERE owner = ? AND kind = ? AND open ORDER BY number", owner, kind
        )
        return [json.loads(row["body"]) for row in rows]

    def page(self, kind: str, page: Page, filters: Mapping[str, Sequence[str]]) -> Listed:
        """One page in the order of creation; newest first, unless asked otherwise."""
        conditions, values = ["kind = ?"], [kind]
        for name, allowed in filters.items():
            conditions.append(f"json_extract(body, '$.{name}') IN ({', '.join('?' * len(allowed))})")
            values += allowed
        if page.since is not None:
            conditions.append(f"created >= {page.since}")
        if page.until is not None:
            conditions.append(f"created <= {page.until}")
        # Towards the start of the list when a page before something is wanted.
        backwards = page.before is not None
        cursor = self._number(kind, page.before or page.after)
        up = page.ascending != backwards
        if cursor is not None:
            conditions.append(f"number {'>' if up else '<'} {cursor}")
        statement = f"SELECT body FROM resources WHERE {' AND '.join(conditions)} ORDER BY number "
        rows = self.execute(f"{statement} {'ASC' if up else 'DESC'} LIMIT {page.size + 1}", *values).fetchall()
        bodies = [json.loads(row["body"]) for row in rows[: page.size]]
        more = len(rows) > page.size
        if backwards:
            return Listed(bodies[::-1], more_before=more, more_after=True)
        return Listed(bodies, more_before=cursor is not None, more_after=more)

    def _number(self, kind: str, resource_id: str | None) -> int | None:
        if resource_id is None:
            return None
        row = self.execute(
            "SELECT number FROM resources WHERE kind = ? AND id = ?", kind, resource_id.lower()
        ).fetchone()
        if row is None:
            raise UnknownCursor
        return int(row["number"])

    # Balances.

    def balance(self, holder: str, token: str) -> int:
        row = self.execute("SELECT micros FROM balances WHERE holder = ? AND token = ?", holder, token).fetchone()
        return int(row["micros"]) if row else 0

    def balances(self, holder: str) -> list[sqlite3.Row]:
        rows = self.execute("SELECT token, micros, changed FROM balances WHERE holder = ? ORDER BY token", holder)
        return rows.fetchall()

    def change_balance(self, holder: str, token: str, micros: int, *, at: int) -> None:
        """Refused by the table if it would fall below zero: nobody can spend here what they do not have."""
        self.execute("INSERT OR IGNORE INTO balances VALUES (?, ?, 0, ?)", holder, token, at)
        self.execute(
            "UPDATE balances SET micros = micros + ?, changed = ? WHERE holder = ? AND token = ?",
            *(micros, at, holder, token),
        )


def public(body: Body) -> Body:
    """What may be told of a resource."""
    return {name: value for name, value in body.items() if not name.startswith("_")}
