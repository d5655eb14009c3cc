"""What decides about a consumer's outgoing limit, as it stands now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import Date, cast, func, select

from domain.limits import current_usage
from storage.database import Tx
from storage.schema import wallets

_w = wallets.c


@dataclass(frozen=True, slots=True)
class Usage:
    """A consumer's KYC level, and what has gone out on the day that counts."""

    kyc_level: int
    day: date
    used_usd_micros: int


async def usage(tx: Tx, consumer: UUID) -> Usage | None:
    """The figures the next transfer will be judged by; the day is the database's (money rule 24)."""
    today = cast(func.timezone("UTC", func.clock_timestamp()), Date).label("today")
    statement = select(_w.kyc_level, _w.usage_day, _w.usage_usd_micros, today).where(_w.consumer_id == consumer)
    row = (await tx.execute(statement)).first()
    if row is None:
        return None
    day, used = current_usage(usage_day=row.usage_day, usage_micros=row.usage_usd_micros, today=row.today)
    return Usage(row.kyc_level, day, used)
