"""The epoch of the ledger: the time line that balances' versions belong to.

A version is given out once, and cursors of streams rest on that. A database restored to an earlier time gives the same
versions out again, to other transactions, so a restore must change the epoch: `python -m storage.epochs`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update

from domain.clock import SystemClock, SystemEntropy
from storage.database import Tx, create_engine
from storage.schema import ledger_epoch


async def current(tx: Tx) -> UUID:
    """The present epoch."""
    epoch: UUID = (await tx.execute(select(ledger_epoch.c.epoch))).scalar_one()
    return epoch


async def begin(tx: Tx, epoch: UUID, *, now: datetime) -> None:
    """Begin a new epoch: every cursor given out before is too old from now on."""
    await tx.execute(update(ledger_epoch).values(epoch=epoch, began_at=now))


async def _begin_after_restore(url: str) -> None:
    clock = SystemClock()
    engine = create_engine(url)
    async with engine.begin() as tx:
        await begin(tx, SystemEntropy(clock).uuid7(), now=clock.now())
    await engine.dispose()


if __name__ == "__main__":
    database_url = os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not database_url:
        sys.stderr.write("Set DATABASE_OWNER_URL (or DATABASE_URL) to the database that was restored.\n")
        raise SystemExit(2)
    asyncio.run(_begin_after_restore(database_url))
