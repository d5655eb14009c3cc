"""Orders to a custodian: attempts that are ordered and not signed. Persisted before they are sent, and closed by facts.

An order lives in `settlement_attempts` beside the signed ones, so that one question finds everything that may still
happen for an item (money rule 1). Its payload is the order itself, its reference the idempotency key, and it never
expires: it ends COMPLETE, in the ledger's commit, or with a terminal failure that was read at the custodian (rule 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, insert, select, update

from domain.failover import ItemPurpose
from domain.identity import AttemptId, HolderId, ItemId
from domain.money import Asset, Money
from domain.settlement import IN_FLIGHT, AttemptKind, AttemptState, ItemState, Rail
from storage import custody
from storage.database import Tx
from storage.schema import attempt_items, settlement_attempts, settlement_items
from storage.settlements import debits, in_locking_order

_i = settlement_items.c
_a = settlement_attempts.c
_OPEN = _a.state.in_([AttemptState.SIGNED, AttemptState.BROADCAST])

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When an order expires: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order as it is persisted."""

    id: AttemptId
    item_id: ItemId
    payer: HolderId
    """Whose wallet it leaves."""
    key: UUID
    payload: bytes


async def persist(
    tx: Tx, rail: Rail, provider: str, orders: Sequence[tuple[NewOrder, Money]], *, now: datetime
) -> None:
    """Store orders and reserve what they take, in the commit that routes their items (money rules 4 and 9).

    The caller holds the locks of the positions, which have enough.
    """
    if not orders:
        return
    rows = [
        {
            "id": order.id,
            "kind": AttemptKind.TRANSFER,
            "rail": rail,
            "provider": provider,
            "reference": str(order.key),
            "payload": order.payload,
            "state": AttemptState.SIGNED,
            "holder_id": order.payer,
            "valid_before": NEVER,
            "signed_at": now,
        }
        for order, _ in orders
    ]
    await tx.execute(insert(settlement_attempts), rows)
    calls = [{"item_id": order.item_id, "attempt_id": order.id, "call_index": 0} for order, _ in orders]
    await tx.execute(insert(attempt_items), calls)
    taken = [(order.payer, amount.asset, amount.micros) for order, amount in orders]
    await custody.reserve(tx, rail, debits(taken))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """An order that has not ended, as far as its worker needs it, and the item it is for."""

    id: AttemptId
    payload: bytes
    tries: int
    """How often it began to be sent. Zero: certainly never."""
    reference: str | None
    """The custodian's own id for it, once it is known."""
    error: str
    signed_at: datetime
    observed_at: datetime | None
    item_id: ItemId
    item_state: ItemState
    purpose: ItemPurpose
    sender: HolderId
    recipient: HolderId
    amount: Money
    failures: int


_UNDER_WAY = (
    select(
        *(_a.id, _a.payload, _a.tries, _a.provider_reference, _a.last_error, _a.signed_at, _a.observed_at),
        _i.id.label("item_id"),
        *(_i.state.label("item_state"), _i.purpose, _i.sender, _i.recipient, _i.asset.label("item_asset")),
        *(_i.micros, _i.failures),
    )
    .join(attempt_items, attempt_items.c.attempt_id == _a.id)
    .join(settlement_items, _i.id == attempt_items.c.item_id)
    .where(_OPEN, _a.rail == bindparam("on_rail"))
    .order_by(func.coalesce(_a.observed_at, _a.signed_at), _a.id)
    .limit(bindparam("count"))
)


_OF_ITEM = (_UNDER_WAY.where(_i.id == bindparam("item"))).order_by(None).limit(None)


async def of_item(tx: Tx, rail: Rail, item_id: UUID) -> OpenOrder | None:
    """The order under way for an item."""
    row = (await tx.execute(_OF_ITEM, {"on_rail": rail, "item": item_id})).first()
    return _open_order(row) if row else None


async def is_known(tx: Tx, rail: Rail, item_id: UUID) -> bool:
    """Whether the books have an order for the item, open or ended."""
    ordered = attempt_items.join(settlement_attempts, _a.id == attempt_items.c.attempt_id)
    found = select(_a.id).select_from(ordered).where(attempt_items.c.item_id == item_id, _a.rail == rail)
    return (await tx.execute(found.limit(1))).first() is not None


async def block(tx: Tx, item_id: UUID, *, reason: str) -> bool:
    """Keep an item that waits from being settled until people have looked at it. False: it does not wait now."""
    waits = (_i.id == item_id) & (_i.state == ItemState.PENDING)
    blocked = update(settlement_items).where(waits).values(state=ItemState.BLOCKED, reason=reason)
    return (await tx.execute(blocked.returning(_i.id))).first() is not None


