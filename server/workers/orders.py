"""Orders to a custodian, carried to their end: sent under one key, looked after, booked when they are complete.

An order is persisted by whoever routed its item (`server/workers/failover.py`, `server/workers/repatriation.py`). From
then on only this worker touches it, in any number of processes. It is sent, and sent again under the same key wherever
the custodian knows nothing of it; it is never decided anew. Only COMPLETE is booked, in one commit with the item; only
a terminal failure, read at the custodian, frees the item for another way (money rule 4). Whatever is in between waits,
and what waits for lack of knowledge is shown as INDETERMINATE, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from domain.clock import Clock, Entropy
from domain.commands import AttemptOutcome, Command, CustodyChange, ItemTransition, NewItem
from domain.identity import OPERATOR, ItemId, TransactionId, is_consumer
from domain.ledger_state import Applied
from domain.money import Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, operator_account
from domain.settlement import IN_FLIGHT, AttemptState, ItemState, Rail, retry_after
from providers.base import Accepted, Outcome, OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.custodian import Observation, OrderState, TransferOrder, TransferRail
from server.ledger_writer import LedgerWriter
from server.workers.concurrency import all_of
from storage import orders
from storage.database import Engine
from storage.orders import OpenOrder

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OrderPace:
    """How often an order is looked at, and when it is called late."""

    look_after: timedelta = timedelta(seconds=1)
    look_seldom_after: timedelta = timedelta(seconds=20)
    """The pause grows with the order's age up to this; webhooks make it shorter."""
    late_after: timedelta = timedelta(minutes=10)
    """From then on an order that goes on is shown as INDETERMINATE."""
    key_lasts: timedelta = timedelta(hours=20)
    """How long a key is sent again. Nobody says how long custodians remember it; after a day a person looks."""
    orders_per_round: int = 50
    idle_seconds: float = 0.25


class Orders:
    """Carries out the persisted orders of one custodian."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        rail: TransferRail,
        clock: Clock,
        entropy: Entropy,
        pace: OrderPace = OrderPace(),
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._custodian = rail
        self._clock = clock
        self._entropy = entropy
        self._pace = pace
        self._rail = Rail(rail.rail)
        self._resume_at = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out orders until `stop` is set."""
        while not stop.is_set():
            await self.step()
            await self._clock.sleep(self._pace.idle_seconds)

    async def step(self) -> int:
        """Send what was never sent and look after the rest, as far as each is due; how many were touched."""
        async with self._engine.connect() as tx:
            open_orders = await orders.under_way(tx, self._rail, limit=self._pace.orders_per_round)
        new = [order for order in open_orders if order.tries == 0]
        due = [order for order in open_orders if order.tries > 0 and self._is_due(order)]
        await self._send(new)
        await self._look(due)
        return len(new) + len(due)

    async def look_at(self, item_id: ItemId) -> bool:
        """Look at the order of one item at once, because somebody says that it moved. False: it has none open."""
        async with self._engine.connect() as tx:
            order = await orders.of_item(tx, self._rail, item_id)
        if order is None:
            return False
        await self._look([order])
        return True

    def _is_due(self, order: OpenOrder) -> bool:
        if order.observed_at is None:
            return True
        age = order.observed_at - order.signed_at
        pause = min(max(self._pace.look_after, age / 4), self._pace.look_seldom_after)
        return order.observed_at + pause <= self._clock.now()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _send(self, waiting: Sequence[OpenOrder]) -> None:
        """One request for each, noted in a commit of its own before it is made."""
        if not waiting or self._clock.monotonic() < self._resume_at:
            return
        begun = [(order, await self._begin(order)) for order in waiting]
        tried = [(order, number) for order, number in begun if number is not None]
        outcomes = await all_of([self._custodian.start(TransferOrder.decode(order.payload)) for order, _ in tried])
        for (order, number), outcome in zip(tried, outcomes, strict=True):
            await self._sent(order, number, outcome)

    async def _begin(self, order: OpenOrder) -> int | None:
        async with self._engine.begin() as tx:
            return await orders.begin_try(tx, order.id, now=self._clock.now())

    async def _sent(self, order: OpenOrder, number: int, outcome: Outcome) -> None:
        if isinstance(outcome, Accepted):
            await self._note(order, ItemState.BROADCAST, reference=outcome.reference)
        elif isinstance(outcome, Retryable):
            self._resume_at = self._clock.monotonic() + outcome.retry_after.total_seconds()
            await self._note(order, ItemState.BROADCAST, reason=outcome.reason)
        elif isinstance(outcome, OutcomeUnknown):
            log.warning("orders.outcome_unknown", item_id=str(order.item_id), reason=outcome.reason[:200])
            await self._note(order, ItemState.INDETERMINATE, reason=f"no answer to the order: {outcome.reason}")
        elif number == 1:
            # The first try ever, and the custodian says no: nothing exists that could still happen.
            await self._end(order, f"refused: {outcome.reason}", only_if_tried=1)
        else:
            await self._note(order, ItemState.INDETERMINATE, reason=_refused_again(outcome))

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _look(self, due: Sequence[OpenOrder]) -> None:
        seen = await all_of([self._observe(order) for order in due])
        absent: list[OpenOrder] = []
        for order, observation in zip(due, seen, strict=True):
            if observation is None:
                continue
            if observation.state is OrderState.ABSENT and self._key_lives(order):
                absent.append(order)
            else:
                await self._judge(order, observation)
        await self._send(absent)

    async def _observe(self, order: OpenOrder) -> Observation | None:
        try:
            return await self._custodian.observe(TransferOrder.decode(order.payload), order.reference)
        except ProviderUnavailable as fault:
            log.info("orders.not_seen", item_id=str(order.item_id), detail=str(fault)[:200])
            return None

    def _key_lives(self, order: OpenOrder) -> bool:
        return self._clock.now() < order.signed_at + self._pace.key_lasts

    async def _judge(self, order: OpenOrder, seen: Observation) -> None:
        late = order.signed_at + self._pace.late_after < self._clock.now()
        if seen.state is OrderState.COMPLETE:
            await self._book(order, seen)
        elif seen.state is OrderState.FAILED:
            await self._end(order, seen.reason or "ended without effect")
        elif seen.state is OrderState.ABSENT:
            await self._note(order, ItemState.INDETERMINATE, reason="the custodian knows nothing of it, after a day")
        elif seen.state is OrderState.UNRECOGNISED or late:
            reason = f"{seen.state} at the custodian {seen.reason}".strip()
            await self._note(order, ItemState.INDETERMINATE, reason=reason, reference=seen.reference)
        else:
            await self._note(order, ItemState.BROADCAST, reference=seen.reference)

    async def _note(
        self, order: OpenOrder, state: ItemState, *, reason: str = "", reference: str | None = None
    ) -> None:
        async with self._engine.begin() as tx:
            now = self._clock.now()
            await orders.note(tx, order.id, state=state, now=now, reason=reason[:200], reference=reference)

    # --- ending -------------------------------------------------------------------------------------------------------

    async def _end(self, order: OpenOrder, reason: str, *, only_if_tried: int | None = None) -> None:
        async with self._engine.begin() as tx:
            ended = await orders.end_without_effect(
                tx,
                self._rail,
                order,
                now=self._clock.now(),
                reason=reason[:200],
                again_after=retry_after(order.failures),
                only_if_tried=only_if_tried,
            )
        if ended:
            log.warning("orders.ended_without_effect", item_id=str(order.item_id), reason=reason[:200])

    async def _book(self, order: OpenOrder, seen: Observation) -> None:
        """The order is complete: item, positions, attempt and network fee in one commit, once."""
        command = booking(order, seen, rail=self._rail, entropy=self._entropy, now=self._clock.now())
        outcome = await self._writer.submit(command)
        if isinstance(outcome, Applied):
            log.info("orders.complete", item_id=str(order.item_id), purpose=order.purpose)
        else:
            log.info("orders.not_booked", item_id=str(order.item_id), reason=str(outcome.error))


