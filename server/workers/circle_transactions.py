"""Transfers at Circle, looked into one by one: ours are shown to who ordered them, anybody else's is a break.

Nobody is told a consumer's address at Circle, so what arrives there from outside was not asked for. It stands in the
wallet and not in the books; a person decides what it is (money rule 13).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from domain.clock import Entropy
from domain.commands import Break, Command
from domain.identity import ItemId
from domain.settlement import Rail
from providers.custodian import OrderState, TransferRail, WalletTransfer
from server.ledger_writer import LedgerWriter
from storage import circle_wallets, orders, settlements
from storage.database import Engine

log = structlog.get_logger()

BREAK_KIND = "unexpected_circle_transfer"
FORGOTTEN = "the books do not know the order, as after a restore: decide by hand"

OrderLook = Callable[[ItemId], Awaitable[object]]
"""Look at the order of this item at once, if it has one under way."""


FloatBook = Callable[[WalletTransfer], Awaitable[bool]]
"""Book money that came to the operator from outside, once; False: it is not for the operator."""


async def no_orders(_item_id: ItemId) -> None:
    """Where nobody gives orders."""


async def no_float(_found: WalletTransfer) -> bool:
    """Where nobody keeps a float."""
    return False


class CircleTransactions:
    """The look into a transaction of Circle's."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        rail: TransferRail,
        entropy: Entropy,
        look_at_order: OrderLook = no_orders,
        book_float: FloatBook = no_float,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._rail = rail
        self._look_at_order = look_at_order
        self._book_float = book_float
        self._entropy = entropy

    async def look(self, reference: str) -> bool:
        """Read the transaction anew; False when nobody here knows what it is, yet."""
        found = await self._rail.transfer(reference)
        if found is None:
            return False
        if not found.incoming and found.item_id is not None:
            return await self._is_followed(found, ItemId(found.item_id))
        if found.incoming and await self._is_ours(found.source_address):
            # The other side of an order of ours, which is followed by its own transaction.
            return True
        if found.state is OrderState.COMPLETE and not (found.incoming and await self._book_float(found)):
            await self._report(found)
        return found.state.final

    async def _is_followed(self, found: WalletTransfer, item_id: ItemId) -> bool:
        """An item of ours is followed by who ordered it. One that is unknown may have been forgotten by a restore."""
        async with self._engine.connect() as tx:
            known = bool(await settlements.items_by_id(tx, [item_id]))
            ordered = await orders.is_known(tx, Rail.CIRCLE, item_id)
        if known and not ordered:
            return await self._stop(found, item_id)
        if known:
            await self._look_at_order(item_id)
        return known

    async def _stop(self, found: WalletTransfer, item_id: ItemId) -> bool:
        """Circle was told to pay an item, and a restore lost the order: it must not be paid again (money rule 15).

        False while the item is in a worker's hands, so that this is looked at again.
        """
        async with self._engine.begin() as tx:
            stopped = await orders.block(tx, item_id, reason=f"ordered at Circle as {found.reference}; {FORGOTTEN}")
        if stopped:
            log.error("circle.forgotten_order", item_id=str(item_id), reference=found.reference)
            await self._report(found)
        return stopped

    async def _is_ours(self, address: str) -> bool:
        async with self._engine.connect() as tx:
            return address in await circle_wallets.of_addresses(tx, [address], chain=self._rail.chain)

    async def _report(self, found: WalletTransfer) -> None:
        facts = {
            "wallet": found.wallet_reference,
            "direction": "in" if found.incoming else "out",
            "amount": str(found.amount) if found.amount is not None else "of no asset of ours",
            "source": found.source_address,
            "destination": found.destination_address,
            "transaction_hash": found.transaction_hash or "",
        }
        log.error("circle.unexpected_transfer", reference=found.reference, **facts)
        await self._writer.submit(Command(breaks=(Break(self._entropy.uuid7(), BREAK_KIND, found.reference, facts),)))
