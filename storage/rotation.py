"""Replacing the keys of personal data: `python -m storage.rotation`.

    new-ring NAME             print a fresh key file
    add FILE NAME [--index]   print the file with one more key, which opens what it sealed and is not written with yet
    activate FILE NAME [--index]   print the file with that key as the one to write with
    run                       seal anew and index anew what is not under the active keys; prints how far it is
    status                    how many values stand under which key

The order: `add`, and give the file to every process; `activate`, and give it again; `run`; once `status` shows nothing
under the old key, take it out of the file. So at each moment every process can read what any other writes. `run` may be
stopped and begun anew, also while the service works, and needs DATABASE_URL and SEALING_KEYS_FILE.

Handles that were given up are kept as indexes only and cannot be indexed anew: an old index key stays in the file until
their protection is over (`domain/handles.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Table, func, select, update
from sqlalchemy.exc import IntegrityError

from domain.clock import Entropy, SystemClock, SystemEntropy
from storage.consumers import indexes_of
from storage.database import Engine, Tx, create_engine
from storage.schema import bank_accounts, consumers
from storage.sealing import KEY_BYTES, KeyFileUnusable, KeyRing, new_key_file

CHUNK = 500

# Where sealed values stand. A new column of that kind is one more word here.
SEALED = {consumers: ("email_sealed", "phone_sealed", "name_sealed"), bank_accounts: ("details_sealed",)}


@dataclass
class Progress:
    """How far the rotation of one table is."""

    table: str
    rows: int
    looked_at: int = 0
    changed: int = 0
    conflicts: list[UUID] = field(default_factory=list)
    """Rows whose contact stands in another row already: a person must say which of them is right."""


class Rotation:
    """Goes over all sealed rows once. Any number may run."""

    def __init__(self, *, engine: Engine, ring: KeyRing) -> None:
        self._engine = engine
        self._ring = ring

    async def run(self) -> AsyncIterator[Progress]:
        """Bring everything under the active keys; the progress after each portion."""
        for table in SEALED:
            async with self._engine.connect() as tx:
                rows = (await tx.execute(select(func.count()).select_from(table))).scalar_one()
            progress, last = Progress(table.name, rows), UUID(int=0)
            while (after := await self._portion(table, last, progress)) is not None:
                last = after
                yield progress
            yield progress

    async def _portion(self, table: Table, last: UUID, progress: Progress) -> UUID | None:
        """The next rows, each kept from others only while they are sealed anew; the last one's id."""
        names = SEALED[table]
        columns = [column for column in table.c if column.name in ("id", *names) or column.name.endswith("_index")]
        statement = select(*columns).where(table.c.id > last).order_by(table.c.id).limit(CHUNK).with_for_update()
        async with self._engine.begin() as tx:
            rows = list(await tx.execute(statement))
            for row in rows:
                await self._renew(tx, table, row, progress)
        progress.looked_at += len(rows)
        return rows[-1].id if rows else None

    async def _renew(self, tx: Tx, table: Table, row: Any, progress: Progress) -> None:
        values = self._stale(table, row)
        if not values:
            return
        try:
            async with tx.begin_nested():
                await tx.execute(update(table).where(table.c.id == row.id).values(values))
        except IntegrityError:
            progress.conflicts.append(row.id)
        else:
            progress.changed += 1

    def _stale(self, table: Table, row: Any) -> dict[str, bytes]:
        """The columns that are not under the active keys, as they should be."""
        sealed = {name: getattr(row, name) for name in SEALED[table] if getattr(row, name) is not None}
        place = {"table": table.name, "row": row.id}
        texts = {name: self._ring.open(value, column=name, **place) for name, value in sealed.items()}
        values = {
            name: self._ring.seal(text, column=name, **place)
            for name, text in texts.items()
            if not self._ring.is_current(sealed[name])
        }
        if table is consumers and texts:
            found = indexes_of(self._ring, email=texts["email_sealed"], phone=texts["phone_sealed"])
            values.update({name: index for name, index in found.items() if getattr(row, name) != index})
        return values


async def status(engine: Engine) -> dict[str, Counter[str]]:
    """By column, how many values are sealed with which key."""
    found: dict[str, Counter[str]] = {}
    async with engine.connect() as tx:
        for table, names in SEALED.items():
            for name in names:
                # The form of a sealed value: its version, the length of its key's name, the name.
                key = func.substring(table.c[name], 3, func.get_byte(table.c[name], 1))
                counted = select(key, func.count()).where(table.c[name].is_not(None)).group_by(key)
                rows = await tx.execute(counted)
                found[f"{table.name}.{name}"] = Counter({bytes(row[0]).decode(): row[1] for row in rows})
    return found


# --- the key file -----------------------------------------------------------------------------------------------------


def with_key(text: str, name: str, *, index: bool, entropy: Entropy) -> str:
    """The key file with one more key, not yet written with."""
    document = json.loads(text)
    keys = document.setdefault("index_keys" if index else "keys", {})
    if name in keys:
        raise KeyFileUnusable(f"there is a key {name!r} already")
    keys[name] = base64.b64encode(entropy.token_bytes(KEY_BYTES)).decode()
    return json.dumps(document, indent=2)


def with_active(text: str, name: str, *, index: bool) -> str:
    """The key file with that key as the one to write with."""
    document = json.loads(text)
    if name not in document.get("index_keys" if index else "keys", {}):
        raise KeyFileUnusable(f"there is no key {name!r}")
    document["active_index" if index else "active"] = name
    return json.dumps(document, indent=2)


async def _run(action: str) -> int:
    url, path = os.environ.get("DATABASE_URL"), os.environ.get("SEALING_KEYS_FILE")
    if not url or not path:
        sys.stderr.write("Set DATABASE_URL and SEALING_KEYS_FILE.\n")
        return 2
    engine, ring = create_engine(url), KeyRing.read(Path(path), entropy=SystemEntropy(SystemClock()))
    conflicts = 0
    if action == "status":
        for column, keys in (await status(engine)).items():
            sys.stdout.write(f"{column}: {dict(keys)}\n")
    else:
        async for progress in Rotation(engine=engine, ring=ring).run():
            sys.stdout.write(json.dumps(vars(progress), default=str) + "\n")
            conflicts = max(conflicts, len(progress.conflicts))
    await engine.dispose()
    return 1 if conflicts else 0


def main(line: list[str] | None = None) -> int:
    """One of the actions; 1 where a person has to look at something."""
    parser = argparse.ArgumentParser(prog="python -m storage.rotation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("new-ring").add_argument("name")
    for action in ("add", "activate"):
        changing = actions.add_parser(action)
        changing.add_argument("file", type=Path)
        changing.add_argument("name")
        changing.add_argument("--index", action="store_true", help="a key of the blind index")
    for action in ("run", "status"):
        actions.add_parser(action)
    asked = parser.parse_args(line)
    entropy = SystemEntropy(SystemClock())
    try:
        if asked.action in ("run", "status"):
            return asyncio.run(_run(asked.action))
        if asked.action == "new-ring":
            made = new_key_file(entropy, name=asked.name)
        elif asked.action == "add":
            made = with_key(asked.file.read_text(), asked.name, index=asked.index, entropy=entropy)
        else:
            made = with_active(asked.file.read_text(), asked.name, index=asked.index)
    except (KeyFileUnusable, OSError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    sys.stdout.write(made + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
