"""How far the chain watcher has read, and whether settlement is halted because the chain is not the one it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import breaks, chain_cursors

_c = chain_cursors.c

NOT_OPENED = ""
"""The hash of a cursor whose opening balances are not in the books yet."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last finalized block whose events are in the books."""

    chain: str
    number: int
    hash: str
    block_time: datetime
    halted_reason: str = ""

    @property
    def opened(self) -> bool:
        """Whether what stood at the operator's addresses when the books began is in them."""
        return self.hash != NOT_OPENED


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
    row = (await tx.execute(select(_c.halted_reason, _c.hash).where(_c.chain == chain))).first()
    if row is None or row.hash == NOT_OPENED:
        return "the watcher has not read the chain yet"
    reason: str = row.halted_reason
    return reason


async def halt(tx: Tx, cursor: Cursor, reason: str, *, break_id: UUID, now: datetime) -> None:
    """Stop settlement on this chain until a person says otherwise, and write the break that tells (money rule 14)."""
    await tx.execute(update(chain_cursors).where(_c.chain == cursor.chain).values(halted_reason=reason))
    found = {
        "id": break_id,
        "kind": "chain_changed",
        "subject": f"{cursor.chain}:{cursor.number}",
        "facts": {"reason": reason},
        "found_at": now,
    }
    await tx.execute(upsert(breaks).values(found).on_conflict_do_nothing())
