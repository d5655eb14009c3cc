"""Freezing and unfreezing wallets: nothing moves between a frozen wallet and others, from the next decision on."""

from __future__ import annotations

from uuid import UUID

from domain.audit import Actor
from domain.errors import ConsumerNotFound
from server.services.acts import Acts
from storage import wallets
from storage.consumers import Consumer, Directory


class FreezeService:
    """Freezes wallets, and lifts it."""

    def __init__(self, *, acts: Acts, directory: Directory) -> None:
        self._acts = acts
        self._directory = directory

    async def set_frozen(self, consumer_id: UUID, *, frozen: bool, reason: str, actor: Actor) -> Consumer:
        """Make it so, whatever it was, and answer who it is."""
        async with self._acts.begin(actor) as act:
            wallet = await wallets.lock(act.tx, consumer_id)
            wallet.require_open()
            if wallet.frozen != frozen:
                await wallets.set_frozen(act.tx, consumer_id, frozen=frozen)
                action = "consumer.freeze" if frozen else "consumer.unfreeze"
                await act.record(action, consumer_id, consumer_id=consumer_id, reason=reason)
            consumer = await self._directory.find_by_id(act.tx, consumer_id)
        if consumer is None:
            raise ConsumerNotFound(consumer_id)
        return consumer
