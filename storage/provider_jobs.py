"""What an API process wants a provider to do: a row that a worker takes under a lease and answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import provider_jobs

_j = provider_jobs.c
MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class ProviderJob:
    """A job and, once it is done or failed, its answer."""

    id: UUID
    kind: str
    body: dict[str, Any]
    state: str
    answer: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed")


def _job(row: Any) -> ProviderJob:
    return ProviderJob(row.id, row.kind, row.body, row.state, row.answer)


async def ask(tx: Tx, *, job_id: UUID, kind: str, key: str, body: dict[str, Any], now: datetime) -> ProviderJob:
    """Put the job there, or find the one with the same kind and key."""
    asked = upsert(provider_jobs).values(id=job_id, kind=kind, key=key, body=body, state="waiting", created_at=now)
    await tx.execute(asked.on_conflict_do_nothing(index_elements=["kind", "key"]))
    row = (await tx.execute(select(provider_jobs).where(_j.kind == kind, _j.key == key))).one()
    return _job(row)


async def find(tx: Tx, job_id: UUID) -> ProviderJob | None:
    """The job as it stands."""
    row = (await tx.execute(select(provider_jobs).where(_j.id == job_id))).first()
    return _job(row) if row else None


async def take(tx: Tx, *, now: datetime, lease: timedelta, postponed: Collection[str] = ()) -> ProviderJob | None:
    """Lease the oldest job that nobody works on, leaving alone the kinds that are postponed."""
    free = or_(_j.state == "waiting", (_j.state == "running") & (_j.lease_until < now))
    if postponed:
        free &= _j.kind.not_in(sorted(postponed))
    oldest = select(_j.id).where(free).order_by(_j.created_at, _j.id).limit(1).with_for_update(skip_locked=True)
    taken = (
        update(provider_jobs)
        .where(_j.id.in_(oldest))
        .values(state="running", lease_until=now + lease, tries=_j.tries + 1)
        .returning(*provider_jobs.c)
    )
    row = (await tx.execute(taken)).first()
    return _job(row) if row else None


async def finish(tx: Tx, job_id: UUID, *, answer: dict[str, Any], succeeded: bool, now: datetime) -> None:
    """Store the answer."""
    state = "done" if succeeded else "failed"
    await tx.execute(update(provider_jobs).where(_j.id == job_id).values(state=state, answer=answer, finished_at=now))


async def forget(tx: Tx, kind: str, *, finished_before: datetime) -> None:
    """Remove old jobs of a kind whose answers are kept elsewhere."""
    await tx.execute(delete(provider_jobs).where(_j.kind == kind, _j.finished_at < finished_before))


async def put_back(tx: Tx, job_id: UUID, *, reason: str, now: datetime) -> None:
    """Try again later; after too many tries the job has failed."""
    row = (await tx.execute(select(_j.tries).where(_j.id == job_id))).one()
    if row.tries >= MAX_TRIES:
        await finish(tx, job_id, answer={"error": reason}, succeeded=False, now=now)
    else:
        await tx.execute(update(provider_jobs).where(_j.id == job_id).values(state="waiting", lease_until=None))
