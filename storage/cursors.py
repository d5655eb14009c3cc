"""How far the chain watcher has read, and whether settlement is halted because the chain is not the one it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import chain_cursors

_c = chain_cursors.c


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last finalized block whose events are in the books."""

    chain: str
    number: int
    hash: str
    block_time: datetime
    halted_reason: str


async def read(tx: Tx, chain: str) -> Cursor | None:
    """The cursor, once the watcher has started."""
    row = (await tx.execute(select(chain_cursors).where(_c.chain == chain))).first()
    return Cursor(row.chain, row.number, row.hash, row.block_time, row.halted_reason) if row else None


async def start(tx: Tx, cursor: Cursor) -> None:
    """Begin reading after this block, unless somebody began before."""
    values = {"chain": cursor.chain, "number": cursor.number, "hash": cursor.hash, "block_time": cursor.block_time}
    await tx.execute(upsert(chain_cursors).values(values).on_conflict_do_nothing())


async def halted_reason(tx: Tx, chain: str) -> str:
    """Why nothing may settle on this chain; empty while all is well."""
    row = (await tx.execute(select(_c.halted_reason).where(_c.chain == chain))).first()
    return row[0] if row else "the watcher has not read the chain yet"


async def halt(tx: Tx, chain: str, reason: str) -> None:
    """Stop settlement on this chain until a person says otherwise (money rule 14)."""
    await tx.execute(update(chain_cursors).where(_c.chain == chain).values(halted_reason=reason))
