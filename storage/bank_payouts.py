"""Payouts: started with their cover reserved, tried under a lease, and moved only forward.

Everything that moves money is a command of the ledger; here are the steps between. The operator's position at the
custodian is locked before payouts are started, so that its cover is counted by one worker at a time (money rule 8), and
a partial index keeps two of unknown outcome apart that nobody could tell apart (money rule 4).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from domain.bank_accounts import BankAccountState
from domain.bank_payouts import OPEN, PayoutState, StoredPayout
from domain.errors import PayoutNotFound
from domain.identity import OPERATOR
from domain.money import Asset, Money
from domain.settlement import Rail
from domain.withdrawals import WithdrawalState
from storage import custody
from storage.database import Tx
from storage.schema import bank_links, bank_payouts, withdrawals

_p = bank_payouts.c
_w = withdrawals.c
_l = bank_links.c


@dataclass(frozen=True, slots=True)
class Waiting:
    """A withdrawal that holds money for a bank and has no payout yet."""

    withdrawal_id: UUID
    consumer_id: UUID
    bank_account_id: UUID
    bank_reference: str
    amount: Money


async def waiting(tx: Tx, *, limit: int) -> list[Waiting]:
    """The oldest first."""
    none_yet = ~select(_p.id).where(_p.withdrawal_id == _w.id).exists()
    joined = withdrawals.join(bank_links, _l.bank_account_id == _w.bank_account_id)
    columns = (_w.id, _w.consumer_id, _w.bank_account_id, _l.provider_reference, _w.asset, _w.micros)
    statement = (
        select(*columns)
        .select_from(joined)
        .where(_w.state == WithdrawalState.HELD, _l.state == BankAccountState.ACTIVE, none_yet)
        .order_by(_w.created_at, _w.id)
        .limit(limit)
    )
    return [Waiting(*row[:4], Money(Asset(row[4]), row[5])) for row in await tx.execute(statement)]


async def asked_since(tx: Tx, since: datetime) -> bool:
    """Whether anybody has asked for a payout or a link since then."""
    held = select(_w.id).where(_w.state == WithdrawalState.HELD, _w.bank_account_id.is_not(None), _w.created_at > since)
    begun = select(_l.bank_account_id).where(_l.state == BankAccountState.PENDING, _l.created_at > since)
    found: bool = (await tx.execute(select(or_(held.exists(), begun.exists())))).scalar_one()
    return found


async def start(tx: Tx, one: Waiting, *, payout_id: UUID, key: UUID, now: datetime) -> bool:
    """Persist the payout and reserve its cover. False: there is no cover, or another like it has an unknown outcome."""
    holder = (OPERATOR, one.amount.asset)
    position = (await custody.positions(tx, Rail.MINT, [holder], lock=True)).get(holder)
    if position is None or position.spendable < one.amount.micros:
        return False
    values = {
        "withdrawal_id": one.withdrawal_id,
        "consumer_id": one.consumer_id,
        "bank_account_id": one.bank_account_id,
        "bank_reference": one.bank_reference,
        "asset": one.amount.asset,
        "micros": one.amount.micros,
        "key": key,
        "state": PayoutState.STARTED,
        "ordered_at": now,
    }
    begun = upsert(bank_payouts).values(id=payout_id, **values).on_conflict_do_nothing().returning(_p.id)
    if (await tx.execute(begun)).first() is None:
        return False
    await custody.reserve(tx, Rail.MINT, {holder: one.amount.micros})
    return True


async def claim(tx: Tx, *, now: datetime, lease: timedelta, asked_until: timedelta) -> StoredPayout | None:
    """Lease the oldest payout of unknown outcome, and count the try that is about to begin.

    One that is older than `asked_until` is leased to be looked for, and no try is counted.
    """
    free = or_(_p.lease_until.is_(None), _p.lease_until < now) & or_(_p.not_before.is_(None), _p.not_before <= now)
    oldest = select(_p.id).where(_p.state == PayoutState.STARTED, free).order_by(_p.ordered_at, _p.id)
    row = (await tx.execute(oldest.limit(1).with_for_update(skip_locked=True))).first()
    if row is None:
        return None
    tries = (_p.ordered_at > now - asked_until).cast(_p.unanswered.type)
    counted = {"lease_token": _p.lease_token + 1, "lease_until": now + lease, "unanswered": _p.unanswered + tries}
    taken = update(bank_payouts).where(_p.id == row.id).values(**counted).returning(*_p)
    return _payout((await tx.execute(taken)).one())


async def submitted(tx: Tx, payout: StoredPayout, *, reference: str, now: datetime) -> bool:
    """The custodian has it. True whoever holds the lease, because it is a fact; False: that id is another payout's."""
    values = {"state": PayoutState.SUBMITTED, "provider_reference": reference, "submitted_at": now, "reason": ""}
    known = update(bank_payouts).where(_p.id == payout.id, _p.state == PayoutState.STARTED)
    try:
        async with tx.begin_nested():
            await tx.execute(known.values(**values))
    except IntegrityError:
        return False
    return True


