"""The operator's float with a custodian: how its books begin, and what comes in from outside.

What stands in the operator's wallet when the books of the rail are opened is booked as float in, in the commit that
opens them. Later, each transfer that arrives there from outside is booked once, by the custodian's id for it, after it
was read there and is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Command, CursorMove, CustodyChange, Request
from domain.identity import OPERATOR, TransactionId, body_hash, request_key
from domain.money import Money
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, operator_account
from domain.settlement import Rail
from providers.base import ProviderUnavailable
from providers.custodian import CustodyWallet, TransferRail, WalletTransfer
from server.ledger_writer import LedgerWriter
from storage import circle_wallets, cursors
from storage.cursors import NOT_OPENED, Cursor
from storage.database import Engine

log = structlog.get_logger()

IDLE_SECONDS = 2.0
OPENED = "opened"
"""The hash of the cursor once the books are open. A custodian has no blocks: the cursor only says since when."""


class CustodianFloat:
    """Opens the books of one custodian's rail, and books what is brought to them later."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        rail: TransferRail,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._custodian = rail
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

    # --- what comes in later ------------------------------------------------------------------------------------------

    async def book_incoming(self, transfer: WalletTransfer) -> bool:
        """Book a complete transfer that none of our wallets sent, once. False: it is not for the operator."""
        async with self._engine.connect() as tx:
            cursor = await cursors.read(tx, str(self._rail))
            own = (await circle_wallets.of_holders(tx, [OPERATOR], chain=self._custodian.chain)).get(OPERATOR)
        if own is None or own.reference != transfer.wallet_reference or transfer.amount is None:
            return False
        if cursor is None or not cursor.opened or transfer.created_at <= cursor.block_time:
            return True  # The books open with what stands there then, this included.
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


def _from_outside(amount: Money) -> Posting:
    outside, treasury = operator_account(AccountKind.EXTERNAL_CIRCLE), operator_account(AccountKind.TREASURY)
    return Posting(outside, treasury, amount.asset, amount.micros)
