"""Unswept fees: what consumers' positions still hold of the operator's fees."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from domain.money import Asset
from storage.database import Tx
from storage.schema import stablecoin_balances

_b = stablecoin_balances.c


@dataclass(frozen=True, slots=True)
class Unswept:
    """A balance with fees worth sweeping; its version names the sweep."""

    consumer_id: UUID
    asset: Asset
    micros: int
    version: int


async def worth_sweeping(tx: Tx, *, threshold_micros: int, limit: int = 500) -> list[Unswept]:
    """Balances whose unswept fees reached the threshold."""
    statement = (
        select(_b.consumer_id, _b.asset, _b.unswept_fee_micros, _b.version)
        .where(_b.unswept_fee_micros >= threshold_micros)
        .order_by(_b.consumer_id, _b.asset)
        .limit(limit)
    )
    return [Unswept(row[0], Asset(row[1]), row[2], row[3]) for row in await tx.execute(statement)]
