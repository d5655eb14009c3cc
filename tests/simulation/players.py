"""What the processes of `make simulate` do: each plays seeds on a database of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence

from tests.simulation.mutants import planted
from tests.simulation.stage import Played, stage_of

_own: dict[str, str | None] = {}
"""What this process of the pool plays on."""


def begin(queue: multiprocessing.Queue[str], mutant: str | None) -> None:
    """A process of the pool begins: it takes its database, and the bug that it is to play with."""
    _own.update(url=queue.get(), mutant=mutant)


def play_some(seeds: Sequence[int]) -> list[Played]:
    """These seeds, one after the other."""

    async def play() -> list[Played]:
        async with stage_of(str(_own["url"])) as stage:
            return [await stage.play(seed) for seed in seeds]

    with planted(_own["mutant"]):
        return asyncio.run(play())
