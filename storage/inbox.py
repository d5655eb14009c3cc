"""What providers told us, each event once, kept before it is answered and until it was looked into.

An event says that something about a resource may have changed, never what: the row holds the resource's name and no
more, so that nothing of a sender's text, and nothing personal, is kept or believed. One that nobody here recognises yet
waits and is tried again, because a provider may be faster than our own commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import inbox

_i = inbox.c

WAITING, UNMATCHED, DONE, IGNORED, GIVEN_UP = "WAITING", "UNMATCHED", "DONE", "IGNORED", "GIVEN_UP"
_OPEN = _i.state.in_([WAITING, UNMATCHED])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """An event, by its provider's own unique name for it, and the resource it is about."""

    id: str
    source: str
    subject: str
    reference: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEvent:
    """An event as it waits to be looked into."""

    id: str
    source: str
    subject: str
    reference: str
    state: str
    tries: int
    received_at: datetime


async def receive(tx: Tx, events: Sequence[ReceivedEvent], *, now: datetime) -> set[str]:
    """Keep events; the ids of those that are new. The others were received before, and nothing changes."""
    if not events:
        return set()
    rows = [
        {
            "id": event.id,
            "source": event.source,
            "subject": event.subject,
            "reference": event.reference,
            "state": WAITING,
            "occurred_at": event.occurred_at,
            "received_at": now,
            "due_at": now,
        }
        for event in events
    ]
    kept = await tx.execute(upsert(inbox).on_conflict_do_nothing(index_elements=["id"]).returning(_i.id), rows)
    return {row[0] for row in kept}


async def take_due(tx: Tx, *, now: datetime, lease: timedelta, limit: int) -> list[InboxEvent]:
    """The next events to look into, put off by `lease`, so that no other worker takes them meanwhile."""
    due = select(_i.id).where(_OPEN, _i.due_at <= now).order_by(_i.due_at, _i.id).limit(limit)
    taken = update(inbox).where(_i.id.in_(due.with_for_update(skip_locked=True))).values(due_at=now + lease)
    rows = await tx.execute(taken.returning(*inbox.c))
    return sorted((_event(row) for row in rows), key=lambda event: (event.received_at, event.id))


async def finish(tx: Tx, event_id: str, *, state: str, now: datetime, reason: str = "") -> None:
    """It was looked into, or need not be."""
    assert state in (DONE, IGNORED, GIVEN_UP)
    finished = {"state": state, "reason": reason, "finished_at": now, "tries": _i.tries + 1}
    await tx.execute(update(inbox).where(_i.id == event_id, _OPEN).values(finished))


async def postpone(tx: Tx, event_id: str, *, state: str, due_at: datetime, reason: str) -> None:
    """Try again later: nobody recognised it yet, or the provider could not be asked."""
    assert state in (WAITING, UNMATCHED)
    later = {"state": state, "due_at": due_at, "reason": reason, "tries": _i.tries + 1}
    await tx.execute(update(inbox).where(_i.id == event_id, _OPEN).values(later))


async def counts(tx: Tx) -> dict[str, int]:
    """How many events are open, by state."""
    rows = await tx.execute(select(_i.state, func.count()).where(_OPEN).group_by(_i.state))
    return {row[0]: row[1] for row in rows}


async def forget(tx: Tx, *, finished_before: datetime) -> int:
    """Remove events that were finished long ago: later than any redelivery that is still believed."""
    return (await tx.execute(delete(inbox).where(~_OPEN, _i.finished_at < finished_before))).rowcount


def _event(row: Any) -> InboxEvent:
    return InboxEvent(
        id=row.id,
        source=row.source,
        subject=row.subject,
        reference=row.reference,
        state=row.state,
        tries=row.tries,
        received_at=row.received_at,
    )
