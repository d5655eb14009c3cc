"""Swaps: a price is named and kept, and may be taken once.

A quote reserves nothing. To take it, the service first sees that the market is still where it was and reserves part of
what the treasury may promise; then the command that books both sides executes the quote in the same commit, so that it
happens once, whoever tries how often at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.commands import Command, Request
from domain.errors import FieldViolation, StateConflict, ValidationFailed, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Applied, Outcome, Refused
from domain.money import Asset, Money
from domain.swaps import (
    QuoteState,
    SwapPolicy,
    SwapQuote,
    check_bounds,
    check_open,
    check_price,
    check_room,
    split,
    swap_command,
)
from server.ledger_writer import LedgerWriter
from server.services.swap_prices import SwapPrices
from storage import balances, requests, swaps, transactions
from storage.database import Engine, reading, writing
from storage.transactions import Recorded, recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapOrder:
    """What a caller asks for."""

    consumer: ConsumerId
    quote_id: UUID
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Swapped:
    """The swap, and both balances after it: now, or (`replayed`) when the request id was first used."""

    recorded: Recorded
    quote: SwapQuote
    applied: Applied
    bought: Applied


@dataclass(frozen=True, slots=True)
class _Plan:
    """A command, the quote it executes, and whether this call reserved it."""

    command: Command
    quote: SwapQuote | None = None
    reserved: bool = False


class SwapService:
    """Quotes and swaps."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        prices: SwapPrices,
        policy: SwapPolicy,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._prices = prices
        self._policy = policy
        self._clock = clock
        self._entropy = entropy

    async def quote(self, consumer: ConsumerId, sell: Money, buy_asset: Asset) -> SwapQuote:
        """Name a price, or raise why there is none."""
        check_bounds(sell, buy_asset, self._policy)
        price = await self._prices.price(sell, buy_asset)
        buy_micros, spread_micros = split(sell.micros, price, self._policy)
        if buy_micros == 0:
            raise ValidationFailed((FieldViolation("sell.micros", "amount.too_small", "buys nothing"),))
        now = self._clock.now()
        quote = SwapQuote(
            id=self._entropy.uuid7(),
            consumer_id=consumer,
            sell=sell,
            buy=Money(buy_asset, buy_micros),
            spread=Money(buy_asset, spread_micros),
            source=price.source,
            created_at=now,
            expires_at=now + self._policy.lasts,
        )
        async with writing(self._engine) as tx:
            check_room(quote, await swaps.exposure(tx, quote, now=now), self._policy)
            await swaps.add(tx, quote)
        return quote

    async def swap(self, order: SwapOrder, *, deadline: float) -> Swapped:
        """Swap at the quoted price, or raise why not. Answers after the commit."""
        plan = await self._plan(order)
        outcome = await self._submit(plan, deadline)
        if isinstance(outcome, Refused) and isinstance(outcome.error, StateConflict):
            # Another call executed the quote in between. Looked at again, it says by which transaction.
            plan = await self._plan(order)
            outcome = await self._submit(plan, deadline)
        return await self._answer(plan, outcome)

    async def preview(self, order: SwapOrder) -> Swapped:
        """What `swap` would answer now; nothing is written, not even the request id (money rule 25)."""
        plan = await self._plan(order, only_check=True)
        outcome = await self._writer.preview(plan.command)
        if isinstance(outcome, Refused) or outcome.replayed:
            return await self._answer(plan, outcome)
        return await self._foreseen(plan, outcome)

    async def _plan(self, order: SwapOrder, *, only_check: bool = False) -> _Plan:
        """The order as one command. A refusal found on the way travels with it (money rule 22)."""
        request = _request(order)
        try:
            async with reading(self._engine) as tx:
                if await requests.is_known(tx, request):
                    return _Plan(Command(request=request, sender=order.consumer))
                quote = await swaps.get(tx, order.consumer, order.quote_id)
            check_open(quote, now=self._clock.now())
            check_price(quote, await self._prices.price(quote.sell, quote.buy.asset), self._policy)
            reserved = await self._reserve(quote, only_check=only_check)
        except WalletError as refusal:
            return _Plan(Command(request=request, sender=order.consumer, doom=refusal))
        now = self._clock.now()
        command = swap_command(self._entropy, quote, caller=order.caller, request=request, now=now)
        executed = replace(quote, state=QuoteState.EXECUTED, transaction_id=command.transactions[0].id)
        return _Plan(command, executed, reserved)

    async def _reserve(self, quote: SwapQuote, *, only_check: bool) -> bool:
        """Count the quote as promised, under the lock of everything promised of its asset; whether this call did."""
        async with writing(self._engine) as tx:
            exposure = await swaps.exposure(tx, quote, now=self._clock.now(), lock=not only_check)
            check_room(quote, exposure, self._policy)
            return not only_check and await swaps.reserve(tx, quote.id)

    async def _submit(self, plan: _Plan, deadline: float) -> Outcome:
        """Where it is not known what happened, the reservation stays until the quote expires."""
        outcome = await self._writer.submit(plan.command, deadline=deadline)
        if isinstance(outcome, Refused) and plan.reserved and plan.quote is not None:
            async with writing(self._engine) as tx:
                await swaps.give_back(tx, plan.quote.id)
        return outcome

    async def _answer(self, plan: _Plan, outcome: Outcome) -> Swapped:
        if isinstance(outcome, Refused):
            raise outcome.error
        assert outcome.transaction_id is not None, "only a transaction is stored under a swap's request id and hash"
        async with reading(self._engine) as tx:
            if outcome.replayed or plan.quote is None:
                done = await transactions.get(tx, outcome.transaction_id)
            else:
                done = recorded(plan.command, outcome.at, swap=plan.quote)
            assert done.swap is not None, "a swap has a quote"
            bought = await swaps.bought_balance(tx, done.swap, outcome.transaction_id, at=outcome.at)
        return Swapped(done, done.swap, outcome, bought)

    async def _foreseen(self, plan: _Plan, outcome: Applied) -> Swapped:
        """The answer of a swap that was only checked: what is bought comes on top of what stands there now."""
        assert plan.quote is not None, "a command that would be applied is a swap"
        buy = plan.quote.buy
        async with reading(self._engine) as tx:
            found = (await balances.of_consumers(tx, [plan.quote.consumer_id]))[plan.quote.consumer_id, buy.asset]
        after = (found.available_micros + buy.micros, found.held_micros, found.version + 1)
        bought = Applied(outcome.transaction_id, outcome.at, *after)
        return Swapped(recorded(plan.command, outcome.at, swap=plan.quote), plan.quote, outcome, bought)


def _request(order: SwapOrder) -> Request:
    key = request_key(caller=order.caller, request_id=order.request_id)
    return Request(order.consumer, key, body_hash("Swap", str(order.quote_id)), order.request_id)
