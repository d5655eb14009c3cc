"""Wallets' flags and levels, changed under the lock under which everything about a wallet is decided.

The ledger locks the same row before it looks at anything, so a change made here is seen by every decision after it and
by none before. Who locks a wallet locks it first (money rule 20), and holds it for one short database transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, update

from domain.errors import ConsumerErased, ConsumerFrozen, ConsumerNotFound
from domain.identity import ConsumerId
from storage.database import Tx
from storage.schema import wallets

_w = wallets.c


@dataclass(frozen=True, slots=True)
class WalletFlags:
    """What decides whether a wallet may do something at all."""

    consumer_id: ConsumerId
    kyc_level: int
    frozen: bool
    erased_at: datetime | None

    def require_open(self) -> None:
        """Refuse a wallet that is closed for good."""
        if self.erased_at is not None:
            raise ConsumerErased()

    def require_active(self) -> None:
        """Refuse a wallet that is closed or frozen."""
        self.require_open()
        if self.frozen:
            raise ConsumerFrozen(self.consumer_id)


async def read(tx: Tx, consumer_id: UUID) -> WalletFlags:
    """The flags as they stand; raises `ConsumerNotFound`."""
    return await _flags(tx, consumer_id, _select(consumer_id))


async def lock(tx: Tx, consumer_id: UUID) -> WalletFlags:
    """The flags, which nobody else changes until this database transaction ends; raises `ConsumerNotFound`."""
    return await _flags(tx, consumer_id, _select(consumer_id).with_for_update(key_share=True))


async def set_frozen(tx: Tx, consumer_id: UUID, *, frozen: bool) -> None:
    """Freeze or unfreeze a locked wallet."""
    await tx.execute(update(wallets).where(_w.consumer_id == consumer_id).values(frozen=frozen))


async def set_level(tx: Tx, consumer_id: UUID, *, kyc_level: int) -> None:
    """Raise a locked wallet to a level. What was used of the day's limit stays used."""
    await tx.execute(update(wallets).where(_w.consumer_id == consumer_id).values(kyc_level=kyc_level))


async def close(tx: Tx, consumer_id: UUID, *, now: datetime) -> None:
    """Close a locked wallet for good."""
    await tx.execute(update(wallets).where(_w.consumer_id == consumer_id).values(erased_at=now))


def _select(consumer_id: UUID) -> Select[Any]:
    return select(_w.consumer_id, _w.kyc_level, _w.frozen, _w.erased_at).where(_w.consumer_id == consumer_id)


async def _flags(tx: Tx, consumer_id: UUID, statement: Select[Any]) -> WalletFlags:
    row = (await tx.execute(statement)).first()
    if row is None:
        raise ConsumerNotFound(consumer_id)
    return WalletFlags(*row)
