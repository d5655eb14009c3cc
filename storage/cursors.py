"""How far the chain watcher has read, and whether settlement is halted because the chain is not the one it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage import recoveries
from storage.database import Tx
from storage.recoveries import INCARNATION
from storage.schema import breaks, chain_cursors
from storage.schema import recoveries as known_incarnations

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
    paused_until: datetime | None = None
    """Until when this incarnation of the database recovers; None: it is a new one, and nobody knows (rule 15)."""

    @property
    def opened(self) -> bool:
        """Whether what stood at the operator's addresses when the books began is in them."""
        return self.hash != NOT_OPENED

    @property
    def recovering(self) -> bool:
        """Whether commits may have been lost whose transactions can still land."""
        return self.paused_until is None or self.block_time < self.paused_until


_READ = (
    select(_c.chain, _c.number, _c.hash, _c.block_time, _c.halted_reason, known_incarnations.c.paused_until)
    .select_from(chain_cursors)
    .outerjoin(known_incarnations, known_incarnations.c.incarnation == INCARNATION)
    .where(_c.chain == bindparam("of"))
)


async def read(tx: Tx, chain: str) -> Cursor | None:
    """The cursor, once the watcher has started."""
    row = (await tx.execute(_READ, {"of": chain})).first()
    return Cursor(*row) if row else None


async def start(tx: Tx, cursor: Cursor) -> None:
    """Begin reading after this block, unless somebody began before."""
    await recoveries.begin_first(tx, now=cursor.block_time)
    values = {"chain": cursor.chain, "number": cursor.number, "hash": cursor.hash, "block_time": cursor.block_time}
    await tx.execute(upsert(chain_cursors).values(values).on_conflict_do_nothing())


async def halted_reason(tx: Tx, chain: str) -> str:
    """Why nothing may settle on this chain; empty while all is well."""
    cursor = await read(tx, chain)
    if cursor is None or not cursor.opened:
        return "the watcher has not read the chain yet"
    if cursor.recovering:
        return (
            f"the database was restored or promoted; settlement waits until the chain has passed {cursor.paused_until}"
        )
    return cursor.halted_reason


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
