"""What workers found out about destinations: whether a token's policy lets an address receive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.money import Asset
from storage.database import Tx
from storage.schema import destination_checks

_d = destination_checks.c


@dataclass(frozen=True, slots=True)
class DestinationCheck:
    """An answer of the chain. An old one says little: whoever reads it judges its age."""

    allowed: bool
    checked_at: datetime


async def read(tx: Tx, asset: Asset, address: str) -> DestinationCheck | None:
    """The last answer, if there ever was one."""
    row = (await tx.execute(select(_d.allowed, _d.checked_at).where(_d.asset == asset, _d.address == address))).first()
    return DestinationCheck(row.allowed, row.checked_at) if row else None


async def record(tx: Tx, asset: Asset, address: str, check: DestinationCheck) -> None:
    """Keep an answer."""
    found = {"allowed": check.allowed, "checked_at": check.checked_at}
    statement = upsert(destination_checks).values(asset=asset, address=address, **found)
    await tx.execute(statement.on_conflict_do_update(index_elements=["asset", "address"], set_=found))
