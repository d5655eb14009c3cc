"""Retrying settlements: an item that rests gets its turn again, once its cause is gone."""

from __future__ import annotations

from uuid import UUID

from domain.audit import Actor
from server.services.acts import Acts
from storage import unsettled


class RetryService:
    """Puts items back into their queues. What may still land is never touched (money rule 1)."""

    def __init__(self, *, acts: Acts) -> None:
        self._acts = acts

    async def retry(self, item_id: UUID, *, reason: str, actor: Actor) -> None:
        """Let the item be looked at again, or raise why not."""
        async with self._acts.begin(actor) as act:
            if await unsettled.retry(act.tx, item_id):
                await act.record("settlement.retry", item_id, reason=reason)
