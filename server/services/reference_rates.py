"""Setting the reference rate between euro and dollar."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.audit import Actor
from domain.errors import FieldViolation, StateConflict, ValidationFailed
from server.services.acts import Acts
from storage import rates
from storage.rates import EUR_USD, Rate

# What two clocks may differ by. A rate of a later time would seem young for longer than it is.
SKEW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class RateTold:
    """A rate, and when it was told."""

    rate: Rate
    source: str
    told_at: datetime


class ReferenceRateService:
    """Sets rates."""

    def __init__(self, *, acts: Acts) -> None:
        self._acts = acts

    async def set_rate(self, rate_micros: int, *, source: str, effective_at: datetime | None, actor: Actor) -> RateTold:
        """Every process decides by it within two seconds, unless a rate of a later time is known."""
        async with self._acts.begin(actor) as act:
            rate = Rate(rate_micros, effective_at or act.now)
            if rate.quoted_at > act.now + SKEW:
                raise ValidationFailed((FieldViolation("effective_time", "rate.future", "must not be in the future"),))
            if not await rates.set_rate(act.tx, EUR_USD, rate, source=source, now=act.now):
                known = await rates.read(act.tx, EUR_USD)
                found = known.quoted_at.isoformat() if known else ""
                raise StateConflict(EUR_USD, rate.quoted_at.isoformat(), found)
            effective_time = rate.quoted_at.isoformat()
            await act.record("rate.set", EUR_USD, rate_micros=rate_micros, source=source, effective_time=effective_time)
            return RateTold(rate, source, act.now)
