"""Bugs to plant: each breaks one money rule, and the simulation has to notice.

A simulation that finds nothing is only worth something if it would find something. Each mutant replaces one piece of
the real code while it is planted; `make simulate ARGS="--mutant NAME"` plays with it, and a test plays each until it is
caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

from domain.failover import Means
from domain.identity import OPERATOR
from domain.settlement import IN_FLIGHT, ItemState, Rail
from providers.base import OutcomeUnknown, Rejected
from providers.custodian import OrderState, TransferOrder
from server.workers.judge import Judge
from server.workers.orders import Orders
from server.workers.repatriation import Repatriation
from storage import attempts, custody, failover, orders, settlements
from storage.schema import settlement_items

Plant = Callable[[], list[AbstractContextManager[Any]]]

MUTANTS: dict[str, Plant] = {}


def mutant(plant: Plant) -> Plant:
    """Put it into the list, under its own name."""
    MUTANTS[plant.__name__] = plant
    return plant


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The code with this bug in it, until the block ends."""
    with ExitStack() as stack:
        for part in MUTANTS[name]() if name else ():
            stack.enter_context(part)
        yield


@mutant
def failover_with_an_unproven_attempt() -> list[AbstractContextManager[Any]]:
    """Rule 1: a silent attempt is taken for a dead one, so its item leaves for the other rail at once."""

    async def gives_up(self: Judge, under_way: Sequence[Any]) -> int:
        for attempt in under_way:
            async with self._engine.begin() as tx:
                await attempts.bury(tx, Rail.TEMPO, attempt, now=self._clock.now(), reason="silent")
        return len(under_way)

    return [patch.object(Judge, "judge", gives_up)]


@mutant
def a_new_key_for_each_try() -> list[AbstractContextManager[Any]]:
    """Rule 4: what was not answered is ordered anew, under another key."""
    decode = TransferOrder.decode
    number = 0

    def decode_anew(payload: bytes) -> TransferOrder:
        nonlocal number
        number += 1
        return replace(decode(payload), key=UUID(int=number, version=4))

    send = Orders._send

    async def send_anew(self: Orders, waiting: Sequence[Any]) -> None:
        with patch.object(TransferOrder, "decode", decode_anew):
            await send(self, waiting)

    return [patch.object(Orders, "_send", send_anew)]


@mutant
def booked_when_confirmed() -> list[AbstractContextManager[Any]]:
    """Rule 4: CONFIRMED is taken for final."""
    judge = Orders._judge

    async def hasty(self: Orders, order: Any, seen: Any) -> None:
        if seen.state is OrderState.CONFIRMED:
            seen = replace(seen, state=OrderState.COMPLETE)
        await judge(self, order, seen)

    return [patch.object(Orders, "_judge", hasty)]


@mutant
def unknown_taken_for_refused() -> list[AbstractContextManager[Any]]:
    """Rule 4: no answer is taken for a no, and the item goes back to Tempo while the order is carried out."""
    sent = Orders._sent

    async def gives_up(self: Orders, order: Any, number: int, outcome: Any) -> None:
        if isinstance(outcome, OutcomeUnknown):
            outcome = Rejected(outcome.reason, permanent=False)
        await sent(self, order, number, outcome)

    return [patch.object(Orders, "_sent", gives_up)]


@mutant
def float_not_reserved() -> list[AbstractContextManager[Any]]:
    """Rule 9: the order is persisted, and the float that pays for it is free for the next one."""

    async def forgetful(tx: Any, rail: Rail, debits: dict[Any, int]) -> None:
        return

    return [patch.object(custody, "reserve", forgetful)]


@mutant
def float_before_the_own_position() -> list[AbstractContextManager[Any]]:
    """Rule 9: the float pays although the consumer's own money stands there; nobody owes it, so it leaks."""

    async def owes_nothing(tx: Any, owed: Sequence[Any], *, now: Any) -> None:
        return

    def poor(self: Means, queue: Any) -> int:
        return 0

    return [patch.object(Means, "own", poor), patch.object(failover, "owe", owes_nothing)]


@mutant
def no_debt_for_the_float() -> list[AbstractContextManager[Any]]:
    """Rule 17: the sender keeps on Tempo what the float paid for."""

    async def owes_nothing(tx: Any, owed: Sequence[Any], *, now: Any) -> None:
        return

    return [patch.object(failover, "owe", owes_nothing)]


@mutant
def positions_stay_abroad() -> list[AbstractContextManager[Any]]:
    """Rule 9: nobody is brought home, so a queue waits for ever for money that stands elsewhere."""

    async def stays(self: Repatriation) -> int:
        return 0

    return [patch.object(Repatriation, "step", stays)]


@mutant
def brought_home_one_way() -> list[AbstractContextManager[Any]]:
    """Rule 16: the consumer's position is taken there, and nothing is given here."""
    bring = failover.bring_home

    async def one_way(tx: Any, rail: Rail, pairs: Sequence[Any], *, now: Any) -> None:
        await bring(tx, rail, pairs, now=now)
        await tx.execute(
            settlement_items.delete().where(
                settlement_items.c.purpose == "repatriation",
                settlement_items.c.sender == OPERATOR,
            )
        )

    return [patch.object(failover, "bring_home", one_way)]


@mutant
def ended_without_giving_back() -> list[AbstractContextManager[Any]]:
    """Rule 9: what a failed order had reserved stays reserved for ever."""
    end = orders.end_without_effect

    async def forgetful(tx: Any, rail: Rail, order: Any, **how: Any) -> bool:
        async def keep(*_: Any) -> None:
            return

        with patch.object(custody, "reserve", keep):
            return await end(tx, rail, order, **how)

    return [patch.object(orders, "end_without_effect", forgetful)]


@mutant
def signed_without_the_fence() -> list[AbstractContextManager[Any]]:
    """Rule 2: a signature is kept although its lease was lost while it was made."""
    lock = settlements.lock_claimed

    async def trusting(tx: Any, items: Any) -> set[Any]:
        items = list(items)
        await lock(tx, items)
        rows = await tx.execute(
            settlement_items.select().where(settlement_items.c.id.in_([item.candidate.item_id for item in items]))
        )
        return {row.id for row in rows if row.state in {*IN_FLIGHT, ItemState.CLAIMED, ItemState.PENDING}}

    return [patch.object(settlements, "lock_claimed", trusting)]
