"""What monitoring asks of the database: how providers and settlement do now, and what the day has brought so far.

Each function is one statement. Those over a span of time read by primary key: identifiers begin with their time, so the
rows of an hour or of a day stand together and need no index of their own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Float, Integer, Select, cast, distinct, func, select

from domain.clock import uuid7_from
from domain.identity import OPERATOR
from domain.settlement import AttemptKind, ItemState
from storage.database import Tx
from storage.schema import (
    attempt_items,
    batch_transfers,
    breaks,
    chain_cursors,
    custody_positions,
    proofs,
    provider_health,
    provider_jobs,
    settlement_attempts,
    settlement_items,
    tempo_addresses,
    transactions,
    wallets,
)
from storage.settlements import OPEN

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the figure."""

_i = settlement_items.c
_a = settlement_attempts.c
_p = provider_health.c
_t = transactions.c
_RECENT = timedelta(hours=1)


async def _samples(tx: Tx, statement: Select[Any]) -> list[Sample]:
    """All columns but the last one are labels."""
    rows = await tx.execute(statement)
    return [(tuple(str(label) for label in labels), float(value)) for *labels, value in rows]


def _seconds_since(column: Any, now: datetime) -> Any:
    return func.coalesce(func.extract("epoch", now - column), 0)


def first_id(moment: datetime) -> UUID:
    """The least identifier that can have been made at that moment."""
    return uuid7_from(int(moment.timestamp() * 1000), bytes(10))


def _today(now: datetime) -> UUID:
    return first_id(now.replace(hour=0, minute=0, second=0, microsecond=0))


# --- providers ------------------------------------------------------------------------------------------------------


async def providers_up(tx: Tx, now: datetime) -> list[Sample]:
    """1 for each provider that its worker has just seen well. A row that grows old is a worker that is gone."""
    fresh = _p.healthy & (_p.checked_at > now - timedelta(seconds=15))
    return await _samples(tx, select(_p.provider, cast(fresh, Integer)))


async def providers_paused(tx: Tx, _now: datetime) -> list[Sample]:
    return await _samples(tx, select(_p.provider, cast(_p.paused, Integer)))


async def provider_latency(tx: Tx, _now: datetime) -> list[Sample]:
    return await _samples(tx, select(_p.provider, cast(_p.latency_ms, Float) / 1000))


async def provider_success(tx: Tx, _now: datetime) -> list[Sample]:
    return await _samples(tx, select(_p.provider, cast(_p.success_rate_micros, Float) / 1_000_000))


async def recent_attempts(tx: Tx, now: datetime) -> list[Sample]:
    """Attempts to settle of the last hour, by provider and what became of them."""
    recent = (_a.id >= first_id(now - _RECENT)) & (_a.kind == AttemptKind.TRANSFER)
    return await _samples(tx, select(_a.provider, _a.state, func.count()).where(recent).group_by(_a.provider, _a.state))


async def recent_items(tx: Tx, now: datetime) -> list[Sample]:
    """Items that attempts of the last hour carried. Of one attempt there are many on Tempo and one on Circle, so it is
    items that tell how much falls back."""
    recent = (_a.id >= first_id(now - _RECENT)) & (_a.kind == AttemptKind.TRANSFER)
    carried = settlement_attempts.join(attempt_items, attempt_items.c.attempt_id == _a.id)
    return await _samples(
        tx, select(_a.provider, func.count()).select_from(carried).where(recent).group_by(_a.provider)
    )


async def operator_float(tx: Tx, _now: datetime) -> list[Sample]:
    """The operator's own money on each rail."""
    c = custody_positions.c
    return await _samples(tx, select(c.rail, c.asset, c.micros).where(c.holder_id == OPERATOR))


async def waiting_jobs(tx: Tx, now: datetime) -> list[Sample]:
    """How long the oldest request to a provider has been waiting."""
    j = provider_jobs.c
    oldest = func.min(j.created_at)
    return await _samples(tx, select(_seconds_since(oldest, now)).where(j.state.in_(("waiting", "running"))))


# --- settlement and the books ---------------------------------------------------------------------------------------


async def open_items(tx: Tx, _now: datetime) -> list[Sample]:
    return await _samples(tx, select(_i.state, func.count()).where(OPEN).group_by(_i.state))


async def oldest_unsettled(tx: Tx, now: datetime) -> list[Sample]:
    """The age of the oldest item that is not final, whatever it waits for; 0 when there is none."""
    return await _samples(tx, select(_seconds_since(func.min(_i.created_at), now)).where(OPEN))


