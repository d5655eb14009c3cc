"""Progressive KYC: how much a consumer may send out in one UTC day, in US dollar micros."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from domain.money import MICROS_PER_UNIT

# Level → dollars a UTC day: the wallet's three steps, from its product description.
DAILY_LIMIT_MICROS = {
    1: 1_000 * MICROS_PER_UNIT,
    2: 50_000 * MICROS_PER_UNIT,
    3: 250_000 * MICROS_PER_UNIT,
}
HIGHEST_LEVEL = max(DAILY_LIMIT_MICROS)


class Evidence(StrEnum):
    """What can prove who somebody is, and where the money comes from."""

    IDENTITY_DOCUMENT = "identity_document"
    SELFIE = "selfie"
    PROOF_OF_ADDRESS = "proof_of_address"
    SOURCE_OF_FUNDS = "source_of_funds"


# What a case for the level must bring, beyond what the level below already asked for.
REQUIRED_EVIDENCE = {
    1: (),
    2: (Evidence.IDENTITY_DOCUMENT, Evidence.SELFIE),
    3: (Evidence.PROOF_OF_ADDRESS, Evidence.SOURCE_OF_FUNDS),
}


def reset_time(day: date) -> datetime:
    """When the counter of a day starts again: the next UTC midnight."""
    return datetime.combine(day + timedelta(days=1), time.min, UTC)


def current_usage(*, usage_day: date, usage_micros: int, today: date) -> tuple[date, int]:
    """The day that counts and what has been used in it. A day never goes back (money rule 24)."""
    return (today, 0) if today > usage_day else (usage_day, usage_micros)
