"""Signed attempts: persisted under their items' fencing tokens before anything is sent, and closed only by the chain.

An attempt ends CONFIRMED or FAILED by the watcher's commit, which is the ledger's, or DEAD by proof, which is here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.identity import AttemptId, HolderId
from domain.money import Asset
from domain.settlement import IN_FLIGHT, AttemptKind, AttemptState, ItemState, Rail
from storage import custody, settlements
from storage.database import Tx
from storage.given import GivenRows, given_ids, is_given
from storage.schema import attempt_items, settlement_attempts, settlement_items
from storage.settlements import ClaimedItem, debits, in_locking_order

_i = settlement_items.c
_a = settlement_attempts.c
_OPEN = _a.state.in_([AttemptState.SIGNED, AttemptState.BROADCAST])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A signed attempt as it is persisted before anything is sent (money rule 1)."""

    id: AttemptId
    kind: AttemptKind
    rail: Rail
    provider: str
    reference: str
    payload: bytes
    valid_before: datetime
    signed_at: datetime
    state: AttemptState = AttemptState.SIGNED
    holder: HolderId | None = None
    assets: tuple[Asset, ...] = ()
    tries: int = 0


def _attempt(row: Any) -> Attempt:
    return Attempt(
        id=row.id,
        kind=AttemptKind(row.kind),
        rail=Rail(row.rail),
        provider=row.provider,
        reference=row.reference,
        payload=bytes(row.payload),
        valid_before=row.valid_before,
        signed_at=row.signed_at,
        state=AttemptState(row.state),
        holder=row.holder_id,
        assets=tuple(Asset(asset) for asset in (row.asset or "").split(",") if asset),
        tries=row.tries,
    )


# --- persisting -------------------------------------------------------------------------------------------------------

Signed = tuple[Attempt, Sequence[ClaimedItem]]


async def persist_attempts(tx: Tx, signed: Sequence[Signed]) -> list[Attempt]:
    """Store signed transfers under their items' fencing tokens; returns those that stand.

    The rest must be thrown away: a lease was lost (rule 2), or the very same bytes were signed before, for another
    attempt that is closed by now.
    """
    held = await settlements.lock_claimed(tx, [item for _, items in signed for item in items])
    ours = [(attempt, items) for attempt, items in signed if all(item.candidate.item_id in held for item in items)]
    inserted = await _insert(tx, [attempt for attempt, _ in ours])
    kept = [(attempt, items) for attempt, items in ours if attempt.id in inserted]
    calls = [(item.candidate.item_id, attempt.id, n) for attempt, items in kept for n, item in enumerate(items)]
    if calls:
        await _carry(tx, calls)
    return [attempt for attempt, _ in kept]


_CALLS = GivenRows(*attempt_items.c)
_CARRY = insert(attempt_items).from_select(attempt_items.c.keys(), select(*_CALLS.c))
_SIGNED = {"state": ItemState.SIGNED, "attempt_id": _CALLS.c.attempt_id, "lease_until": None}
_SIGN = update(settlement_items).where(_i.id == _CALLS.c.item_id).values(_SIGNED)


async def _carry(tx: Tx, calls: Sequence[tuple[Any, ...]]) -> None:
    """Say which items an attempt carries, and that it is their attempt now."""
    rows = _CALLS.bind(calls)
    await tx.execute(_CARRY, rows)
    await tx.execute(_SIGN, rows)


