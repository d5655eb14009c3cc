"""Where a statement begins and ends: a wallet as it was at one moment, whatever happens while it is being sent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select

from domain.money import Asset
from domain.withdrawals import WithdrawalState
from storage.database import Tx
from storage.schema import stablecoin_balances, withdrawals

_b = stablecoin_balances.c
_w = withdrawals.c


@dataclass(frozen=True, slots=True)
class WalletAt:
    """The newest version of each asset at that moment, and the transactions whose money was still held."""

    versions: dict[Asset, int]
    held: frozenset[UUID]


async def wallet_now(tx: Tx, consumer: UUID, assets: Collection[Asset]) -> WalletAt | None:
    """The wallet at this moment, in one statement and so in one snapshot; None if there is none."""
    waiting = (_w.consumer_id == consumer) & (_w.state == WithdrawalState.HELD)
    held = select(func.array_agg(_w.transaction_id)).where(waiting).scalar_subquery()
    wanted = select(_b.asset, _b.version, held).where(_b.consumer_id == consumer, _b.asset.in_(sorted(assets)))
    rows = list(await tx.execute(wanted))
    if not rows:
        return None
    return WalletAt({Asset(row[0]): row[1] for row in rows}, frozenset(rows[0][2] or ()))
