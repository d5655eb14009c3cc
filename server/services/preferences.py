"""Preferences: what a consumer chose, changed field by field."""

from __future__ import annotations

from domain.clock import Clock
from domain.identity import ConsumerId
from domain.preferences import Changes, Preferences, changed
from storage import preferences, wallets
from storage.database import Engine, writing


class PreferencesService:
    """Changes preferences."""

    def __init__(self, *, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def update(self, consumer: ConsumerId, changes: Changes) -> Preferences:
        """Apply the changes to the version they were made for, and answer what holds now."""
        now = self._clock.now()
        async with writing(self._engine) as tx:
            await wallets.read(tx, consumer)
            before = await preferences.lock(tx, consumer, now=now)
            after = changed(before, changes)
            if after != before:
                await preferences.store(tx, consumer, after, now=now)
            return after
