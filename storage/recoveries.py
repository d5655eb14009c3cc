"""Which incarnation of the database this is, and from when on settlement trusts it (money rule 15).

A restore or a promotion may have lost the last commits, signed attempts among them, whose transactions can still land.
It shows in the server's time line or in its system identifier. An incarnation that is not known yet begins a recovery:
settlement waits until the chain has passed everything that can have been signed before, while the watcher adopts by
memo what it finds; and addresses that may have been given away are given to nobody else.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import breaks, recoveries, tempo_addresses

_r = recoveries.c
_a = tempo_addresses.c

# A log file's name begins with the time line it belongs to; a promotion and a restore from an archive begin a new one.
INCARNATION: ColumnElement[str] = literal_column(
    "(substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '-' || (pg_control_system()).system_identifier)"
)

PAUSE = timedelta(seconds=35)
"""The longest window in which a signature can land, and what clocks may differ by."""

SKIPPED_INDEXES = 1_000_000
"""More addresses than can have been derived in commits that were lost."""


async def begin_first(tx: Tx, *, now: datetime) -> None:
    """The incarnation in which the books are opened: there is nothing before it that could have been lost."""
    if (await tx.execute(select(_r.incarnation).limit(1))).first() is None:
        await _begin(tx, now=now, paused_until=now, first_index=0)


async def begin(tx: Tx, *, now: datetime, break_id: UUID) -> bool:
    """Begin the recovery of an incarnation that is not known yet. False: somebody else has just begun it."""
    highest = (await tx.execute(select(func.max(_a.derivation_index)))).scalar_one()
    first_index = (highest or 0) + SKIPPED_INDEXES
    incarnation = await _begin(tx, now=now, paused_until=now + PAUSE, first_index=first_index)
    if incarnation is None:
        return False
    # Whoever was given one of these in a lost commit may still be paid there.
    await tx.execute(update(tempo_addresses).where(_a.state == "free").values(state="tainted"))
    facts = {"incarnation": incarnation, "paused_until": (now + PAUSE).isoformat()}
    found = {"id": break_id, "kind": "database_recovered", "subject": incarnation, "facts": facts, "found_at": now}
    await tx.execute(upsert(breaks).values(found).on_conflict_do_nothing())
    return True


async def _begin(tx: Tx, *, now: datetime, paused_until: datetime, first_index: int) -> str | None:
    values = {"incarnation": INCARNATION, "began_at": now, "paused_until": paused_until, "first_index": first_index}
    begun = upsert(recoveries).values(values).on_conflict_do_nothing().returning(_r.incarnation)
    incarnation: str | None = (await tx.execute(begun)).scalar_one_or_none()
    return incarnation


async def first_index(tx: Tx) -> int:
    """The lowest index from which addresses may be derived."""
    index: int = (await tx.execute(select(func.coalesce(func.max(_r.first_index), 0)))).scalar_one()
    return index
