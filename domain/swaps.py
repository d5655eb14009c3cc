"""Swaps: one asset for another, at a price that is named first and holds until it expires.

Dollar assets are priced on the chain's exchange, of which workers keep a ladder for each pair: what it gives for ten
units, for a hundred, and so on. An amount between two rungs gets the price of the larger one, which is never better
than its own. Euros are priced at the reference rate, because the exchange trades none. What the operator earns is the
spread, and everything that rounding leaves over is part of it.

The treasury is the other side of every swap. What it has promised and not yet settled is its exposure: bounded by
policy, and covered by what stands on the rail for it (money rule 18).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from domain.clock import Entropy
from domain.commands import EXPIRED, Command, NewItem, RecordKind, RecordTransition, Request
from domain.errors import (
    FieldViolation,
    NoLiquidity,
    PriceMoved,
    QuoteExpired,
    QuoteUsed,
    SwapsSuspended,
    ValidationFailed,
)
from domain.identity import OPERATOR, ConsumerId, HolderId, ItemId, TransactionId
from domain.money import MICROS_PER_UNIT, Asset, Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account


class QuoteState(StrEnum):
    """Where a quote stands. An open one whose time is over has expired, whatever its row says."""

    OPEN = "OPEN"
    EXECUTED = "EXECUTED"


class PriceSource(StrEnum):
    """Where a price comes from."""

    DEX = "dex"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class SwapPolicy:
    """What the operator asks for a swap, and how far it goes. Spreads and the price bound are millionths."""

    dex_spread_micros: int = 500
    reference_spread_micros: int = 5_000
    lasts: timedelta = timedelta(seconds=30)
    least_micros: int = 10_000
    most_micros: int = 50_000 * MICROS_PER_UNIT
    price_bound_micros: int = 5_000
    """How far the market may move against the operator between quote and swap."""
    exposure_micros: int = 1_000_000 * MICROS_PER_UNIT
    """What may be promised of one asset in all swaps that have not settled."""
    ladder_max_age: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Rung:
    """What the exchange gives for one amount."""

    sell_micros: int
    buy_micros: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """A pair's prices, smallest amount first, as they stood at a block. Amounts beyond the market have no rung."""

    sell_asset: Asset
    buy_asset: Asset
    rungs: tuple[Rung, ...]
    block_number: int
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Price:
    """Micros bought for one micro sold, exactly, before any spread."""

    rate: Fraction
    source: PriceSource


class Split(NamedTuple):
    """What a sold amount is worth, divided between consumer and operator."""

    buy_micros: int
    spread_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapQuote:
    """A price for one consumer and one amount."""

    id: UUID
    consumer_id: ConsumerId
    sell: Money
    buy: Money
    spread: Money
    source: PriceSource
    created_at: datetime
    expires_at: datetime
    state: QuoteState = QuoteState.OPEN
    transaction_id: TransactionId | None = None

    @property
    def rate_micros(self) -> int:
        """Micros bought for one whole unit sold."""
        return self.buy.micros * MICROS_PER_UNIT // self.sell.micros

    @property
    def worth_micros(self) -> int:
        """What the market gave for the sold amount when the quote was made."""
        return self.buy.micros + self.spread.micros


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the operator has of an asset beyond all that is to leave it, and how much of that is swaps' doing."""

    uncommitted_micros: int
    swaps_micros: int


def ladder_price(ladder: Ladder, sell: Money) -> Price:
    """The price of the next larger rung; refused where the market has none."""
    rung = next((rung for rung in ladder.rungs if rung.sell_micros >= sell.micros), None)
    if rung is None or rung.buy_micros == 0:
        raise NoLiquidity(ladder.sell_asset, ladder.buy_asset)
    return Price(Fraction(rung.buy_micros, rung.sell_micros), PriceSource.DEX)


def reference_price(sell_asset: Asset, *, eur_usd_micros: int) -> Price:
    """The price between the euro and any dollar asset."""
    dollars = Fraction(eur_usd_micros, MICROS_PER_UNIT)
    return Price(1 / dollars if sell_asset.is_usd else dollars, PriceSource.REFERENCE)


