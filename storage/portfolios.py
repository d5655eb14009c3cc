"""What a consumer held at an earlier time: the balance that the last entry before it left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, tuple_

from domain.money import Asset
from storage import history
from storage.database import Tx
from storage.schema import entries

_e = entries.c


async def held_before(tx: Tx, consumer: UUID, versions: Mapping[Asset, int], time: datetime) -> dict[Asset, int]:
    """Available and held together just before `time`, in micros. `versions` are the newest of each asset."""
    first = await history.first_since(tx, consumer, versions, time)
    last_before = [(asset, version - 1) for asset, version in sorted(first.items()) if version > 1]
    if not last_before:
        return {}
    total = _e.available_after + _e.held_after
    found = select(_e.asset, total).where(_e.consumer_id == consumer, tuple_(_e.asset, _e.version).in_(last_before))
    return {Asset(asset): micros for asset, micros in await tx.execute(found)}
