"""Offenders taken out of a batch before it is signed: rehearse, drop what fails, rehearse the rest again.

How a rehearsal is done is the provider's; what is dropped, and what has to wait behind it, is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from providers.base import Movement, PartyKind

F = TypeVar("F")

# The failure of each movement when the list is played in order, or None where it passes.
Rehearse = Callable[[Sequence[Movement]], Awaitable[Sequence[F | None]]]


@dataclass(frozen=True, slots=True)
class Sieved(Generic[F]):
    """A batch taken apart: what passes together, what fails and why, and what waits behind that."""

    passing: tuple[Movement, ...]
    failures: tuple[tuple[Movement, F], ...]
    deferred: tuple[Movement, ...]


async def sieve(movements: Sequence[Movement], rehearse: Rehearse[F]) -> Sieved[F]:
    """Rehearse until everything left passes, because a movement that fails changes what comes after it."""
    passing, failures, deferred = tuple(movements), list[tuple[Movement, F]](), list[Movement]()
    while passing:
        results = zip(passing, await rehearse(passing), strict=True)
        failing = {movement.item_id: failure for movement, failure in results if failure is not None}
        if not failing:
            break
        behind = _behind(failing.keys(), passing)
        failures += [(m, failing[m.item_id]) for m in passing if m.item_id in failing and m not in behind]
        deferred += behind
        passing = tuple(m for m in passing if m.item_id not in failing and m not in behind)
    return Sieved(passing, tuple(failures), tuple(deferred))


def _behind(failing: Collection[UUID], movements: Sequence[Movement]) -> list[Movement]:
    """Later movements of a consumer whose earlier one fails: they keep their place in the queue (money rule 7).

    The operator's own have no order to keep (money rule 9), but the rest of a group never goes without the one that
    fails (money rule 18).
    """
    stopped: set[str] = set()
    broken = {m.group_id for m in movements if m.item_id in failing and m.group_id is not None}
    behind = []
    for movement in movements:
        if movement.source.address in stopped or (movement.group_id in broken and movement.item_id not in failing):
            behind.append(movement)
        elif movement.item_id in failing and movement.source.kind is PartyKind.CONSUMER:
            stopped.add(movement.source.address)
    return behind
