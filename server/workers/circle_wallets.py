"""Wallets at Circle made ahead, so that nobody who needs one waits for Circle; and the operator's own, found or made.

An order of new wallets is kept before it is sent. Whatever becomes of the answer, the next try sends the same key and
gets the same wallets, so a crash makes none that nobody knows of.
"""

from __future__ import annotations

import asyncio

import structlog

from domain.clock import Clock, Entropy
from domain.identity import OPERATOR
from providers.base import Accepted, OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.custodian import CustodyWallet, TransferRail, order_key
from storage import circle_wallets
from storage.circle_wallets import CircleWallet, WalletOrder
from storage.database import Engine

log = structlog.get_logger()

MOST_AT_ONCE = 200
LABELS_AT_ONCE = 10
IDLE_SECONDS = 1.0
FAULT_SECONDS = 5.0


class CircleWalletPool:
    """Keeps the pool at its target. Any number may run: there is one open order for each kind of wallet."""

    def __init__(self, *, engine: Engine, rail: TransferRail, clock: Clock, entropy: Entropy, target: int) -> None:
        self._engine = engine
        self._rail = rail
        self._clock = clock
        self._entropy = entropy
        self._target = target
        self._has_own = False

    async def run(self, stop: asyncio.Event) -> None:
        """Fill and label until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                due = self._clock.monotonic() + await self._pause_after_step()
            await self._clock.sleep(0.2)

    async def step(self) -> bool:
        """Find or make the operator's wallet, fill the pool, label who took one. True when there was work."""
        if not self._has_own:
            self._has_own = await self._own_wallet()
        made = await self._fill(own=False, target=self._target)
        return await self._label() or made

    async def _pause_after_step(self) -> float:
        try:
            return 0.0 if await self.step() else IDLE_SECONDS
        except ProviderUnavailable as fault:
            log.warning("circle_wallets.postponed", detail=str(fault)[:200])
            return FAULT_SECONDS

    async def _own_wallet(self) -> bool:
        """The operator's wallet: the one we know, the one that people or an earlier database made, or a new one."""
        chain, now = self._rail.chain, self._clock.now()
        async with self._engine.begin() as tx:
            if await circle_wallets.assign(tx, OPERATOR, chain=chain, own=True, now=now):
                return True
        found = await self._rail.labelled(OPERATOR)
        if found is None:
            return await self._fill(own=True, target=1) and await self._own_wallet()
        async with self._engine.begin() as tx:
            await circle_wallets.adopt(tx, _row(found, own=True), OPERATOR, chain=chain, now=now)
        log.info("circle_wallets.operator_adopted", reference=found.reference)
        return True

    async def _fill(self, *, own: bool, target: int) -> bool:
        """Order what is missing, at most what Circle makes at once; True when wallets were added."""
        chain = self._rail.chain
        async with self._engine.begin() as tx:
            missing = target - await circle_wallets.free_count(tx, chain=chain, own=own)
            if missing <= 0:
                return False
            key, count = order_key(self._entropy), min(missing, MOST_AT_ONCE)
            order = await circle_wallets.open_order(
                tx, key=key, count=count, own=own, chain=chain, now=self._clock.now()
            )
        made = await self._rail.create_wallets(key=order.key, count=order.count, own=order.own)
        if isinstance(made, Accepted | Rejected | Retryable | OutcomeUnknown):
            await self._refused(order, made)
            return False
        async with self._engine.begin() as tx:
            rows = [_row(wallet, own=own) for wallet in made]
            await circle_wallets.finish_order(tx, order, rows, chain=chain, now=self._clock.now())
        log.info("circle_wallets.made", count=len(made), own=own)
        return True

    async def _refused(self, order: WalletOrder, outcome: Accepted | Rejected | Retryable | OutcomeUnknown) -> None:
        if isinstance(outcome, Rejected):
            async with self._engine.begin() as tx:
                await circle_wallets.abandon_order(tx, order)
        raise ProviderUnavailable(f"no wallets made: {outcome}")

    async def _label(self) -> bool:
        async with self._engine.connect() as tx:
            waiting = await circle_wallets.unlabelled(tx, chain=self._rail.chain, limit=LABELS_AT_ONCE)
        for wallet in waiting:
            assert wallet.holder_id is not None, "only wallets with a holder are labelled"
            await self._rail.label(CustodyWallet(wallet.reference, wallet.address), wallet.holder_id)
            async with self._engine.begin() as tx:
                await circle_wallets.mark_labelled(tx, wallet.reference)
        return bool(waiting)


def _row(wallet: CustodyWallet, *, own: bool) -> CircleWallet:
    return CircleWallet(wallet.reference, wallet.address, own=own)