async def oldest_queued(tx: Tx, now: datetime) -> list[Sample]:
    """The age of the oldest item that no worker has taken yet."""
    queued = OPEN & (_i.state == ItemState.PENDING)
    return await _samples(tx, select(_seconds_since(func.min(_i.created_at), now)).where(queued))


async def open_breaks(tx: Tx, _now: datetime) -> list[Sample]:
    """One figure also when there is none: an alert must be able to tell nothing found from nobody looking."""
    return await _samples(tx, select(func.count()).where(breaks.c.resolved_at.is_(None)))


async def proof_clean(tx: Tx, _now: datetime) -> list[Sample]:
    return await _samples(tx, select(cast(proofs.c.clean, Integer)).order_by(proofs.c.created_at.desc()).limit(1))


async def proof_age(tx: Tx, now: datetime) -> list[Sample]:
    return await _samples(tx, select(_seconds_since(func.max(proofs.c.created_at), now)))


async def owed_to_consumers(tx: Tx, _now: datetime) -> list[Sample]:
    """Σ of consumers' balances, from the last proof: it has added them up already."""
    return await _of_last_proof(tx, "owed")


async def in_settlement(tx: Tx, _now: datetime) -> list[Sample]:
    """What is on its way between holders, from the last proof."""
    return await _of_last_proof(tx, "in_settlement")


async def _of_last_proof(tx: Tx, what: str) -> list[Sample]:
    statement = select(proofs.c.report[what]).order_by(proofs.c.created_at.desc()).limit(1)
    by_asset = (await tx.execute(statement)).scalar() or {}
    return [((asset,), float(micros)) for asset, micros in by_asset.items()]


async def chain_lag(tx: Tx, now: datetime) -> list[Sample]:
    """How far behind the present the watcher's last finalized block is. A custodian has no blocks."""
    c = chain_cursors.c
    return await _samples(tx, select(c.chain, _seconds_since(c.block_time, now)).where(c.number > 0))


async def chain_halted(tx: Tx, _now: datetime) -> list[Sample]:
    c = chain_cursors.c
    return await _samples(tx, select(c.chain, cast(c.halted_reason != "", Integer)))


async def free_addresses(tx: Tx, _now: datetime) -> list[Sample]:
    return await _samples(tx, select(func.count()).where(tempo_addresses.c.state == "free"))


# --- the day --------------------------------------------------------------------------------------------------------


async def consumers_by_level(tx: Tx, _now: datetime) -> list[Sample]:
    w = wallets.c
    return await _samples(
        tx, select(w.kyc_level, func.count()).where(w.erased_at.is_(None)).group_by(w.kyc_level).order_by(w.kyc_level)
    )


async def active_consumers(tx: Tx, now: datetime) -> list[Sample]:
    """Consumers whose money moved today by an act of theirs, or who were paid from outside."""
    today = (_t.id >= _today(now)) & (_t.consumer_id != OPERATOR)
    return await _samples(tx, select(func.count(distinct(_t.consumer_id))).where(today))


async def day_transactions(tx: Tx, now: datetime) -> list[Sample]:
    today = _t.id >= _today(now)
    return await _samples(tx, select(_t.kind, _t.asset, func.count()).where(today).group_by(_t.kind, _t.asset))


async def day_volume(tx: Tx, now: datetime) -> list[Sample]:
    today = _t.id >= _today(now)
    return await _samples(tx, select(_t.kind, _t.asset, func.sum(_t.micros)).where(today).group_by(_t.kind, _t.asset))


async def day_settled(tx: Tx, now: datetime) -> list[Sample]:
    """What was settled today, by provider."""
    today = (_i.id >= _today(now)) & (_i.state == ItemState.CONFIRMED)
    carried = settlement_items.join(settlement_attempts, _a.id == _i.attempt_id)
    columns = (_a.provider, _i.asset)
    return await _samples(
        tx, select(*columns, func.sum(_i.micros)).select_from(carried).where(today).group_by(*columns)
    )


async def day_batches(tx: Tx, now: datetime) -> list[Sample]:
    return await _samples(tx, select(func.count()).where(batch_transfers.c.id >= _today(now)))


async def day_batch_recipients(tx: Tx, now: datetime) -> list[Sample]:
    paid = func.coalesce(func.sum(batch_transfers.c.item_count), 0)
    return await _samples(tx, select(paid).where(batch_transfers.c.id >= _today(now)))
