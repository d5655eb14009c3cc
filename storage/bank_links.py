"""Bank accounts as the custodian keeps them: the key each was linked under, its names there, and what a wire says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from domain.bank_accounts import BankAccountState, BankInstructions
from domain.bank_deposits import Payer
from domain.identity import ConsumerId
from storage.database import Tx
from storage.schema import bank_links, wallets

_l = bank_links.c


@dataclass(frozen=True, slots=True)
class BankLink:
    """One link. Without a provider's reference it has yet to be asked for, or its answer was lost."""

    bank_account_id: UUID
    consumer_id: ConsumerId
    key: UUID
    provider_reference: str | None
    tracking_reference: str | None
    instructions: BankInstructions | None
    state: BankAccountState
    tries: int


async def begin(tx: Tx, *, bank_account_id: UUID, consumer_id: UUID, key: UUID, now: datetime) -> None:
    """Keep the key before anything is asked for under it. A link that has begun keeps its own."""
    values = {"consumer_id": consumer_id, "key": key, "state": BankAccountState.PENDING, "created_at": now}
    begun = upsert(bank_links).values(bank_account_id=bank_account_id, **values)
    await tx.execute(begun.on_conflict_do_nothing(index_elements=["bank_account_id"]))


async def due(tx: Tx, *, now: datetime, limit: int) -> list[BankLink]:
    """Links that have not ended and may be looked at, the oldest first."""
    waiting = (_l.state == BankAccountState.PENDING) & or_(_l.not_before.is_(None), _l.not_before <= now)
    rows = await tx.execute(select(bank_links).where(waiting).order_by(_l.created_at, _l.bank_account_id).limit(limit))
    return [_link(row) for row in rows]


async def postpone(tx: Tx, link: BankLink, *, until: datetime, reason: str) -> None:
    """Look again later."""
    later = {"not_before": until, "tries": _l.tries + 1, "reason": reason}
    await tx.execute(update(bank_links).where(_l.bank_account_id == link.bank_account_id).values(**later))


async def name(tx: Tx, link: BankLink, *, provider_reference: str, tracking_reference: str) -> bool:
    """Note what the custodian calls it. False: it calls another link so, and one wire cannot be two consumers'."""
    names = {"provider_reference": provider_reference, "tracking_reference": tracking_reference}
    named = update(bank_links).where(_l.bank_account_id == link.bank_account_id).values(**names)
    try:
        async with tx.begin_nested():
            await tx.execute(named)
    except IntegrityError:
        return False
    return True


async def end(
    tx: Tx,
    link: BankLink,
    state: BankAccountState,
    *,
    instructions: BankInstructions | None = None,
    reason: str = "",
    now: datetime,
) -> None:
    """The custodian has decided."""
    told = asdict(instructions) if instructions else None
    values = {"state": state, "instructions": told, "reason": reason, "closed_at": now}
    pending = (_l.bank_account_id == link.bank_account_id) & (_l.state == BankAccountState.PENDING)
    await tx.execute(update(bank_links).where(pending).values(**values))


async def find(tx: Tx, bank_account_id: UUID) -> BankLink | None:
    row = (await tx.execute(select(bank_links).where(_l.bank_account_id == bank_account_id))).first()
    return _link(row) if row else None


async def newest_active(tx: Tx, consumer_id: UUID) -> BankLink | None:
    """The link that a wire is expected from where nobody said which."""
    active = (_l.consumer_id == consumer_id) & (_l.state == BankAccountState.ACTIVE)
    row = (await tx.execute(select(bank_links).where(active).order_by(_l.bank_account_id.desc()).limit(1))).first()
    return _link(row) if row else None


async def payer_by_tracking(tx: Tx, reference: str) -> Payer | None:
    """Whose wires have to say this."""
    return await _payer(tx, _l.tracking_reference == reference) if reference else None


async def payer_by_bank(tx: Tx, reference: str) -> Payer | None:
    """Whose bank account the custodian calls so."""
    return await _payer(tx, _l.provider_reference == reference) if reference else None


async def _payer(tx: Tx, wanted: Any) -> Payer | None:
    """Nobody's, if the consumer is gone by now."""
    joined = bank_links.join(wallets, wallets.c.consumer_id == _l.consumer_id)
    there = wanted & wallets.c.erased_at.is_(None)
    row = (await tx.execute(select(_l.bank_account_id, _l.consumer_id).select_from(joined).where(there))).first()
    return Payer(row.bank_account_id, ConsumerId(row.consumer_id)) if row else None


def _link(row: Any) -> BankLink:
    return BankLink(
        bank_account_id=row.bank_account_id,
        consumer_id=ConsumerId(row.consumer_id),
        key=row.key,
        provider_reference=row.provider_reference,
        tracking_reference=row.tracking_reference,
        instructions=BankInstructions(**row.instructions) if row.instructions else None,
        state=BankAccountState(row.state),
        tries=row.tries,
    )