async def under_way(tx: Tx, rail: Rail, *, limit: int = 200) -> list[OpenOrder]:
    """Orders that have not ended, those first that nobody has looked at for longest."""
    return [_open_order(row) for row in await tx.execute(_UNDER_WAY, {"on_rail": rail, "count": limit})]


def _open_order(row: Any) -> OpenOrder:
    return OpenOrder(
        id=row.id,
        payload=bytes(row.payload),
        tries=row.tries,
        reference=row.provider_reference,
        error=row.last_error,
        signed_at=row.signed_at,
        observed_at=row.observed_at,
        item_id=row.item_id,
        item_state=ItemState(row.item_state),
        purpose=ItemPurpose(row.purpose),
        sender=row.sender,
        recipient=row.recipient,
        amount=Money(Asset(row.item_asset), row.micros),
        failures=row.failures,
    )


_BEGIN = (
    update(settlement_attempts)
    .where(_a.id == bindparam("attempt"), _OPEN)
    .values(
        state=AttemptState.BROADCAST,
        tries=_a.tries + 1,
        broadcast_at=func.coalesce(_a.broadcast_at, bindparam("now")),
        observed_at=bindparam("now"),
    )
    .returning(_a.tries)
)


async def begin_try(tx: Tx, order: AttemptId, *, now: datetime) -> int | None:
    """Note that a try begins, before it does; its number, or None when the order has ended."""
    tries: int | None = (await tx.execute(_BEGIN, {"attempt": order, "now": now})).scalar_one_or_none()
    return tries


async def note(
    tx: Tx, order: AttemptId, *, state: ItemState, now: datetime, reason: str = "", reference: str | None = None
) -> None:
    """What was last seen of an order that goes on, and how its item is to be shown."""
    carried = (_i.attempt_id == order) & _i.state.in_(sorted(IN_FLIGHT))
    await tx.execute(update(settlement_items).where(in_locking_order(carried)).values(state=state, reason=reason))
    seen: dict[str, Any] = {"observed_at": now, "last_error": reason}
    if reference is not None:
        seen["provider_reference"] = reference
    await tx.execute(update(settlement_attempts).where(_a.id == order, _OPEN).values(seen))


async def end_without_effect(
    tx: Tx,
    rail: Rail,
    order: OpenOrder,
    *,
    now: datetime,
    reason: str,
    again_after: timedelta,
    only_if_tried: int | None = None,
) -> bool:
    """The order moved nothing and never will: its item may be tried elsewhere (money rule 4). False: it had ended.

    What a consumer sent goes back to the queue it came from, and what the float was to pay is paid from the float on
    Tempo, for the sender owes it to the operator already. A half of a repatriation is ordered anew, a while later.
    """
    await custody.positions(tx, rail, [(order.sender, order.amount.asset)], lock=True)
    carried = (_i.attempt_id == order.id) & _i.state.in_(sorted(IN_FLIGHT))
    locked = select(_i.id).where(carried).with_for_update(key_share=True)
    if (await tx.execute(locked)).first() is None:
        return False
    ended = update(settlement_attempts).where(_a.id == order.id, _OPEN)
    if only_if_tried is not None:
        ended = ended.where(_a.tries == only_if_tried)
    ended = ended.values(state=AttemptState.FAILED, finished_at=now, observed_at=now, last_error=reason)
    if (await tx.execute(ended.returning(_a.id))).first() is None:
        return False
    stays = order.purpose is ItemPurpose.REPATRIATION
    back = {
        "state": ItemState.PENDING,
        "attempt_id": None,
        "rail": rail if stays else Rail.TEMPO,
        "reason": reason,
        "failures": _i.failures + 1,
        "not_before": now + again_after if stays else None,
    }
    await tx.execute(update(settlement_items).where(_i.id == order.item_id).values(back))
    await custody.reserve(tx, rail, {(order.sender, order.amount.asset): -order.amount.micros})
    return True


_TOUCHING = (
    select(_i.sender, _i.recipient, _i.asset, _i.micros)
    .join(attempt_items, attempt_items.c.item_id == _i.id)
    .join(settlement_attempts, _a.id == attempt_items.c.attempt_id)
    .where(_OPEN, _a.rail == bindparam("on_rail"))
)


async def count_under_way(tx: Tx, rail: Rail) -> int:
    """How many have not ended."""
    statement = select(func.count()).select_from(settlement_attempts).where(_OPEN, _a.rail == rail)
    return (await tx.execute(statement)).scalar_one()


async def movements_under_way(tx: Tx, rail: Rail) -> list[tuple[HolderId, HolderId, Money]]:
    """What orders that have not ended may have moved already: from whom, to whom, how much."""
    rows = await tx.execute(_TOUCHING, {"on_rail": rail})
    return [(row.sender, row.recipient, Money(Asset(row.asset), row.micros)) for row in rows]
