"""Swap quotes, and what the operator has promised by them.

The operator's position on the rail is the lock of its exposure: whoever wants to promise part of an asset queues there,
looks at everything promised before, and marks the quote as reserved. A reservation needs nobody to clean it up. It ends
with its quote: executed, when the swap's settlement items say the same, or expired.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, cast, delete, func, insert, select, update

from domain.errors import QuoteNotFound
from domain.identity import OPERATOR, ConsumerId, TransactionId
from domain.ledger_state import Applied
from domain.money import Asset, Money
from domain.settlement import Rail
from domain.swaps import Exposure, PriceSource, QuoteState, SwapQuote
from storage import custody, history
from storage.database import Tx
from storage.schema import entries, settlement_items, swap_quotes
from storage.settlements import OPEN

_q = swap_quotes.c
_i = settlement_items.c
_e = entries.c


async def add(tx: Tx, quote: SwapQuote) -> None:
    """Keep a quote."""
    await tx.execute(
        insert(swap_quotes).values(
            id=quote.id,
            consumer_id=quote.consumer_id,
            sell_asset=quote.sell.asset,
            sell_micros=quote.sell.micros,
            buy_asset=quote.buy.asset,
            buy_micros=quote.buy.micros,
            spread_micros=quote.spread.micros,
            source=quote.source,
            state=quote.state,
            created_at=quote.created_at,
            expires_at=quote.expires_at,
        )
    )


async def get(tx: Tx, consumer_id: UUID, quote_id: UUID) -> SwapQuote:
    """The consumer's quote; raises `QuoteNotFound`, also for somebody else's."""
    own = (_q.id == quote_id, _q.consumer_id == consumer_id)
    row = (await tx.execute(select(swap_quotes).where(*own))).first()
    if row is None:
        raise QuoteNotFound()
    return _quote(row)


async def by_transaction(tx: Tx, ids: Collection[UUID]) -> dict[UUID, SwapQuote]:
    """The quotes that these transactions swapped."""
    if not ids:
        return {}
    rows = await tx.execute(select(swap_quotes).where(_q.transaction_id.in_(sorted(ids))))
    return {row.transaction_id: _quote(row) for row in rows}


def _quote(row: Any) -> SwapQuote:
    buy_asset = Asset(row.buy_asset)
    return SwapQuote(
        id=row.id,
        consumer_id=ConsumerId(row.consumer_id),
        sell=Money(Asset(row.sell_asset), row.sell_micros),
        buy=Money(buy_asset, row.buy_micros),
        spread=Money(buy_asset, row.spread_micros),
        source=PriceSource(row.source),
        created_at=row.created_at,
        expires_at=row.expires_at,
        state=QuoteState(row.state),
        transaction_id=TransactionId(row.transaction_id) if row.transaction_id else None,
    )


async def forget_expired(tx: Tx, *, before: datetime) -> None:
    """Drop quotes that nobody swapped and that expired before that time."""
    await tx.execute(delete(swap_quotes).where(_q.state == QuoteState.OPEN, _q.expires_at < before))


# --- exposure ---------------------------------------------------------------------------------------------------------


def _promised() -> Select[int, int, int]:
    """What is to leave the operator of an asset: all of it, of that what swaps have promised, and what is reserved."""
    total = func.coalesce(func.sum(_i.micros), 0)
    of_swaps = func.coalesce(func.sum(_i.micros).filter(_i.group_id.is_not(None)), 0)
    still_open = (_q.state == QuoteState.OPEN) & (_q.expires_at > bindparam("now")) & _q.reserved
    reserved = (
        select(func.coalesce(func.sum(_q.buy_micros), 0))
        .where(_q.buy_asset == bindparam("asset"), still_open, _q.id != bindparam("besides"))
        .scalar_subquery()
    )
    columns = (cast(total, BigInteger), cast(of_swaps, BigInteger), cast(reserved, BigInteger))
    return select(*columns).where(OPEN, _i.sender == OPERATOR, _i.asset == bindparam("asset"))


_PROMISED = _promised()


async def exposure(tx: Tx, quote: SwapQuote, *, now: datetime, lock: bool = False) -> Exposure:
    """What stands for the operator of the bought asset, and what is promised of it besides this quote.

    With `lock`, nobody else promises anything of it until the database transaction ends.
    """
    key = (OPERATOR, quote.buy.asset)
    position = (await custody.positions(tx, Rail.TEMPO, [key], lock=lock)).get(key)
    # A statement of its own: it has to see what those who held the lock before have reserved (money rule 20).
    given = {"asset": quote.buy.asset, "now": now, "besides": quote.id}
    total, of_swaps, reserved = (await tx.execute(_PROMISED, given)).one()
    standing = position.micros if position else 0
    return Exposure(uncommitted_micros=standing - total - reserved, swaps_micros=of_swaps + reserved)


async def reserve(tx: Tx, quote_id: UUID) -> bool:
    """Count the quote as promised until it expires. False: it was reserved before, or is no longer open."""
    is_free = (_q.id == quote_id, _q.state == QuoteState.OPEN, ~_q.reserved)
    reserved = update(swap_quotes).where(*is_free).values(reserved=True).returning(_q.id)
    return (await tx.execute(reserved)).first() is not None


async def give_back(tx: Tx, quote_id: UUID) -> None:
    """The quote was not swapped, so nothing is promised by it."""
    await tx.execute(update(swap_quotes).where(_q.id == quote_id, _q.state == QuoteState.OPEN).values(reserved=False))


# --- what a swap left behind ------------------------------------------------------------------------------------------


async def bought_balance(tx: Tx, quote: SwapQuote, transaction_id: TransactionId, *, at: datetime) -> Applied:
    """The balance of the bought asset as the swap left it, found among the entries from the swap's time on."""
    consumer, asset = quote.consumer_id, quote.buy.asset
    first = await history.first_since(tx, consumer, await history.newest(tx, consumer, [asset]), at)
    own = (_e.consumer_id == consumer, _e.asset == asset, _e.version >= first[asset])
    statement = select(entries).where(*own, _e.transaction_id == transaction_id).order_by(_e.version).limit(1)
    row = (await tx.execute(statement)).one()
    return Applied(transaction_id, row.created_at, row.available_after, row.held_after, row.version)
