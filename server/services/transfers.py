"""Transfers: a consumer pays another one, at once.

The pattern of every use case that moves money: *read* what the request refers to, *build* one command, *submit* it to
the ledger writer, *answer* from its outcome. Whether the money may move is decided in the commit that moves it, under
the locks, and never here.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.clock import Entropy
from domain.errors import SelfTransfer, WalletError
from domain.identity import ConsumerId, ItemId, TransactionId, body_hash, request_key
from domain.ledger import (
    AccountKind,
    Applied,
    Command,
    NewItem,
    Outcome,
    Posting,
    Refused,
    Request,
    Transaction,
    TransactionKind,
    available,
    operator_account,
)
from domain.money import Money
from domain.pricing import FeeSchedule
from server.ledger_writer import LedgerWriter
from server.services.rates import ReferenceRates
from server.services.recipients import Recipient, Recipients
from storage import transactions
from storage.database import Engine, reading
from storage.transactions import Recorded, recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOrder:
    """What a caller asks for. The recipient gets the amount; the fee comes on top."""

    sender: ConsumerId
    recipient: Recipient
    amount: Money
    memo: str
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """The transfer, and the sender's balance after it: now, or (`replayed`) when the request id was first used."""

    recorded: Recorded
    applied: Applied


class TransferService:
    """Makes transfers."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        recipients: Recipients,
        rates: ReferenceRates,
        fees: FeeSchedule,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._recipients = recipients
        self._rates = rates
        self._fees = fees
        self._entropy = entropy

    async def transfer(self, order: TransferOrder, *, deadline: float) -> Transferred:
        """Move the money, or raise why not. Answers after the commit."""
        command = await self._command(order)
        return await self._answer(command, await self._writer.submit(command, deadline=deadline))

    async def preview(self, order: TransferOrder) -> Transferred:
        """What `transfer` would answer now; nothing is written, not even the request id (money rule 25)."""
        command = await self._command(order)
        return await self._answer(command, await self._writer.preview(command))

    async def _command(self, order: TransferOrder) -> Command:
        """The order as one command.

        A refusal found on the way travels with the command: a request id that was used before is answered first,
        whatever has become of the recipient or the rate since (money rule 22).
        """
        request = self._request(order)
        try:
            recipient = await self._recipients.find(order.recipient)
            if recipient == order.sender:
                raise SelfTransfer(order.recipient.field)
            limit_usd_micros = await self._rates.usd_micros(order.amount)
        except WalletError as refusal:
            return Command(request=request, sender=order.sender, doom=refusal)
        return self.payment(order, recipient, request, limit_usd_micros)

    def _request(self, order: TransferOrder) -> Request:
        recipient, amount = order.recipient, order.amount
        said = (recipient.by, self._recipients.fingerprint(recipient), amount.asset, amount.micros, order.memo)
        key = request_key(caller=order.caller, request_id=order.request_id)
        return Request(order.sender, key, body_hash("Transfer", *said), order.request_id)

    def payment(self, order: TransferOrder, recipient: ConsumerId, request: Request, limit_usd_micros: int) -> Command:
        """The command that pays this recipient, also where it was another rpc that found them."""
        amount, fee = order.amount, self._fees.transfer_fee(order.amount)
        sender = available(order.sender)
        postings = [Posting(sender, available(recipient), amount.asset, amount.micros)]
        if fee.micros:
            postings.append(Posting(sender, operator_account(AccountKind.FEES), fee.asset, fee.micros))
        transaction = Transaction(
            id=TransactionId(self._entropy.uuid7()),
            kind=TransactionKind.TRANSFER,
            consumer_id=order.sender,
            counterparty_id=recipient,
            asset=amount.asset,
            micros=amount.micros,
            fee_micros=fee.micros,
            memo=order.memo,
            caller=order.caller,
            request_id=order.request_id,
        )
        item = NewItem(
            id=ItemId(self._entropy.uuid7()),
            sender=order.sender,
            recipient=recipient,
            asset=amount.asset,
            micros=amount.micros,
        )
        return Command(
            transactions=(transaction,),
            postings=(tuple(postings),),
            request=request,
            sender=order.sender,
            limit_usd_micros=limit_usd_micros,
            items=(item,),
        )

    async def _answer(self, command: Command, outcome: Outcome) -> Transferred:
        if isinstance(outcome, Refused):
            raise outcome.error
        if not outcome.replayed:
            return Transferred(recorded(command, outcome.at), outcome)
        assert outcome.transaction_id is not None, "only a transfer is stored under a transfer's request id and hash"
        async with reading(self._engine) as tx:
            return Transferred(await transactions.get(tx, outcome.transaction_id), outcome)
