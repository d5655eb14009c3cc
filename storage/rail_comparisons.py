"""What a custodian says of the operator's account there, beside what the books said at the same moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.money import Asset
from domain.settlement import Rail
from storage.database import Tx
from storage.schema import rail_comparisons

_c = rail_comparisons.c


@dataclass(frozen=True, slots=True)
class RailComparison:
    """One asset on one rail. A difference counts once it has lasted: money may be between two reads."""

    rail: Rail
    asset: Asset
    expected_micros: int
    found_micros: int
    compared_at: datetime
    differs_since: datetime | None = None


async def record(tx: Tx, seen: RailComparison) -> None:
    """Keep it in place of the last one. A difference keeps the time at which it was first seen."""
    differs = seen.expected_micros != seen.found_micros
    values = {
        "expected_micros": seen.expected_micros,
        "found_micros": seen.found_micros,
        "compared_at": seen.compared_at,
        "differs_since": seen.compared_at if differs else None,
    }
    row = upsert(rail_comparisons).values(rail=seen.rail, asset=seen.asset, **values)
    since = func.coalesce(_c.differs_since, row.excluded.differs_since) if differs else None
    await tx.execute(
        row.on_conflict_do_update(index_elements=["rail", "asset"], set_={**values, "differs_since": since})
    )


async def read_all(tx: Tx) -> list[RailComparison]:
    """All of them, by rail and asset."""
    rows = await tx.execute(select(rail_comparisons).order_by(_c.rail, _c.asset))
    return [
        RailComparison(
            Rail(row.rail),
            Asset(row.asset),
            row.expected_micros,
            row.found_micros,
            row.compared_at,
            row.differs_since,
        )
        for row in rows
    ]