def split(sell_micros: int, price: Price, policy: SwapPolicy) -> Split:
    """The one place where a swap is rounded: down for the consumer, so that every remainder shows in the spread."""
    on_exchange = price.source is PriceSource.DEX
    spread = policy.dex_spread_micros if on_exchange else policy.reference_spread_micros
    worth = sell_micros * price.rate
    buy_micros = math.floor(worth * (MICROS_PER_UNIT - spread) / MICROS_PER_UNIT)
    return Split(buy_micros, math.ceil(worth) - buy_micros)


def check_bounds(sell: Money, buy_asset: Asset, policy: SwapPolicy) -> None:
    """Amounts that no price is asked for."""
    if sell.micros < policy.least_micros:
        text = f"must be at least {policy.least_micros}"
        raise ValidationFailed((FieldViolation("sell.micros", "amount.too_small", text),))
    if sell.micros > policy.most_micros:
        raise NoLiquidity(sell.asset, buy_asset)


def check_room(quote: SwapQuote, exposure: Exposure, policy: SwapPolicy) -> None:
    """The treasury promises no more than it has on the rail, and no more in open swaps than policy allows."""
    if quote.buy.micros > exposure.uncommitted_micros:
        raise NoLiquidity(quote.sell.asset, quote.buy.asset)
    if exposure.swaps_micros + quote.buy.micros > policy.exposure_micros:
        raise SwapsSuspended()


def check_open(quote: SwapQuote, *, now: datetime) -> None:
    """The quote may still be swapped, as far as can be seen before its row is locked."""
    if quote.state is QuoteState.EXECUTED:
        assert quote.transaction_id is not None, "a quote is executed by a transaction"
        raise QuoteUsed(quote.transaction_id)
    if now >= quote.expires_at:
        raise QuoteExpired(quote.expires_at)


def check_price(quote: SwapQuote, price: Price, policy: SwapPolicy) -> None:
    """The market has not moved against the operator by more than it takes upon itself."""
    lost = quote.worth_micros - math.ceil(quote.sell.micros * price.rate)
    moved_micros = lost * MICROS_PER_UNIT // quote.worth_micros
    if moved_micros > policy.price_bound_micros:
        raise PriceMoved(policy.price_bound_micros, moved_micros)


def swap_command(entropy: Entropy, quote: SwapQuote, *, caller: str, request: Request, now: datetime) -> Command:
    """Both sides in one commit: what is sold goes to the treasury, what is bought comes from it.

    On the rail the two movements are one group, which settles in one chain transaction or not at all.
    """
    transaction = Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=TransactionKind.SWAP,
        consumer_id=quote.consumer_id,
        counterparty_id=None,
        asset=quote.sell.asset,
        micros=quote.sell.micros,
        caller=caller,
        request_id=request.sent_as,
        reference=str(quote.id),
    )
    consumer, treasury = available(quote.consumer_id), operator_account(AccountKind.TREASURY)
    postings = (
        Posting(consumer, treasury, quote.sell.asset, quote.sell.micros),
        Posting(treasury, consumer, quote.buy.asset, quote.buy.micros),
    )
    return Command(
        transactions=(transaction,),
        postings=(postings,),
        request=request,
        sender=quote.consumer_id,
        items=_group(entropy, quote, transaction.id),
        record_transitions=(_execution(quote, transaction.id, now),),
    )


def _group(entropy: Entropy, quote: SwapQuote, transaction_id: TransactionId) -> tuple[NewItem, NewItem]:
    """The group has the quote's id: a quote is swapped once."""

    def leg(sender: HolderId, recipient: HolderId, amount: Money) -> NewItem:
        return NewItem(
            id=ItemId(entropy.uuid7()),
            sender=sender,
            recipient=recipient,
            asset=amount.asset,
            micros=amount.micros,
            group_id=quote.id,
            transaction_id=transaction_id,
        )

    return leg(quote.consumer_id, OPERATOR, quote.sell), leg(OPERATOR, quote.consumer_id, quote.buy)


def _execution(quote: SwapQuote, transaction_id: TransactionId, now: datetime) -> RecordTransition:
    return RecordTransition(
        kind=RecordKind.SWAP_QUOTE,
        id=quote.id,
        expected=frozenset({QuoteState.OPEN}),
        state=QuoteState.EXECUTED,
        values={"transaction_id": transaction_id, "executed_at": now},
        refusals={EXPIRED: QuoteExpired(quote.expires_at)},
        expires_at=quote.expires_at,
    )


LADDER_UNITS: Sequence[int] = (10, 100, 1_000, 10_000, 100_000)
"""The amounts that workers ask the exchange about."""
