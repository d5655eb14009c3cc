"""Addresses on Tempo: a pool that workers derive ahead, from which onboarding takes the next one.

Each address gets its holder when it is derived, not when it is given away: who onboards takes over the holder's id, so
that money which arrives at an unassigned address already stands in the name of a holder, and no address ever changes
hands. A consumer's keys never come near the process that serves requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.clock import Entropy
from storage import recoveries
from storage.database import Tx
from storage.schema import tempo_addresses

_a = tempo_addresses.c


@dataclass(frozen=True, slots=True)
class PooledAddress:
    """An address of ours, in lower case, with the holder whose money stands there."""

    address: str
    holder_id: UUID
    index: int | None
    state: str


async def take_free(tx: Tx) -> PooledAddress | None:
    """Give away the free address with the lowest index; None when the pool is empty.

    Rows that others are taking right now are skipped, so that onboardings never wait for one another.
    """
    next_free = (
        select(_a.address)
        .where(_a.state == "free")
        .order_by(_a.derivation_index)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    # Asked for once more, so that a plan which evaluates the choice per row can never take two.
    taken = update(tempo_addresses).where(_a.address == next_free, _a.state == "free").values(state="assigned")
    row = (await tx.execute(taken.returning(*tempo_addresses.c))).first()
    return _pooled(row) if row else None


async def free_count(tx: Tx) -> int:
    """How many consumers can still onboard before more addresses are derived."""
    statement = select(func.count()).select_from(tempo_addresses).where(_a.state == "free")
    return (await tx.execute(statement)).scalar_one()


async def next_index(tx: Tx) -> int:
    """The first index that was never derived."""
    highest = (await tx.execute(select(func.max(_a.derivation_index)))).scalar_one()
    first = await recoveries.first_index(tx)
    return first if highest is None else max(first, highest + 1)


async def add_derived(tx: Tx, derived: Sequence[str], *, first_index: int, now: datetime, entropy: Entropy) -> None:
    """Put freshly derived addresses into the pool. What another worker added meanwhile stays as it is."""
    rows = [
        {
            "address": address,
            "holder_id": entropy.uuid7(),
            "derivation_index": first_index + offset,
            "state": "free",
            "created_at": now,
        }
        for offset, address in enumerate(derived)
    ]
    await tx.execute(upsert(tempo_addresses).on_conflict_do_nothing(), rows)


async def add_operator(tx: Tx, holder_id: UUID, address: str, *, now: datetime) -> None:
    """Note one of the operator's own addresses, so that what moves there is known for what it is."""
    row = {"address": address, "holder_id": holder_id, "state": "operator", "created_at": now}
    await tx.execute(upsert(tempo_addresses).values(row).on_conflict_do_nothing())


def _pooled(row: Any) -> PooledAddress:
    return PooledAddress(row.address, row.holder_id, row.derivation_index, row.state)