def _refused_again(outcome: Rejected) -> str:
    return f"refused, but an earlier try may have been taken: {outcome.reason}"


def booking(order: OpenOrder, seen: Observation, *, rail: Rail, entropy: Entropy, now: datetime) -> Command:
    """What a complete order means for the books. Its item can be confirmed once, so this can be booked once."""
    amount, fee = order.amount, seen.network_fee
    confirmed = ItemTransition(
        item_id=order.item_id,
        expected=IN_FLIGHT,
        state=ItemState.CONFIRMED,
        transaction_hash=seen.transaction_hash or seen.reference or order.reference,
        at=now,
    )
    moved = [CustodyChange(order.sender, rail, amount.asset, -amount.micros, -amount.micros)]
    if is_consumer(order.recipient) or order.recipient == OPERATOR:
        moved.append(CustodyChange(order.recipient, rail, amount.asset, amount.micros))
    outcome = AttemptOutcome(
        attempt_id=order.id,
        state=AttemptState.CONFIRMED,
        at=now,
        fee_asset=fee.asset if fee else None,
        fee_micros=fee.micros if fee else None,
    )
    if fee is None or fee.micros == 0:
        return Command(transitions=(confirmed,), custody=tuple(moved), attempts=(outcome,))
    moved.append(CustodyChange(order.sender, rail, fee.asset, -fee.micros))
    return Command(
        transactions=(_fee_transaction(order, fee, entropy),),
        postings=((_fee_posting(fee),),),
        transitions=(confirmed,),
        custody=tuple(moved),
        attempts=(outcome,),
        items=_fee_made_good(order, fee, entropy),
    )


def _fee_posting(fee: Money) -> Posting:
    expense, outside = operator_account(AccountKind.NETWORK_FEES), operator_account(AccountKind.EXTERNAL_CIRCLE)
    return Posting(expense, outside, fee.asset, fee.micros)


def _fee_transaction(order: OpenOrder, fee: Money, entropy: Entropy) -> Transaction:
    return Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=TransactionKind.NETWORK_FEE,
        consumer_id=OPERATOR,
        counterparty_id=None,
        asset=fee.asset,
        micros=fee.micros,
        caller="worker:orders",
        reference=f"{order.item_id}:{order.id}",
    )


def _fee_made_good(order: OpenOrder, fee: Money, entropy: Entropy) -> tuple[NewItem, ...]:
    """Network fees are the operator's. One that was taken from a consumer's wallet is given back on Tempo (rule 17)."""
    if not is_consumer(order.sender):
        return ()
    item_id = ItemId(entropy.uuid7())
    return (NewItem(id=item_id, sender=OPERATOR, recipient=order.sender, asset=fee.asset, micros=fee.micros),)
