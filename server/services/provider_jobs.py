"""What a request wants from a provider: asked for by a row, done by a worker, waited for within the caller's deadline.

A process that answers calls reaches no provider itself. What takes longer than its caller waits is done all the same.
"""

from __future__ import annotations

from typing import Any

from domain.clock import Clock, Entropy
from storage import provider_jobs
from storage.database import Engine, reading, writing
from storage.provider_jobs import ProviderJob

# Answers go out this long before the caller gives up waiting for them.
MARGIN_SECONDS = 0.25
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.25


class ProviderJobs:
    """Asks, and waits."""

    def __init__(self, *, engine: Engine, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._clock = clock
        self._entropy = entropy

    async def ask(self, kind: str, body: dict[str, Any], *, key: str, deadline: float) -> ProviderJob:
        """The job as it stands when it is finished, or when `deadline` (monotonic) is near. The same key asks once."""
        async with writing(self._engine) as tx:
            job = await provider_jobs.ask(
                tx, job_id=self._entropy.uuid7(), kind=kind, key=key, body=body, now=self._clock.now()
            )
        pause = FIRST_PAUSE_SECONDS
        while not job.finished and self._clock.monotonic() + pause < deadline - MARGIN_SECONDS:
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            async with reading(self._engine) as tx:
                job = await provider_jobs.find(tx, job.id) or job
        return job
