"""What workers know of each provider, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Tx
from storage.schema import provider_health

_h = provider_health.c


@dataclass(frozen=True, slots=True)
class ProviderHealthRow:
    """A provider as its worker last saw it. An old row says nothing: whoever reads it judges its age."""

    provider: str
    healthy: bool
    breaker: str
    latency_ms: int
    success_rate_micros: int
    detail: str
    checked_at: datetime
    paused: bool = False


async def record(tx: Tx, row: ProviderHealthRow) -> None:
    """Write what was seen. Whether an operator paused the provider is not the worker's to change."""
    seen = {
        "healthy": row.healthy,
        "breaker": row.breaker,
        "latency_ms": row.latency_ms,
        "success_rate_micros": row.success_rate_micros,
        "detail": row.detail,
        "checked_at": row.checked_at,
    }
    statement = upsert(provider_health).values(provider=row.provider, **seen)
    await tx.execute(statement.on_conflict_do_update(index_elements=["provider"], set_=seen))


async def set_paused(tx: Tx, provider: str, *, paused: bool) -> bool | None:
    """Take a provider out of routing or let it work again. Whether that changed anything; None: there is none."""
    row = (await tx.execute(select(_h.paused).where(_h.provider == provider).with_for_update())).first()
    if row is None:
        return None
    await tx.execute(update(provider_health).where(_h.provider == provider).values(paused=paused))
    return bool(row.paused != paused)


async def is_paused(tx: Tx, provider: str) -> bool:
    """Whether an operator took the provider out of routing: then no new attempt is made there."""
    row = (await tx.execute(select(_h.paused).where(_h.provider == provider))).first()
    return bool(row and row.paused)


async def read_all(tx: Tx) -> list[ProviderHealthRow]:
    """All providers, by name."""
    rows = await tx.execute(select(provider_health).order_by(_h.provider))
    return [
        ProviderHealthRow(
            row.provider,
            row.healthy,
            row.breaker,
            row.latency_ms,
            row.success_rate_micros,
            row.detail,
            row.checked_at,
            row.paused,
        )
        for row in rows
    ]