async def refused(tx: Tx, payout: StoredPayout, *, reason: str) -> bool:
    """Definitely not taken, by the only try there ever was. False: that is not so any more, or not ours to say."""
    ours = (_p.id == payout.id, _p.state == PayoutState.STARTED, _p.lease_token == payout.lease_token)
    ended = update(bank_payouts).where(*ours, _p.unanswered == 1).values(state=PayoutState.REFUSED, reason=reason)
    return (await tx.execute(ended)).rowcount == 1


async def give_back(tx: Tx, payout: StoredPayout, *, until: datetime, reason: str, did_nothing: bool = False) -> None:
    """Let it be tried again later. A try that did nothing is as if it had never begun."""
    ours = (_p.id == payout.id, _p.lease_token == payout.lease_token, _p.state == PayoutState.STARTED)
    values: dict[str, Any] = {"lease_until": None, "not_before": until, "reason": reason}
    if did_nothing:
        values["unanswered"] = _p.unanswered - 1
    await tx.execute(update(bank_payouts).where(*ours).values(**values))


async def remark(tx: Tx, payout: StoredPayout, *, reason: str, fee: Money) -> None:
    """Keep what was seen of a payout that goes on: what it costs, and what keeps it from ending, if anything does."""
    same = (_p.id == payout.id, _p.state == payout.state)
    seen = {"reason": reason, "fee_micros": fee.micros}
    await tx.execute(update(bank_payouts).where(*same).values(**seen))


async def in_state(tx: Tx, states: Collection[PayoutState], *, limit: int = 500) -> list[StoredPayout]:
    """Payouts that are in one of these states, the oldest first."""
    wanted = select(bank_payouts).where(_p.state.in_(sorted(states))).order_by(_p.ordered_at, _p.id)
    return [_payout(row) for row in await tx.execute(wanted.limit(limit))]


async def returnable(tx: Tx, *, since: datetime) -> dict[str, StoredPayout]:
    """Complete payouts that were submitted since then, by the custodian's id."""
    wanted = (_p.state == PayoutState.COMPLETED) & (_p.submitted_at >= since)
    rows = await tx.execute(select(bank_payouts).where(wanted).order_by(_p.submitted_at, _p.id))
    return {row.provider_reference: _payout(row) for row in rows}


async def known_references(tx: Tx, references: Collection[str]) -> set[str]:
    """Which of these ids of the custodian's are payouts of ours already."""
    found = await tx.execute(select(_p.provider_reference).where(_p.provider_reference.in_(sorted(references))))
    return {row[0] for row in found}


async def lock(tx: Tx, payout_id: UUID) -> StoredPayout:
    """The payout, which nobody else moves until this database transaction ends; raises `PayoutNotFound`."""
    wanted = select(bank_payouts).where(_p.id == payout_id).with_for_update(key_share=True)
    row = (await tx.execute(wanted)).first()
    if row is None:
        raise PayoutNotFound()
    return _payout(row)


async def resolve(tx: Tx, payout: StoredPayout, *, reference: str | None, reason: str, now: datetime) -> None:
    """What a person found at the custodian: the id of a payout that is locked, or that it was never made."""
    made = {"state": PayoutState.SUBMITTED, "provider_reference": reference, "submitted_at": now, "reason": ""}
    values = made if reference else {"state": PayoutState.REFUSED, "reason": reason}
    await tx.execute(update(bank_payouts).where(_p.id == payout.id).values(**values, lease_until=None))


async def in_transit(tx: Tx, asset: Asset) -> tuple[int, int]:
    """What payouts under way take: of those the custodian has, and of those it may or may not have."""
    columns = (_p.state, _p.micros, _p.fee_micros, _p.unanswered)
    rows = list(await tx.execute(select(*columns).where(_p.asset == asset, _p.state.in_(sorted(OPEN)))))
    taken = sum(row.micros + row.fee_micros for row in rows if row.state == PayoutState.SUBMITTED)
    unknown = sum(row.micros for row in rows if row.state == PayoutState.STARTED and row.unanswered)
    return taken, unknown


def _payout(row: Any) -> StoredPayout:
    return StoredPayout(
        id=row.id,
        withdrawal_id=row.withdrawal_id,
        bank_reference=row.bank_reference,
        amount=Money(Asset(row.asset), row.micros),
        key=row.key,
        state=PayoutState(row.state),
        provider_reference=row.provider_reference,
        fee=Money(Asset(row.asset), row.fee_micros),
        unanswered=row.unanswered,
        lease_token=row.lease_token,
        reason=row.reason,
        ordered_at=row.ordered_at,
    )
