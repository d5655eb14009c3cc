"""Sales of the treasury's: persisted with their attempt and their cover, one open at a time.

How a sale ended is written by the watcher's commit, which is the ledger's, or here by proof that it never can land.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.identity import OPERATOR, AttemptId
from domain.money import Asset, Money
from domain.settlement import AttemptState, Rail
from domain.treasury import SaleState, Stock, StoredSale
from storage import attempts, custody
from storage.attempts import Attempt
from storage.database import Tx
from storage.schema import settlement_attempts, settlement_items, treasury_sales
from storage.settlements import OPEN

_s = treasury_sales.c
_a = settlement_attempts.c
_i = settlement_items.c


async def holdings(tx: Tx, rail: Rail, assets: Collection[Asset]) -> dict[Asset, Stock]:
    """What the operator has of these assets there, after all that is on its way to it and from it."""
    positions = await custody.positions(tx, rail, [(OPERATOR, asset) for asset in sorted(assets)])
    leaving = func.coalesce(func.sum(_i.micros).filter(_i.sender == OPERATOR), 0)
    coming = func.coalesce(func.sum(_i.micros).filter(_i.recipient == OPERATOR), 0)
    ours = OPEN & (_i.rail == rail) & or_(_i.sender == OPERATOR, _i.recipient == OPERATOR)
    sums = select(_i.asset, cast(leaving, BigInteger), cast(coming, BigInteger)).where(ours).group_by(_i.asset)
    moving = {Asset(row[0]): (row[1], row[2]) for row in await tx.execute(sums)}
    found = {}
    for (_, asset), position in positions.items():
        out, into = moving.get(asset, (0, 0))
        found[asset] = Stock(position.micros + into - out, min(position.spendable, position.micros - out))
    return found


async def start(tx: Tx, rail: Rail, sale: StoredSale, attempt: Attempt, *, now: datetime) -> bool:
    """Persist sale and attempt with the cover reserved. False: it is no longer covered, or another one is open."""
    holder = (OPERATOR, sale.sell.asset)
    position = (await custody.positions(tx, rail, [holder], lock=True)).get(holder)
    if position is None or position.spendable < sale.sell.micros:
        return False
    values = {
        "attempt_id": sale.attempt_id,
        "sell_asset": sale.sell.asset,
        "sell_micros": sale.sell.micros,
        "buy_asset": sale.buy_asset,
        "least_micros": sale.least_micros,
        "state": SaleState.SIGNED,
        "created_at": now,
    }
    begun = upsert(treasury_sales).values(id=sale.id, **values).on_conflict_do_nothing().returning(_s.id)
    if (await tx.execute(begun)).first() is None:
        return False
    await attempts.persist_sale(tx, attempt)
    await custody.reserve(tx, rail, {holder: sale.sell.micros})
    return True


async def under_way(tx: Tx) -> StoredSale | None:
    """The one that may still land."""
    row = (await tx.execute(select(treasury_sales).where(_s.state == SaleState.SIGNED))).first()
    return _sale(row) if row else None


async def by_attempt(tx: Tx, attempt_ids: Collection[UUID]) -> dict[AttemptId, StoredSale]:
    """The sales that these attempts carry, as long as nothing is known of their end."""
    if not attempt_ids:
        return {}
    wanted = _s.attempt_id.in_(sorted(attempt_ids)) & (_s.state == SaleState.SIGNED)
    return {row.attempt_id: _sale(row) for row in await tx.execute(select(treasury_sales).where(wanted))}


async def bury(tx: Tx, rail: Rail, sale: StoredSale, *, reason: str, now: datetime) -> None:
    """It is proven never to land: what was reserved for it is free again."""
    holder = (OPERATOR, sale.sell.asset)
    await custody.positions(tx, rail, [holder], lock=True)
    dead = {"state": SaleState.DEAD, "reason": reason, "closed_at": now}
    ended = update(treasury_sales).where(_s.id == sale.id, _s.state == SaleState.SIGNED).values(**dead)
    if (await tx.execute(ended)).rowcount == 0:
        return
    attempt = {"state": AttemptState.DEAD, "finished_at": now, "last_error": reason}
    await tx.execute(update(settlement_attempts).where(_a.id == sale.attempt_id).values(**attempt))
    await custody.reserve(tx, rail, {holder: -sale.sell.micros})


def _sale(row: Any) -> StoredSale:
    return StoredSale(
        id=row.id,
        attempt_id=AttemptId(row.attempt_id),
        sell=Money(Asset(row.sell_asset), row.sell_micros),
        buy_asset=Asset(row.buy_asset),
        least_micros=row.least_micros,
    )
