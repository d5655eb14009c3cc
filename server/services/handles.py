"""Handles: the name by which others can pay a consumer."""

from __future__ import annotations

from domain.clock import Clock
from domain.errors import ConsumerNotFound, HandleTaken
from domain.handles import is_reserved, normalised
from domain.identity import ConsumerId
from storage import wallets
from storage.consumers import Consumer, Directory
from storage.database import Engine, writing


class HandleService:
    """Gives handles."""

    def __init__(self, *, engine: Engine, directory: Directory, clock: Clock) -> None:
        self._engine = engine
        self._directory = directory
        self._clock = clock

    async def set_handle(self, consumer_id: ConsumerId, text: str) -> Consumer:
        """Give the consumer this handle in place of the one they have, if it may be had."""
        handle = normalised(text)
        async with writing(self._engine) as tx:
            (await wallets.lock(tx, consumer_id)).require_active()
            if is_reserved(handle):
                raise HandleTaken()
            await self._directory.set_handle(tx, consumer_id, handle, now=self._clock.now())
            consumer = await self._directory.find_by_id(tx, consumer_id)
        if consumer is None:
            raise ConsumerNotFound(consumer_id)
        return consumer
