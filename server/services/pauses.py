"""Pausing providers: no new attempt there and no route through it, until an operator lets it work again."""

from __future__ import annotations

from domain.audit import Actor
from domain.errors import ProviderNotFound
from server.services.acts import Acts
from storage import provider_health


class PauseService:
    """Pauses providers, and lifts it."""

    def __init__(self, *, acts: Acts) -> None:
        self._acts = acts

    async def set_paused(self, provider: str, *, paused: bool, reason: str, actor: Actor) -> None:
        """Make it so, whatever it was."""
        async with self._acts.begin(actor) as act:
            changed = await provider_health.set_paused(act.tx, provider, paused=paused)
            if changed is None:
                raise ProviderNotFound(provider)
            if changed:
                await act.record("provider.pause" if paused else "provider.resume", provider, reason=reason)
