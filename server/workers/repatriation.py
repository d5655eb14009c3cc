"""Repatriation: what stands for consumers with the custodian comes home to Tempo (money rule 9).

A pair of items moves it: from the consumer to the operator there, from the operator to the consumer here. At once where
the head of a consumer's queue waits for that very money, and for everybody once Tempo has been well for a while. The
first half is persisted as an order in the same commit; if it ends without effect it is ordered anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from domain.clock import Clock, Entropy
from domain.failover import Abroad, Waiting, choose_repatriations
from domain.identity import OPERATOR, HolderId, ItemId
from domain.money import Money
from domain.settlement import Rail
from providers.custodian import TransferRail, order_key
from server.workers.failover import new_order
from server.workers.settlement import CHAIN
from storage import circle_wallets, cursors, failover, orders, provider_health
from storage.circle_wallets import CircleWallet
from storage.database import Engine, Tx
from storage.orders import NewOrder

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RepatriationPace:
    """How long Tempo has to be well before everybody is brought home, and how many at a time."""

    steady_after: timedelta = timedelta(seconds=15)
    at_once: int = 10
    orders_at_once: int = 20
    health_max_age: timedelta = timedelta(seconds=15)
    idle_seconds: float = 0.5


class Repatriation:
    """Brings positions home from one custodian. Any number may run; the float's lock lets one in at a time."""

    def __init__(
        self,
        *,
        engine: Engine,
        rail: TransferRail,
        clock: Clock,
        entropy: Entropy,
        pace: RepatriationPace = RepatriationPace(),
    ) -> None:
        self._engine = engine
        self._custodian = rail
        self._clock = clock
        self._entropy = entropy
        self._pace = pace
        self._rail = Rail(rail.rail)
        self._well_since: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Bring home until `stop` is set."""
        while not stop.is_set():
            brought = await self.step()
            if brought:
                log.info("repatriation.ordered", pairs=brought)
            await self._clock.sleep(self._pace.idle_seconds)

    async def step(self) -> int:
        """One round; how many orders it made."""
        async with self._engine.connect() as tx:
            if await cursors.halted_reason(tx, CHAIN) or not await self._both_well(tx):
                return 0
            found = await failover.abroad(tx, self._rail)
        chosen = choose_repatriations(found, tempo_steady=self._is_steady(), limit=self._pace.at_once)
        async with self._engine.begin() as tx:
            free = await failover.lock_float(tx, self._rail)
            room = self._pace.orders_at_once - await orders.count_under_way(tx, self._rail)
            if not free or room <= 0:
                return 0
            return await self._bring(tx, chosen[:room]) + await self._order_anew(tx, room)

    async def _both_well(self, tx: Tx) -> bool:
        """Both ends of a pair have to move; keeps in mind since when Tempo does."""
        now = self._clock.now()
        well = {
            row.provider
            for row in await provider_health.read_all(tx)
            if row.healthy and not row.paused and now - row.checked_at <= self._pace.health_max_age
        }
        if "tempo" not in well:
            self._well_since = None
        elif self._well_since is None:
            self._well_since = self._clock.monotonic()
        return {"tempo", self._custodian.name} <= well

    def _is_steady(self) -> bool:
        since = self._well_since
        return since is not None and self._clock.monotonic() - since >= self._pace.steady_after.total_seconds()

    async def _bring(self, tx: Tx, chosen: Sequence[Abroad]) -> int:
        """Locked and read anew: only what is free now is brought, and from a wallet that has nothing under way."""
        keys = {(one.holder, one.amount.asset) for one in chosen}
        free = await failover.lock_positions(tx, self._rail, keys)
        busy = await failover.busy_wallets(tx, {holder for holder, _ in keys})
        wallets = await self._wallets(tx, {holder for holder, _ in keys})
        bringing: list[Abroad] = []
        for one in chosen:
            amount = Money(one.amount.asset, free.get((one.holder, one.amount.asset), 0))
            if amount.micros > 0 and one.holder not in busy and {one.holder, OPERATOR} <= wallets.keys():
                bringing.append(replace(one, amount=amount))
                busy.add(one.holder)
        out = [(self._order(ItemId(self._entropy.uuid7()), one.holder, one.amount, wallets), one) for one in bringing]
        pairs = [(order.item_id, ItemId(self._entropy.uuid7()), one.holder, one.amount, order.id) for order, one in out]
        await failover.bring_home(tx, self._rail, pairs, now=self._clock.now())
        await self._persist(tx, [(order, one.amount) for order, one in out])
        return len(out)

    async def _order_anew(self, tx: Tx, room: int) -> int:
        """Halves whose last order ended without effect, under a new key: nothing of the old one can still happen."""
        found = await failover.restartable(tx, self._rail, now=self._clock.now(), limit=room)
        busy = await failover.busy_wallets(tx, {item.sender for item in found})
        free = await failover.lock_positions(tx, self._rail, {item.queue for item in found})
        wallets = await self._wallets(tx, {item.sender for item in found})
        ready: list[Waiting] = []
        for item in found:
            covered = free.get(item.queue, 0) >= item.amount.micros
            if covered and item.sender not in busy and {item.sender, OPERATOR} <= wallets.keys():
                ready.append(item)
                busy.add(item.sender)
        new = [(self._order(item.item_id, item.sender, item.amount, wallets), item) for item in ready]
        await failover.leave(tx, self._rail, [(o.item_id, item.sender, o.id, None) for o, item in new])
        await self._persist(tx, [(order, item.amount) for order, item in new])
        return len(new)

    async def _wallets(self, tx: Tx, holders: set[HolderId]) -> dict[HolderId, CircleWallet]:
        if not holders:
            return {}
        return await circle_wallets.of_holders(tx, {*holders, OPERATOR}, chain=self._custodian.chain)

    def _order(
        self, item_id: ItemId, holder: HolderId, amount: Money, wallets: dict[HolderId, CircleWallet]
    ) -> NewOrder:
        return new_order(
            item_id,
            amount,
            payer=holder,
            source=wallets[holder],
            destination=wallets[OPERATOR],
            key=order_key(self._entropy),
            clock=self._clock,
            entropy=self._entropy,
        )

    async def _persist(self, tx: Tx, new: Sequence[tuple[NewOrder, Money]]) -> None:
        await orders.persist(tx, self._rail, self._custodian.name, new, now=self._clock.now())
