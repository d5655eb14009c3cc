"""Reference rates: what one unit of a currency is worth in another, as an operator or a feed last said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import reference_rates

EUR_USD = "EUR/USD"

_r = reference_rates.c


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one unit of a pair's first currency, in micros of its second."""

    micros: int
    quoted_at: datetime


async def set_rate(tx: Tx, pair: str, rate: Rate, *, source: str, now: datetime) -> bool:
    """Make it the pair's rate. False: a rate of a later time is known already, and stays."""
    values = {"rate_micros": rate.micros, "source": source, "quoted_at": rate.quoted_at, "created_at": now}
    told = upsert(reference_rates).values(pair=pair, **values)
    newer = told.on_conflict_do_update(index_elements=["pair"], set_=values, where=_r.quoted_at <= rate.quoted_at)
    return (await tx.execute(newer.returning(_r.pair))).first() is not None


async def read(tx: Tx, pair: str) -> Rate | None:
    """The pair's rate, if it was ever set."""
    row = (await tx.execute(select(_r.rate_micros, _r.quoted_at).where(_r.pair == pair))).first()
    return Rate(row.rate_micros, row.quoted_at) if row else None
