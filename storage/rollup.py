"""The operator's accounts, rolled up in the background: appended rows into one row for each account and asset."""

from __future__ import annotations

from sqlalchemy import BigInteger, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import system_balances, system_entries

_e = system_entries.c


async def roll_up(tx: Tx, *, limit: int = 5_000) -> int:
    """Fold up to `limit` appended rows into the balances; each row is taken exactly once. Returns how many."""
    taken = select(_e.id).order_by(_e.id).limit(limit).with_for_update(skip_locked=True)
    gone = delete(system_entries).where(_e.id.in_(taken)).returning(_e.kind, _e.asset, _e.delta_micros).cte("gone")
    total = cast(func.sum(gone.c.delta_micros), BigInteger)
    sums = select(gone.c.kind, gone.c.asset, total.label("micros"), func.count().label("rows"))
    rows = list(await tx.execute(sums.group_by(gone.c.kind, gone.c.asset).order_by(gone.c.kind, gone.c.asset)))
    for kind, asset, micros, _ in rows:
        added = upsert(system_balances).values(kind=kind, asset=asset, micros=micros)
        await tx.execute(
            added.on_conflict_do_update(
                index_elements=["kind", "asset"],
                set_={"micros": system_balances.c.micros + added.excluded.micros},
            )
        )
    return sum(row.rows for row in rows)