async def persist_activations(tx: Tx, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Store signed activations, but not of a consumer who has one under way; returns those that stand."""
    inserted = await _insert(tx, attempts)
    return [attempt for attempt in attempts if attempt.id in inserted]


async def persist_sale(tx: Tx, attempt: Attempt) -> None:
    """Store the signed attempt of a sale, in the database transaction that stores the sale."""
    await _insert(tx, [attempt])


async def find(tx: Tx, attempt_id: AttemptId) -> Attempt:
    """The attempt, which there is."""
    return _attempt((await tx.execute(select(settlement_attempts).where(_a.id == attempt_id))).one())


async def _insert(tx: Tx, attempts: Sequence[Attempt]) -> set[AttemptId]:
    if not attempts:
        return set()
    rows = [
        {
            "id": attempt.id,
            "kind": attempt.kind,
            "rail": attempt.rail,
            "provider": attempt.provider,
            "reference": attempt.reference,
            "payload": attempt.payload,
            "state": attempt.state,
            "holder_id": attempt.holder,
            "asset": ",".join(attempt.assets) or None,
            "valid_before": attempt.valid_before,
            "signed_at": attempt.signed_at,
        }
        for attempt in attempts
    ]
    inserted = await tx.execute(upsert(settlement_attempts).on_conflict_do_nothing().returning(_a.id), rows)
    return {row[0] for row in inserted}


_HANDED_OVER = update(settlement_items).values(state=ItemState.BROADCAST)
_HANDED_OVER = _HANDED_OVER.where(in_locking_order(is_given(_i.attempt_id) & (_i.state == ItemState.SIGNED)))
_NOTES = GivenRows(_a.id, _a.last_error)
_NOTE = (
    update(settlement_attempts)
    .where(_a.id == _NOTES.c.id, _OPEN)
    .values(
        state=AttemptState.BROADCAST,
        broadcast_at=func.coalesce(_a.broadcast_at, bindparam("now")),
        tries=_a.tries + 1,
        last_error=_NOTES.c.last_error,
    )
)


async def mark_broadcast(tx: Tx, notes: Sequence[tuple[AttemptId, str]], *, now: datetime) -> None:
    """Note that attempts were handed over, with the error each ended in, if any. Proves nothing (money rule 1)."""
    if not notes:
        return
    await tx.execute(_HANDED_OVER, given_ids(attempt_id for attempt_id, _ in notes))
    await tx.execute(_NOTE, _NOTES.bind(sorted(notes), now=now))


# --- reading ----------------------------------------------------------------------------------------------------------


_UNDER_WAY = select(settlement_attempts).where(_OPEN, _a.rail == bindparam("on_rail"))
_UNDER_WAY = _UNDER_WAY.order_by(_a.valid_before, _a.id).limit(bindparam("count"))


async def open_attempts(tx: Tx, rail: Rail, *, limit: int = 1_000) -> list[Attempt]:
    """Attempts on that rail that may still land, the soonest to expire first."""
    return [_attempt(row) for row in await tx.execute(_UNDER_WAY, {"count": limit, "on_rail": rail})]


async def still_open(tx: Tx, among: Sequence[Attempt]) -> list[Attempt]:
    """Those of them that nothing has closed meanwhile."""
    if not among:
        return []
    rows = await tx.execute(select(_a.id).where(_OPEN, is_given(_a.id)), given_ids(attempt.id for attempt in among))
    ids = {row[0] for row in rows}
    return [attempt for attempt in among if attempt.id in ids]


_REFERENCES = GivenRows(_a.reference)
_BY_REFERENCE = select(_a.reference, _a.id).join(_REFERENCES.table, _REFERENCES.c.reference == _a.reference)


async def by_reference(tx: Tx, references: Collection[str]) -> dict[str, AttemptId]:
    """Our attempts among these chain transactions."""
    rows = await tx.execute(_BY_REFERENCE, _REFERENCES.bind((reference,) for reference in references))
    return {row[0]: AttemptId(row[1]) for row in rows}


async def being_activated(tx: Tx, holders: Collection[HolderId]) -> set[HolderId]:
    """Who of these has an activation under way."""
    statement = select(_a.holder_id).where(_OPEN, _a.kind == AttemptKind.ACTIVATION, is_given(_a.holder_id))
    return {row[0] for row in await tx.execute(statement, given_ids(holders))}


# --- closing ----------------------------------------------------------------------------------------------------------


async def bury(tx: Tx, rail: Rail, attempt: Attempt, *, now: datetime, reason: str) -> int:
    """Close an attempt that is proven never to land, and give its items another chance (money rules 1 and 3)."""
    items = (await settlements.items_of_attempts(tx, [attempt.id]))[attempt.id]
    await custody.positions(tx, rail, sorted({item.queue for item in items}), lock=True)
    carried = (_i.attempt_id == attempt.id) & _i.state.in_(sorted(IN_FLIGHT))
    freed = await tx.execute(
        update(settlement_items)
        .where(in_locking_order(carried))
        .values(state=ItemState.PENDING, attempt_id=None, reason=reason)
        .returning(_i.sender, _i.asset, _i.micros)
    )
    returned = [(row.sender, Asset(row.asset), row.micros) for row in freed]
    dead = {"state": AttemptState.DEAD, "finished_at": now, "last_error": reason}
    await tx.execute(update(settlement_attempts).where(_a.id == attempt.id, _OPEN).values(dead))
    await custody.reserve(tx, rail, debits(returned, sign=-1))
    return len(returned)


async def mark_indeterminate(tx: Tx, attempt_id: AttemptId, reason: str) -> None:
    """Nothing can be proven of the attempt right now; its items wait, visibly, with the reason."""
    carried = (_i.attempt_id == attempt_id) & _i.state.in_([ItemState.SIGNED, ItemState.BROADCAST])
    shown = {"state": ItemState.INDETERMINATE, "reason": reason}
    await tx.execute(update(settlement_items).where(in_locking_order(carried)).values(shown))


async def finish_activation(tx: Tx, attempt_id: AttemptId, *, state: AttemptState, now: datetime) -> None:
    """Close an activation by its effect (money rule 6)."""
    finished = {"state": state, "finished_at": now}
    await tx.execute(update(settlement_attempts).where(_a.id == attempt_id, _OPEN).values(finished))
