"""Failover: what waits for a rail that is down goes another way, once it is certain that it cannot go both.

One round is one commit. Under the locks of the items it is checked once more that nothing was ever started for them
which could still happen (money rules 1 and 3); the position that pays is reserved, the recipient gets a wallet from the
pool, the sender's debt to the operator takes the item's place, and the order is persisted (rules 4, 7 and 9). Sending
it is the work of `server/workers/orders.py`. What cannot go says why it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.failover import Guide, Means, Reroute, Stays, Waiting, choose_reroutes
from domain.identity import AttemptId, HolderId, ItemId
from domain.money import Asset, Money
from domain.routing import (
    Health,
    Purpose,
    Route,
    RouteRequest,
    RoutingPolicy,
    Situation,
    decision_facts,
    objections,
)
from domain.settlement import Rail
from providers.custodian import CustodyWallet, TransferOrder, TransferRail, only_key
from server.workers.settlement import CHAIN
from storage import circle_wallets, cursors, failover, orders, provider_health
from storage.circle_wallets import CircleWallet
from storage.database import Engine, Tx
from storage.failover import BEFORE_CONSUMERS, Leaving, Place
from storage.orders import NewOrder

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FailoverPace:
    """How long an item waits before it may leave, and how many leave at a time."""

    patience: timedelta = timedelta(seconds=5)
    """A rail that stumbles is back in a moment, and settles what waits for it sooner than another one would."""
    looked_at: int = 200
    orders_at_once: int = 20
    """Orders that are not final yet: what goes out slowly is better still free to go home."""
    idle_seconds: float = 0.5


class Failover:
    """Routes waiting items to the custodian's rail. Any number may run; the float's lock lets one in at a time."""

    def __init__(
        self,
        *,
        engine: Engine,
        rail: TransferRail,
        routes: Sequence[Route],
        policy: RoutingPolicy,
        clock: Clock,
        entropy: Entropy,
        pace: FailoverPace = FailoverPace(),
    ) -> None:
        self._engine = engine
        self._custodian = rail
        self._routes = routes
        self._policy = policy
        self._clock = clock
        self._entropy = entropy
        self._pace = pace
        self._rail = Rail(rail.rail)
        self._place: Place = BEFORE_CONSUMERS

    async def run(self, stop: asyncio.Event) -> None:
        """Route until `stop` is set."""
        while not stop.is_set():
            left = await self.step()
            if left:
                log.info("failover.rerouted", items=left)
            await self._clock.sleep(self._pace.idle_seconds)

    async def step(self) -> int:
        """One round; how many items left."""
        async with self._engine.connect() as tx:
            # Commits that were lost may have signed something: until that is known, nothing is proven (rule 15).
            if await cursors.halted_reason(tx, CHAIN) or not self._tempo_is_out(await self._guide(tx)):
                self._place = BEFORE_CONSUMERS
                return 0
        async with self._engine.begin() as tx:
            return await self._reroute(tx, await self._guide(tx))

    async def _guide(self, tx: Tx) -> Guide:
        health = {
            row.provider: Health(row.healthy, row.paused, row.checked_at) for row in await provider_health.read_all(tx)
        }
        return Guide(routes=self._routes, policy=self._policy, health=health, now=self._clock.now())

    def _tempo_is_out(self, guide: Guide) -> bool:
        """Whether routing has anything against the rail that items wait for, or would rather use another."""
        request = RouteRequest(purposes=frozenset({Purpose.SETTLEMENT}), amount=Money(Asset.USDC, 0))
        against = objections(request, guide.routes, Situation(now=guide.now, health=guide.health), guide.policy)
        return bool(against.get("tempo")) or self._policy.default_provider != "tempo"

    async def _reroute(self, tx: Tx, guide: Guide) -> int:
        free = await failover.lock_float(tx, self._rail)
        room = self._pace.orders_at_once - await orders.count_under_way(tx, self._rail)
        if not free or room <= 0:
            return 0
        items = await self._lock_waiting(tx)
        means = Means(
            rail=self._rail,
            spendable=free | await failover.lock_positions(tx, self._rail, {item.queue for item in items}),
            busy=await failover.busy_wallets(tx, {item.sender for item in items}),
        )
        leaving, staying = choose_reroutes(items, means, guide)
        sent = await self._send_away(tx, leaving[:room])
        await failover.note_reasons(tx, [(s.item.item_id, s.reason) for s in staying if s.reason != s.item.reason])
        return sent

    async def _lock_waiting(self, tx: Tx) -> list[Waiting]:
        """Items that may leave, with their queues and themselves locked; the next round looks further."""
        before, limit = self._clock.now() - self._pace.patience, self._pace.looked_at
        found = await failover.waiting(tx, self._custodian.assets, before=before, after=self._place, limit=limit)
        self._place = found[-1].queue if len(found) == limit else BEFORE_CONSUMERS
        queues = await failover.lock_queues(tx, Rail.TEMPO, {item.queue for item in found})
        reachable = [item for item in found if item.queue in queues]
        still = await failover.lock_waiting(tx, reachable)
        return [item for item in reachable if item.item_id in still]

    async def _send_away(self, tx: Tx, leaving: Sequence[Reroute]) -> int:
        wallets = await self._wallets(tx, leaving)
        going = [one for one in leaving if {one.payer, one.item.recipient} <= wallets.keys()]
        if len(going) < len(leaving):
            await self._wait_for_wallets(tx, [one for one in leaving if one not in going])
        new = [(one, self._order(one, wallets)) for one in going]
        await failover.leave(tx, self._rail, [_leaving(one, order) for one, order in new])
        owed = [(ItemId(self._entropy.uuid7()), one.item.item_id, one.item.sender) for one in going if one.by_float]
        await failover.owe(tx, owed, now=self._clock.now())
        persisted = [(order, one.item.amount) for one, order in new]
        await orders.persist(tx, self._rail, self._custodian.name, persisted, now=self._clock.now())
        return len(going)

    async def _wallets(self, tx: Tx, leaving: Sequence[Reroute]) -> dict[HolderId, CircleWallet]:
        """A wallet for each end. A recipient without one takes it from the pool that was made ahead."""
        chain, found = self._custodian.chain, dict[HolderId, CircleWallet]()
        if leaving:
            found = await circle_wallets.of_holders(tx, {one.payer for one in leaving}, chain=chain)
        for recipient in sorted({one.item.recipient for one in leaving}):
            wallet = await circle_wallets.assign(tx, recipient, chain=chain, now=self._clock.now())
            if wallet is not None:
                found[recipient] = wallet
        return found

    async def _wait_for_wallets(self, tx: Tx, waiting: Sequence[Reroute]) -> None:
        staying = [Stays(one.item, "waits: no wallet is ready at the custodian") for one in waiting]
        await failover.note_reasons(tx, [(s.item.item_id, s.reason) for s in staying])

    def _order(self, reroute: Reroute, wallets: dict[HolderId, CircleWallet]) -> NewOrder:
        return new_order(
            reroute.item.item_id,
            reroute.item.amount,
            payer=reroute.payer,
            source=wallets[reroute.payer],
            destination=wallets[reroute.item.recipient],
            key=only_key(reroute.item.item_id),
            clock=self._clock,
            entropy=self._entropy,
        )


def new_order(
    item_id: ItemId,
    amount: Money,
    *,
    payer: HolderId,
    source: CircleWallet,
    destination: CircleWallet,
    key: UUID,
    clock: Clock,
    entropy: Entropy,
) -> NewOrder:
    """An order, ready to be persisted."""
    order = TransferOrder(
        key=key,
        item_id=item_id,
        amount=amount,
        source=CustodyWallet(source.reference, source.address),
        destination_address=destination.address,
        ordered_at=clock.now(),
    )
    attempt_id = AttemptId(entropy.uuid7())
    return NewOrder(id=attempt_id, item_id=item_id, payer=payer, key=order.key, payload=order.encode())


def _leaving(reroute: Reroute, order: NewOrder) -> Leaving:
    return reroute.item.item_id, reroute.payer, order.id, decision_facts(reroute.decision)
