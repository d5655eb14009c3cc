"""Refunds: a consumer gives back a transfer that they received, to whoever sent it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.clock import Entropy
from domain.commands import Command, Refund, Request
from domain.errors import NotRefundable, RecipientNotFound, StateConflict, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Outcome, Refused
from domain.money import Money
from domain.postings import Transaction, TransactionKind
from domain.refunds import check_refundable, refund_of
from domain.transfers import booking
from server.ledger_writer import LedgerWriter
from server.services.transfers import Transferred, transferred
from storage import transactions
from storage.database import Engine, reading

# Each try that fails means that another refund of the same transfer was made meanwhile.
TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """What a caller asks for. Without an amount: all that has not been given back yet."""

    refunder: ConsumerId
    transaction_id: UUID
    amount: Money | None
    memo: str
    caller: str
    request_id: str


class RefundService:
    """Makes refunds."""

    def __init__(self, *, engine: Engine, writer: LedgerWriter, entropy: Entropy) -> None:
        self._engine = engine
        self._writer = writer
        self._entropy = entropy

    async def refund(self, order: RefundOrder, *, deadline: float) -> Transferred:
        """Give the money back, or raise why not. Answers after the commit."""
        for _ in range(TRIES):
            command = await self._command(order)
            outcome = await self._writer.submit(command, deadline=deadline)
            if not _overtaken(outcome):
                break
        return await self._answer(command, outcome)

    async def preview(self, order: RefundOrder) -> Transferred:
        """What `refund` would answer now; nothing is written, not even the request id (money rule 25)."""
        command = await self._command(order)
        return await self._answer(command, await self._writer.preview(command))

    async def _command(self, order: RefundOrder) -> Command:
        """The order as one command. A refusal found on the way travels with it (money rule 22)."""
        request = _request(order)
        try:
            async with reading(self._engine) as tx:
                found = await transactions.get(tx, order.transaction_id, party=order.refunder)
            check_refundable(found.transaction, refunder=order.refunder)
            refund = refund_of(found.transaction, refunded_micros=found.refunded_micros, asked=order.amount)
        except WalletError as refusal:
            return Command(request=request, sender=order.refunder, doom=refusal)
        return self._payment(order, found.transaction, refund, request)

    def _payment(self, order: RefundOrder, original: Transaction, refund: Refund, request: Request) -> Command:
        """A transfer the other way, without a fee and without a place in the limit."""
        made = booking(
            self._entropy,
            kind=TransactionKind.REFUND,
            sender=order.refunder,
            recipient=ConsumerId(original.consumer_id),
            amount=Money(original.asset, refund.micros),
            fee_micros=0,
            memo=order.memo,
            caller=order.caller,
            request_id=order.request_id,
            reference=str(original.id),
        )
        return Command(
            transactions=(made.transaction,),
            postings=(made.postings,),
            items=(made.item,),
            request=request,
            sender=order.refunder,
            refund=refund,
        )

    async def _answer(self, command: Command, outcome: Outcome) -> Transferred:
        try:
            return await transferred(self._engine, command, outcome)
        except RecipientNotFound:
            # Who sent it has closed their wallet for good: nobody is there to take it back.
            raise NotRefundable(TransactionKind.TRANSFER.upper()) from None


def _request(order: RefundOrder) -> Request:
    amount = (order.amount.asset, order.amount.micros) if order.amount is not None else ("", 0)
    key = request_key(caller=order.caller, request_id=order.request_id)
    said = (str(order.transaction_id), *amount, order.memo)
    return Request(order.refunder, key, body_hash("RefundTransfer", *said), order.request_id)


def _overtaken(outcome: Outcome) -> bool:
    """Whether what is left of the transfer is less than when the command was built."""
    return isinstance(outcome, Refused) and isinstance(outcome.error, StateConflict)
