"""Ladders of prices on the chain's exchange: a worker writes them, requests read them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.money import Asset
from domain.swaps import Ladder, Rung
from storage.database import Tx
from storage.schema import dex_ladders

_d = dex_ladders.c


async def record(tx: Tx, ladders: Sequence[Ladder]) -> None:
    """Make these the pairs' ladders, but none that is older than what is known."""
    rows = [
        {
            "sell_asset": ladder.sell_asset,
            "buy_asset": ladder.buy_asset,
            "rungs": [[rung.sell_micros, rung.buy_micros] for rung in ladder.rungs],
            "block_number": ladder.block_number,
            "read_at": ladder.read_at,
        }
        # Two workers that write the same rows must lock them in the same order.
        for ladder in sorted(ladders, key=lambda ladder: (ladder.sell_asset, ladder.buy_asset))
    ]
    if not rows:
        return
    told = upsert(dex_ladders)
    changed = {name: told.excluded[name] for name in ("rungs", "block_number", "read_at")}
    newer = _d.read_at <= told.excluded.read_at
    await tx.execute(
        told.on_conflict_do_update(index_elements=["sell_asset", "buy_asset"], set_=changed, where=newer), rows
    )


async def read(tx: Tx, sell_asset: Asset, buy_asset: Asset) -> Ladder | None:
    """The pair's ladder, if one was ever read."""
    pair = (_d.sell_asset == sell_asset, _d.buy_asset == buy_asset)
    row = (await tx.execute(select(dex_ladders).where(*pair))).first()
    if row is None:
        return None
    rungs = tuple(Rung(sell_micros, buy_micros) for sell_micros, buy_micros in row.rungs)
    return Ladder(sell_asset, buy_asset, rungs, row.block_number, row.read_at)
