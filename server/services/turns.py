"""Turns: work on many things at once that lets other calls in between, so that a large message delays no small one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

# A hundred transfers are some milliseconds of work.
AT_A_TIME = 100


async def in_turns(things: Iterable[T]) -> AsyncIterator[T]:
    """The things in their order, with a pause for whoever else waits after every hundred."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % AT_A_TIME == 0:
            await asyncio.sleep(0)
