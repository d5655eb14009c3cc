"""Preferences: one row for each consumer who ever changed any."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.money import Asset
from domain.preferences import Notification, Preferences
from domain.routing import Speed
from storage.database import Tx
from storage.schema import consumer_preferences

_p = consumer_preferences.c


async def read(tx: Tx, consumer_id: UUID) -> Preferences:
    """The consumer's preferences, which are the defaults until they are changed."""
    row = (await tx.execute(select(consumer_preferences).where(_p.consumer_id == consumer_id))).first()
    return _preferences(row) if row else Preferences()


async def lock(tx: Tx, consumer_id: UUID, *, now: datetime) -> Preferences:
    """The same, for who is about to change them: there is a row from now on, and nobody else changes it meanwhile."""
    values = {"consumer_id": consumer_id, "changed_at": now, **_values(Preferences())}
    await tx.execute(upsert(consumer_preferences).values(values).on_conflict_do_nothing())
    statement = select(consumer_preferences).where(_p.consumer_id == consumer_id).with_for_update(key_share=True)
    return _preferences((await tx.execute(statement)).one())


async def store(tx: Tx, consumer_id: UUID, preferences: Preferences, *, now: datetime) -> None:
    """Write a new version of locked preferences."""
    changed = update(consumer_preferences).where(_p.consumer_id == consumer_id)
    await tx.execute(changed.values(changed_at=now, **_values(preferences)))


async def forget(tx: Tx, consumer_id: UUID) -> None:
    """Back to the defaults."""
    await tx.execute(delete(consumer_preferences).where(_p.consumer_id == consumer_id))


def _values(preferences: Preferences) -> dict[str, Any]:
    return {
        "default_asset": preferences.default_asset,
        "preferred_speed": preferences.preferred_speed,
        "switched_off": sorted(preferences.switched_off),
        "version": preferences.version,
    }


def _preferences(row: Any) -> Preferences:
    return Preferences(
        default_asset=Asset(row.default_asset),
        preferred_speed=Speed(row.preferred_speed),
        switched_off=frozenset(Notification(name) for name in row.switched_off),
        version=row.version,
    )
