"""Wallets that Circle keeps for us: a pool made ahead, from which a holder takes one when it is first needed.

A wallet never changes hands, so whatever arrives there later still stands in the name of its holder. Orders of new
wallets are kept before they are sent: whoever finds one open sends it again under its key, and gets the same wallets.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.identity import HolderId
from storage.database import Tx
from storage.schema import circle_wallet_orders, circle_wallets

_w = circle_wallets.c
_o = circle_wallet_orders.c


@dataclass(frozen=True, slots=True)
class CircleWallet:
    """A wallet of ours at Circle; `reference` is Circle's id for it. The address is in lower case."""

    reference: str
    address: str
    holder_id: HolderId | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class WalletOrder:
    """New wallets that were asked for, or are about to be."""

    key: UUID
    count: int
    own: bool


# --- holders ----------------------------------------------------------------------------------------------------------


async def of_holders(tx: Tx, holders: Collection[HolderId], *, chain: str) -> dict[HolderId, CircleWallet]:
    """The wallets of those holders that have one on this chain."""
    found = select(circle_wallets).where(_w.chain == chain, _w.holder_id.in_(sorted(holders)))
    return {row.holder_id: _wallet(row) for row in await tx.execute(found)}


async def of_addresses(tx: Tx, addresses: Collection[str], *, chain: str) -> dict[str, CircleWallet]:
    """The wallets of ours among these addresses, with a holder or without."""
    found = select(circle_wallets).where(_w.chain == chain, _w.address.in_(sorted(addresses)))
    return {row.address: _wallet(row) for row in await tx.execute(found)}


async def at_address(tx: Tx, address: str) -> CircleWallet | None:
    """A wallet of ours at this address, on whatever chain."""
    found = select(circle_wallets).where(_w.address == address).order_by(_w.chain).limit(1)
    row = (await tx.execute(found)).first()
    return _wallet(row) if row else None


async def assign(tx: Tx, holder: HolderId, *, chain: str, own: bool = False, now: datetime) -> CircleWallet | None:
    """The holder's wallet, taken from the pool if there was none yet; None when the pool is empty.

    Two who assign for one holder at once meet in the unique (chain, holder): the second one's database transaction
    fails, and finds the wallet when it is tried again.
    """
    existing = (await of_holders(tx, [holder], chain=chain)).get(holder)
    if existing is not None:
        return existing
    free = _w.holder_id.is_(None) & (_w.chain == chain) & (_w.own == own)
    # Rows that others are taking right now are skipped, so that nobody waits for anybody.
    first = select(_w.reference).where(free).order_by(_w.reference).limit(1).with_for_update(skip_locked=True)
    taken = update(circle_wallets).where(_w.reference == first.scalar_subquery(), _w.holder_id.is_(None))
    row = (await tx.execute(taken.values(holder_id=holder, assigned_at=now).returning(*circle_wallets.c))).first()
    return _wallet(row) if row else None


async def adopt(tx: Tx, wallet: CircleWallet, holder: HolderId, *, chain: str, now: datetime) -> None:
    """Note a wallet that Circle says is the holder's: one made by people, or one that a restore has forgotten."""
    row = {"reference": wallet.reference, "address": wallet.address, "chain": chain, "own": wallet.own}
    known = {"holder_id": holder, "labelled": True, "assigned_at": now}
    await tx.execute(upsert(circle_wallets).values(**row, **known, created_at=now).on_conflict_do_nothing())


# --- the pool ---------------------------------------------------------------------------------------------------------


async def free_count(tx: Tx, *, chain: str, own: bool = False) -> int:
    """How many holders can still be given a wallet before more are made."""
    free = _w.holder_id.is_(None) & (_w.chain == chain) & (_w.own == own)
    return (await tx.execute(select(func.count()).select_from(circle_wallets).where(free))).scalar_one()


async def open_order(tx: Tx, *, key: UUID, count: int, own: bool, chain: str, now: datetime) -> WalletOrder:
    """The order under way for this chain, or a new one with that key. Nothing is sent before this is committed."""
    row = {"key": key, "chain": chain, "own": own, "count": count, "state": "OPEN", "created_at": now}
    await tx.execute(upsert(circle_wallet_orders).values(row).on_conflict_do_nothing())
    under_way = select(_o.key, _o.count, _o.own).where(_o.state == "OPEN", _o.chain == chain, _o.own == own)
    return WalletOrder(*(await tx.execute(under_way)).one())


async def finish_order(tx: Tx, order: WalletOrder, made: Sequence[CircleWallet], *, chain: str, now: datetime) -> None:
    """Put the new wallets into the pool. What another worker added meanwhile stays as it is."""
    rows = [
        {"reference": one.reference, "address": one.address, "chain": chain, "own": order.own, "created_at": now}
        for one in made
    ]
    if rows:
        await tx.execute(upsert(circle_wallets).on_conflict_do_nothing(), rows)
    await abandon_order(tx, order)


async def abandon_order(tx: Tx, order: WalletOrder) -> None:
    """Close an order; the next one has another key."""
    await tx.execute(update(circle_wallet_orders).where(_o.key == order.key).values(state="DONE"))


# --- labels -----------------------------------------------------------------------------------------------------------


async def unlabelled(tx: Tx, *, chain: str, limit: int) -> list[CircleWallet]:
    """Wallets with a holder that Circle has not been told about."""
    wanted = (_w.chain == chain) & _w.holder_id.is_not(None) & ~_w.labelled
    rows = await tx.execute(select(circle_wallets).where(wanted).order_by(_w.assigned_at, _w.reference).limit(limit))
    return [_wallet(row) for row in rows]


async def mark_labelled(tx: Tx, reference: str) -> None:
    await tx.execute(update(circle_wallets).where(_w.reference == reference).values(labelled=True))


def _wallet(row: Any) -> CircleWallet:
    return CircleWallet(row.reference, row.address, row.holder_id, row.own)
