"""The operator's float with a custodian: how its books begin, and what comes in from outside.

What stands in the operator's wallet when the books of the rail are opened is booked as float in, in the commit that
opens them. Later, each transfer that arrives from none of our wallets is booked once, by the custodian's id for it,
after it was read there and is complete: float, if it is for the operator. Nobody is told a consumer's address with the
custodian, so what arrives there from outside is a break, for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Break, Command, CursorMove, CustodyChange, Request
from domain.identity import OPERATOR, ItemId, TransactionId, body_hash, request_key
from domain.money import Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, operator_account
from domain.settlement import Rail
from providers.base import ProviderUnavailable
from providers.custodian import CustodyWallet, OrderState, TransferRail, WalletTransfer
from server.ledger_writer import LedgerWriter
from server.workers.orders import Orders
from storage import circle_wallets, cursors, orders
from storage.cursors import NOT_OPENED, Cursor
from storage.database import Engine

log = structlog.get_logger()

IDLE_SECONDS = 2.0
OPENED = "opened"
"""The hash of the cursor once the books are open. A custodian has no blocks: the cursor only says since when."""


class CustodianFloat:
    """Opens the books of one custodian's rail, and looks into transfers that it tells about."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        rail: TransferRail,
        orders: Orders,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._custodian = rail
        self._orders = orders
        self._clock = clock
        self._entropy = entropy
        self._rail = Rail(rail.rail)

    async def run(self, stop: asyncio.Event) -> None:
        """Open the books, once the operator has its wallet."""
        opened = False
        while not stop.is_set() and not opened:
            try:
                opened = await self.open()
            except ProviderUnavailable as fault:
                log.info("custodian_float.waiting", detail=str(fault)[:200])
            await self._clock.sleep(0.0 if opened else IDLE_SECONDS)
        await stop.wait()

    async def open(self) -> bool:
        """Book what stands in the operator's wallet, once. False: there is no wallet yet."""
        name = str(self._rail)
        async with self._engine.begin() as tx:
            wallet = (await circle_wallets.of_holders(tx, [OPERATOR], chain=self._custodian.chain)).get(OPERATOR)
            if wallet is None:
                return False
            await cursors.start(tx, Cursor(name, 0, NOT_OPENED, self._clock.now()))
            cursor = await cursors.read(tx, name)
        assert cursor is not None, "it was started above, by us or by somebody else"
        if cursor.opened:
            return True
        opened_at = self._clock.now()
        standing = await self._custodian.positions(CustodyWallet(wallet.reference, wallet.address))
        floats = [Money(asset, micros) for asset, micros in sorted(standing.items()) if micros]
        await self._writer.submit(self._opening(floats, opened_at))
        log.info("custodian_float.opened", floats=[str(amount) for amount in floats])
        return True

    def _opening(self, floats: Sequence[Money], at: datetime) -> Command:
        name = str(self._rail)
        moved = CursorMove(chain=name, expected_number=0, expected_hash=NOT_OPENED, number=0, hash=OPENED, at=at)
        return Command(
            transactions=tuple(self._float_in(amount, reference=f"{name}:opening") for amount in floats),
            postings=tuple((_from_outside(amount),) for amount in floats),
            custody=tuple(CustodyChange(OPERATOR, self._rail, a.asset, a.micros) for a in floats),
            cursor=moved,
        )

    def _float_in(self, amount: Money, *, reference: str) -> Transaction:
        return Transaction(
            id=TransactionId(self._entropy.uuid7()),
            kind=TransactionKind.FLOAT,
            consumer_id=OPERATOR,
            counterparty_id=None,
            asset=amount.asset,
            micros=amount.micros,
            caller="worker:float",
            reference=reference,
        )

    # --- what the custodian tells about -------------------------------------------------------------------------------

    async def look(self, reference: str) -> bool:
        """Look into a transfer that an event or a sweep named. False: nobody here knows it, yet."""
        transfer = await self._custodian.transfer(reference)
        if transfer is None:
            return False
        if transfer.item_id is not None:
            return await self._is_ours(transfer, ItemId(transfer.item_id))
        if not transfer.incoming or transfer.state is not OrderState.COMPLETE:
            return True  # Nothing stands anywhere because of it, or its other side is told by another event.
        return await self._book_incoming(transfer)

    async def _is_ours(self, transfer: WalletTransfer, item_id: ItemId) -> bool:
        """An order of ours moved. One that the books do not know was lost with them: a break, for people (rule 15)."""
        if await self._orders.look_at(item_id):
            return True
        async with self._engine.connect() as tx:
            ordered = await orders.was_ordered(tx, self._rail, item_id)
        if not ordered:
            await self._report(transfer, "order_not_in_the_books")
        return True

    async def _book_incoming(self, transfer: WalletTransfer) -> bool:
        async with self._engine.connect() as tx:
            cursor = await cursors.read(tx, str(self._rail))
            ends = {transfer.source_address, transfer.destination_address}
            ours = await circle_wallets.of_addresses(tx, ends, chain=self._custodian.chain)
        if cursor is None or not cursor.opened:
            return False
        if transfer.source_address in ours or transfer.created_at <= cursor.block_time:
            return True  # Between wallets of ours, and booked with its item; or part of what the books opened with.
        recipient = ours.get(transfer.destination_address)
        if recipient is None or recipient.holder_id != OPERATOR or transfer.amount is None:
            await self._report(transfer, "unexpected_transfer")
            return True
        await self._writer.submit(self._incoming(transfer.reference, transfer.amount))
        log.info("custodian_float.came_in", amount=str(transfer.amount), reference=transfer.reference)
        return True

    def _incoming(self, reference: str, amount: Money) -> Command:
        """Float that somebody brought, once for each of the custodian's ids (money rule 21)."""
        key = request_key(caller="worker:float", request_id=reference)
        return Command(
            transactions=(self._float_in(amount, reference=f"{self._rail}:{reference}"),),
            postings=((_from_outside(amount),),),
            request=Request(OPERATOR, key, body_hash("FloatIn", reference, amount.asset, amount.micros), reference),
            custody=(CustodyChange(OPERATOR, self._rail, amount.asset, amount.micros),),
        )

    async def _report(self, transfer: WalletTransfer, kind: str) -> None:
        facts = {
            "amount": str(transfer.amount),
            "sender": transfer.source_address,
            "recipient": transfer.destination_address,
            "item": str(transfer.item_id or ""),
        }
        found = Break(self._entropy.uuid7(), kind, f"{self._rail}:{transfer.reference}", facts)
        await self._writer.submit(Command(breaks=(found,)))
        log.error("custodian_float.break", kind=kind, reference=transfer.reference)


def _from_outside(amount: Money) -> Posting:
    outside, treasury = operator_account(AccountKind.EXTERNAL_CIRCLE), operator_account(AccountKind.TREASURY)
    return Posting(outside, treasury, amount.asset, amount.micros)
