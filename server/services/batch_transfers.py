"""Batch transfers: a consumer pays many others in one commit, for one fee, all of them or none.

Each recipient's part is a transaction of its own, so it is shown, refunded and settled like any transfer. What makes
them one is the command: it is decided as a whole, and its settlement items stand behind each other in the sender's
queue, so that chain transactions carry as many of them as they can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.commands import Command, Request
from domain.errors import BatchTooLarge, SelfTransfer, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Applied, Outcome, Refused
from domain.money import Asset, Money
from domain.postings import TransactionKind
from domain.pricing import FeeSchedule
from domain.transfers import Booking, booking
from server.ledger_writer import LedgerWriter
from server.services.rates import ReferenceRates
from server.services.recipients import Recipient, Recipients, found_one
from storage import batch_transfers
from storage.database import Engine, reading
from storage.transactions import Recorded, all_recorded


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One recipient's part."""

    recipient: Recipient
    micros: int
    memo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrder:
    """What a caller asks for. The recipients get their amounts; the one fee comes on top."""

    sender: ConsumerId
    asset: Asset
    items: Sequence[BatchItem]
    caller: str
    request_id: str

    @property
    def total(self) -> Money:
        return Money(self.asset, sum(item.micros for item in self.items))


@dataclass(frozen=True, slots=True)
class BatchTransferred:
    """One transaction for each item, in their order, and the sender's balance after all of them."""

    batch_id: UUID
    parts: Sequence[Recorded]
    applied: Applied


class BatchTransferService:
    """Makes batch transfers."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        recipients: Recipients,
        rates: ReferenceRates,
        fees: FeeSchedule,
        clock: Clock,
        entropy: Entropy,
        batch_limit: int,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._recipients = recipients
        self._rates = rates
        self._fees = fees
        self._clock = clock
        self._entropy = entropy
        self._batch_limit = batch_limit

    async def transfer(self, order: BatchOrder, *, deadline: float) -> BatchTransferred:
        """Move the money, or raise why not. Answers after the commit."""
        command = await self._command(order)
        return await self._answer(order, command, await self._writer.submit(command, deadline=deadline))

    async def preview(self, order: BatchOrder) -> BatchTransferred:
        """What `transfer` would answer now; nothing is written, not even the request id (money rule 25)."""
        command = await self._command(order)
        return await self._answer(order, command, await self._writer.preview(command))

    async def _command(self, order: BatchOrder) -> Command:
        """The order as one command. A refusal found on the way travels with it (money rule 22)."""
        request = self._request(order)
        try:
            if len(order.items) > self._batch_limit:
                raise BatchTooLarge(len(order.items), self._batch_limit)
            recipients = await self._find(order)
            limit_usd_micros = await self._rates.usd_micros(order.total)
        except WalletError as refusal:
            return Command(request=request, sender=order.sender, doom=refusal)
        return self._payments(order, recipients, request, limit_usd_micros)

    def _request(self, order: BatchOrder) -> Request:
        said: list[str | int] = [order.asset]
        for item in order.items:
            said += (item.recipient.by, self._recipients.fingerprint(item.recipient), item.micros, item.memo)
        key = request_key(caller=order.caller, request_id=order.request_id)
        return Request(order.sender, key, body_hash("BatchTransfer", *said), order.request_id)

    async def _find(self, order: BatchOrder) -> list[ConsumerId]:
        """The recipients; raises what is wrong with the first that cannot be paid."""
        found = await self._recipients.find_all([item.recipient for item in order.items])
        for item, one in zip(order.items, found, strict=True):
            if found_one(one) == order.sender:
                raise SelfTransfer(item.recipient.field)
        return [found_one(one) for one in found]

    def _payments(
        self, order: BatchOrder, recipients: Sequence[ConsumerId], request: Request, limit_usd_micros: int
    ) -> Command:
        batch_id, fee = self._entropy.uuid7(), self._fees.batch_transfer_fee(order.total)
        paid = list(zip(recipients, order.items, strict=True))

        def part(position: int, recipient: ConsumerId, item: BatchItem) -> Booking:
            return booking(
                self._entropy,
                kind=TransactionKind.BATCH_TRANSFER,
                sender=order.sender,
                recipient=recipient,
                amount=Money(order.asset, item.micros),
                fee_micros=fee.micros if position == 0 else 0,
                memo=item.memo,
                caller=order.caller,
                request_id=order.request_id,
                batch_id=batch_id,
            )

        parts = [part(position, *pair) for position, pair in enumerate(paid)]
        record = batch_transfers.new_record(
            batch_id, order.sender, total=order.total, fee=fee, item_count=len(parts), now=self._clock.now()
        )
        return Command(
            transactions=tuple(made.transaction for made in parts),
            postings=tuple(made.postings for made in parts),
            items=tuple(made.item for made in parts),
            request=request,
            sender=order.sender,
            limit_usd_micros=limit_usd_micros,
            new_records=(record,),
            # Of somebody who is named twice, the first place counts.
            places={recipient: item.recipient.place for recipient, item in reversed(paid)},
        )

    async def _answer(self, order: BatchOrder, command: Command, outcome: Outcome) -> BatchTransferred:
        if isinstance(outcome, Refused):
            raise outcome.error
        parts = all_recorded(command, outcome.at)
        if outcome.replayed:
            async with reading(self._engine) as tx:
                parts = await batch_transfers.parts(
                    tx, order.sender, order.asset, outcome.version_after, len(order.items)
                )
        batch_id = parts[0].transaction.batch_id
        assert batch_id is not None, "only a batch is stored under a batch's request id and hash"
        return BatchTransferred(batch_id, parts, outcome)
