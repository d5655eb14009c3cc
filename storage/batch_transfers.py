"""Batch transfers: the record of each, and its parts as they are read back."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from domain.commands import NewRecord, RecordKind
from domain.money import Asset, Money
from storage import transactions
from storage.database import Tx
from storage.schema import entries
from storage.transactions import Recorded

_e = entries.c


def new_record(id: UUID, consumer_id: UUID, *, total: Money, fee: Money, item_count: int, now: datetime) -> NewRecord:
    """A batch for the command that makes it."""
    values = {
        "consumer_id": consumer_id,
        "asset": total.asset,
        "micros": total.micros,
        "fee_micros": fee.micros,
        "item_count": item_count,
        "state": "COMPLETED",
        "created_at": now,
    }
    return NewRecord(kind=RecordKind.BATCH_TRANSFER, id=id, values=values)


async def parts(tx: Tx, consumer_id: UUID, asset: Asset, last_version: int, count: int) -> list[Recorded]:
    """The transactions of the batch that left the sender's balance at a version, in the order of its items.

    Each part raised the version by one and nothing came in between, so they are the last entries up to there.
    """
    own = (_e.consumer_id == consumer_id, _e.asset == asset)
    statement = select(_e.transaction_id).where(*own, _e.version.between(last_version - count + 1, last_version))
    ids = list((await tx.execute(statement.order_by(_e.version))).scalars())
    found = await transactions.get_all(tx, ids)
    return [found[id] for id in ids]
