"""Transfers: a consumer pays another one, at once.

The pattern of every use case that moves money: *read* what the request refers to, *build* one command, *submit* it to
the ledger writer, *answer* from its outcome. Whether the money may move is decided in the commit that moves it, under
the locks, and never here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.clock import Entropy
from domain.commands import Command, Request
from domain.errors import SelfTransfer, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Applied, Outcome, Refused
from domain.money import Money
from domain.pricing import FeeSchedule
from domain.transfers import booking
from server.ledger_writer import LedgerWriter
from server.services.rates import ReferenceRates
from server.services.recipients import Recipient, Recipients, found_one
from server.services.turns import in_turns
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
        command = await self._command(order, *await self._recipients.find_all([order.recipient]))
        return await transferred(self._engine, command, await self._writer.submit(command, deadline=deadline))

    async def preview(self, order: TransferOrder) -> Transferred:
        """What `transfer` would answer now; nothing is written, not even the request id (money rule 25)."""
        command = await self._command(order, *await self._recipients.find_all([order.recipient]))
        return await transferred(self._engine, command, await self._writer.preview(command))

    async def submit(self, orders: Sequence[TransferOrder], *, deadline: float) -> list[Transferred | Exception]:
        """Make many transfers that know nothing of each other; those of one sender are decided in the order given.

        Each has its own answer: what was done, or why not. An error that is no refusal leaves open whether it was done.
        """
        found = await self._recipients.find_all([order.recipient for order in orders])
        pairs = in_turns(zip(orders, found, strict=True))
        commands = [await self._command(order, recipient) async for order, recipient in pairs]
        outcomes = await self._writer.submit_all(commands, deadline=deadline)
        stored = await _stored(self._engine, outcomes)
        done = in_turns(zip(commands, outcomes, strict=True))
        return [_result(command, outcome, stored) async for command, outcome in done]

    async def _command(self, order: TransferOrder, found: ConsumerId | WalletError) -> Command:
        """The order as one command.

        A refusal found on the way travels with the command: a request id that was used before is answered first,
        whatever has become of the recipient or the rate since (money rule 22).
        """
        request = self._request(order)
        try:
            recipient = found_one(found)
            if recipient == order.sender:
                raise SelfTransfer(order.recipient.field)
            limit_usd_micros = await self._rates.usd_micros(order.amount)
        except WalletError as refusal:
            return Command(request=request, sender=order.sender, doom=refusal)
        return self._payment(order, recipient, request, limit_usd_micros)

    def _request(self, order: TransferOrder) -> Request:
        recipient, amount = order.recipient, order.amount
        said = (recipient.by, self._recipients.fingerprint(recipient), amount.asset, amount.micros, order.memo)
        key = request_key(caller=order.caller, request_id=order.request_id)
        return Request(order.sender, key, body_hash("Transfer", *said), order.request_id)

    def _payment(self, order: TransferOrder, recipient: ConsumerId, request: Request, limit_usd_micros: int) -> Command:
        made = booking(
            self._entropy,
            sender=order.sender,
            recipient=recipient,
            amount=order.amount,
            fee_micros=self._fees.transfer_fee(order.amount).micros,
            memo=order.memo,
            caller=order.caller,
            request_id=order.request_id,
        )
        return Command(
            transactions=(made.transaction,),
            postings=(made.postings,),
            items=(made.item,),
            request=request,
            sender=order.sender,
            limit_usd_micros=limit_usd_micros,
            places={recipient: order.recipient.place},
        )


async def transferred(engine: Engine, command: Command, outcome: Outcome) -> Transferred:
    """What a command with one transfer did, now or when its request id was first used; raises why it did nothing."""
    done = _result(command, outcome, await _stored(engine, [outcome]))
    if isinstance(done, Exception):
        raise done
    return done


async def _stored(engine: Engine, outcomes: Sequence[Outcome | Exception]) -> Mapping[UUID, Recorded]:
    """The transfers that earlier calls made, for those that were replayed."""
    replayed = [one for one in outcomes if isinstance(one, Applied) and one.replayed]
    if not replayed:
        return {}
    async with reading(engine) as tx:
        return await transactions.get_all(tx, [one.transaction_id for one in replayed if one.transaction_id])


def _result(command: Command, outcome: Outcome | Exception, stored: Mapping[UUID, Recorded]) -> Transferred | Exception:
    if isinstance(outcome, Exception):
        return outcome
    if isinstance(outcome, Refused):
        return outcome.error
    if not outcome.replayed:
        return Transferred(recorded(command, outcome.at), outcome)
    assert outcome.transaction_id is not None, "only a transfer is stored under a transfer's request id and hash"
    return Transferred(stored[outcome.transaction_id], outcome)
