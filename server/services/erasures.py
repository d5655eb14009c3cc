"""Erasing a person: what is known about them goes, the books stay, under an id that leads to nobody.

The wallet has to be empty and settled, because afterwards nobody is left to whom anything could be paid.
"""

from __future__ import annotations

from uuid import UUID

from domain.audit import Actor
from domain.errors import ConsumerNotFound, WalletNotEmpty
from server.services.acts import Act, Acts
from storage import (
    balances,
    bank_accounts,
    kyc_cases,
    payment_requests,
    preferences,
    scheduled_transfers,
    unsettled,
    wallets,
)
from storage.consumers import Consumer, Directory
from storage.database import Tx


class ErasureService:
    """Erases personal data."""

    def __init__(self, *, acts: Acts, directory: Directory) -> None:
        self._acts = acts
        self._directory = directory

    async def erase(self, consumer_id: UUID, *, reason: str, actor: Actor) -> Consumer:
        """Forget the person and close the wallet; answers what is left."""
        async with self._acts.begin(actor) as act:
            wallet = await wallets.lock(act.tx, consumer_id)
            if wallet.erased_at is None:
                await _require_empty(act.tx, consumer_id)
                await self._forget(act, consumer_id)
                await act.record("consumer.erase", consumer_id, consumer_id=consumer_id, reason=reason)
            consumer = await self._directory.find_by_id(act.tx, consumer_id)
        if consumer is None:
            raise ConsumerNotFound(consumer_id)
        return consumer

    async def _forget(self, act: Act, consumer_id: UUID) -> None:
        await wallets.close(act.tx, consumer_id, now=act.now)
        await self._directory.erase(act.tx, consumer_id, now=act.now)
        await bank_accounts.forget(act.tx, consumer_id)
        await kyc_cases.wipe(act.tx, consumer_id, decided_by=act.actor.name, now=act.now)
        await preferences.forget(act.tx, consumer_id)
        await scheduled_transfers.forget(act.tx, consumer_id)
        await payment_requests.forget(act.tx, consumer_id, now=act.now)


async def _require_empty(tx: Tx, consumer_id: UUID) -> None:
    """Nothing available, nothing held, and nothing on its way in or out.

    Every command that changes any of it for the worse locks the wallet first, which the caller has done.
    """
    for (_, asset), balance in (await balances.of_consumers(tx, [consumer_id])).items():
        left = balance.available_micros + balance.held_micros + balance.settling_micros
        if left:
            raise WalletNotEmpty(asset, left)
    going_out = await unsettled.going_out(tx, consumer_id)
    if going_out is not None:
        raise WalletNotEmpty(going_out.asset, going_out.micros)
