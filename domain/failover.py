"""Failover: which waiting items leave the rail they wait for, and whose money pays for them on the other one. Pure.

An item leaves only when nothing was ever started for it that could still happen (money rules 1 and 3), and only where
routing would send it now. On the other rail the consumer's own position is spent before the operator's float (rule 9);
where the float pays, the sender owes the operator what the recipient was given, in the item's own place in the sender's
queue. The way back is a *repatriation*: what stands on the other rail for a consumer goes to the operator there, and
comes from the operator here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from domain.errors import AssetUnsupported, NoRoute
from domain.identity import OPERATOR, HolderId, ItemId, TransactionId
from domain.money import MICROS_PER_UNIT, Asset, Money
from domain.routing import (
    Health,
    Purpose,
    Route,
    RouteDecision,
    RouteRequest,
    RoutingPolicy,
    Situation,
    choose_route,
    objections,
)
from domain.settlement import QueueKey, Rail


class ItemPurpose(StrEnum):
    """Why a settlement item exists."""

    PAYMENT = "payment"
    REIMBURSEMENT = "reimbursement"
    """The sender owes the operator what its float paid on another rail."""
    REPATRIATION = "repatriation"
    """One half of the pair that brings a consumer's position back."""


FEE_ROOM = Money(Asset.USDC, MICROS_PER_UNIT)
"""What of the float no item may take, so that network fees never find it empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An item that waits on a rail, with nothing under way for it."""

    item_id: ItemId
    sender: HolderId
    recipient: HolderId
    amount: Money
    transaction_id: TransactionId | None = None
    reason: str = ""
    """What its row says now about why it waits."""

    @property
    def queue(self) -> QueueKey:
        return self.sender, self.amount.asset


@dataclass(frozen=True, slots=True)
class Reroute:
    """An item that goes another way, and who pays for it there."""

    item: Waiting
    payer: HolderId
    decision: RouteDecision

    @property
    def by_float(self) -> bool:
        return self.payer == OPERATOR


@dataclass(frozen=True, slots=True)
class Stays:
    """An item that stays where it is, because nothing would carry it now."""

    item: Waiting
    reason: str


@dataclass(slots=True, kw_only=True)
class Means:
    """What there is to pay with on the other rail. It goes down while items are chosen, and never below nothing."""

    rail: Rail
    spendable: dict[QueueKey, int] = field(default_factory=dict)
    """Positions less what is in flight, the operator's float among them."""
    busy: set[HolderId] = field(default_factory=set)
    """Consumers whose wallet has an order under way: it takes one at a time."""

    def float_of(self, asset: Asset) -> int:
        kept = FEE_ROOM.micros if asset is FEE_ROOM.asset else 0
        return max(0, self.spendable.get((OPERATOR, asset), 0) - kept)

    def own(self, queue: QueueKey) -> int:
        return self.spendable.get(queue, 0)

    def spend(self, holder: HolderId, amount: Money) -> None:
        self.spendable[holder, amount.asset] = self.spendable.get((holder, amount.asset), 0) - amount.micros
        if holder != OPERATOR:
            self.busy.add(holder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What routing goes by, the same for every item of one round."""

    routes: Sequence[Route]
    policy: RoutingPolicy
    health: Mapping[str, Health]
    now: datetime


def choose_reroutes(items: Iterable[Waiting], means: Means, guide: Guide) -> tuple[list[Reroute], list[Stays]]:
    """What leaves, in the order given, as far as the means reach; and what stays because nothing carries it now."""
    leaving: list[Reroute] = []
    staying: list[Stays] = []
    for item in items:
        own = means.own(item.queue) >= item.amount.micros
        if own and item.sender in means.busy:
            continue  # Its own money goes first, as soon as the wallet is free again.
        request, situation = _request(item), _situation(item, means, guide)
        try:
            decision = choose_route(request, guide.routes, situation, guide.policy)
        except (NoRoute, AssetUnsupported):
            staying.append(Stays(item, waits_because(request, situation, guide)))
            continue
        if decision.rail is not means.rail:
            continue
        payer = item.sender if own else OPERATOR
        means.spend(payer, item.amount)
        leaving.append(Reroute(item, payer, decision))
    return leaving, staying


def _request(item: Waiting) -> RouteRequest:
    return RouteRequest(purposes=frozenset({Purpose.SETTLEMENT}), amount=item.amount)


def _situation(item: Waiting, means: Means, guide: Guide) -> Situation:
    return Situation(
        now=guide.now,
        health=guide.health,
        floats={means.rail: means.float_of(item.amount.asset)},
        positions={means.rail: means.own(item.queue)},
    )


def waits_because(request: RouteRequest, situation: Situation, guide: Guide) -> str:
    """Why nothing carries it now, in words that an operator can act on."""
    against = objections(request, guide.routes, situation, guide.policy)
    told = [f"{provider} {' '.join(reasons)}" for provider, reasons in sorted(against.items())]
    return f"waits: {', '.join(told)}"


# --- the way back -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Abroad:
    """What stands for a consumer on the other rail, free to move."""

    holder: HolderId
    amount: Money
    in_the_way: bool
    """The head of the consumer's queue waits for money, and this is it (money rule 9)."""


def choose_repatriations(found: Iterable[Abroad], *, tempo_steady: bool, limit: int) -> list[Abroad]:
    """Who is brought home now: at once where a queue waits for it, and everybody once Tempo is steady again."""
    due = [one for one in found if one.in_the_way or tempo_steady]
    return sorted(due, key=lambda one: (not one.in_the_way, one.holder, one.amount.asset))[:limit]
