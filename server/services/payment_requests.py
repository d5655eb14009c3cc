"""Payment requests: asking another consumer for money, paying, and wanting no more of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.commands import Command, Request
from domain.errors import PaymentRequestClosed, PaymentRequestNotFound, SelfTransfer, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Outcome, Refused
from domain.money import Money
from domain.payment_requests import PaymentRequest, check_payer, expiry, paid
from domain.pricing import FeeSchedule
from domain.transfers import Origin, OriginKind, booking
from server.ledger_writer import LedgerWriter
from server.services.rates import ReferenceRates
from server.services.recipients import Recipient, Recipients
from server.services.transfers import Transferred, transferred
from storage import payment_requests
from storage.database import Engine, Tx, reading, writing


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOrder:
    """What a payee asks for, and of whom."""

    payee: ConsumerId
    payer: Recipient
    amount: Money
    memo: str
    expires_at: datetime | None
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The payment request, made now or (`replayed`) by an earlier call with the same request id."""

    payment_request: PaymentRequest
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PayOrder:
    """A payer's wish to pay what they were asked for."""

    payer: ConsumerId
    payment_request_id: UUID
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Paid:
    """The transfer that paid, and the request that it closed."""

    transferred: Transferred
    payment_request: PaymentRequest


class PaymentRequestService:
    """Makes payment requests and ends them."""

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
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._recipients = recipients
        self._rates = rates
        self._fees = fees
        self._clock = clock
        self._entropy = entropy

    async def ask(self, order: AskOrder, *, deadline: float) -> Asked:
        """Ask for the money, or raise why not.

        Nothing moves, but it is asked for under a request id and refused to frozen wallets, so it goes through the
        ledger's door like a transfer.
        """
        key, id = request_key(caller=order.caller, request_id=order.request_id), self._entropy.uuid7()
        outcome = await self._writer.submit(await self._ask_command(order, id, key), deadline=deadline)
        if isinstance(outcome, Refused):
            raise outcome.error
        async with reading(self._engine) as tx:
            found = await payment_requests.asked_by(tx, order.payee, key)
        return Asked(found, replayed=found.id != id)

    async def _ask_command(self, order: AskOrder, id: UUID, key: UUID) -> Command:
        request = self._ask_request(order, key)
        now = self._clock.now()
        try:
            payer = await self._recipients.find_open(order.payer)
            if payer == order.payee:
                raise SelfTransfer(order.payer.field)
            expires_at = expiry(order.expires_at, now=now)
        except WalletError as refusal:
            return Command(request=request, sender=order.payee, doom=refusal)
        asked = PaymentRequest(
            id=id,
            payee=order.payee,
            payer=payer,
            amount=order.amount,
            memo=order.memo,
            created_at=now,
            expires_at=expires_at,
        )
        record = payment_requests.new_record(asked, request_key=key)
        return Command(request=request, sender=order.payee, new_records=(record,))

    def _ask_request(self, order: AskOrder, key: UUID) -> Request:
        payer, amount = order.payer, order.amount
        until = order.expires_at.isoformat() if order.expires_at is not None else ""
        said = (payer.by, self._recipients.fingerprint(payer), amount.asset, amount.micros, order.memo, until)
        return Request(order.payee, key, body_hash("CreatePaymentRequest", *said), order.request_id)

    async def pay(self, order: PayOrder, *, deadline: float) -> Paid:
        """Move the money and close the request, or raise why not. Answers after the commit."""
        command = await self._pay_command(order)
        return await self._pay_answer(order, command, await self._writer.submit(command, deadline=deadline))

    async def preview(self, order: PayOrder) -> Paid:
        """What `pay` would answer now; nothing is written, not even the request id (money rule 25)."""
        command = await self._pay_command(order)
        return await self._pay_answer(order, command, await self._writer.preview(command))

    async def _pay_command(self, order: PayOrder) -> Command:
        """The order as one command. A refusal found on the way travels with it (money rule 22)."""
        key = request_key(caller=order.caller, request_id=order.request_id)
        hashed = body_hash("PayPaymentRequest", str(order.payment_request_id))
        request = Request(order.payer, key, hashed, order.request_id)
        try:
            asked = await self._find(order.payment_request_id)
            check_payer(asked, order.payer)
            limit_usd_micros = await self._rates.usd_micros(asked.amount)
        except WalletError as refusal:
            return Command(request=request, sender=order.payer, doom=refusal)
        return self._payment(order, asked, request, limit_usd_micros)

    def _payment(self, order: PayOrder, asked: PaymentRequest, request: Request, limit_usd_micros: int) -> Command:
        """A transfer to who asked. The commit that moves the money closes the request, so one payer wins."""
        made = booking(
            self._entropy,
            sender=asked.payer,
            recipient=asked.payee,
            amount=asked.amount,
            fee_micros=self._fees.transfer_fee(asked.amount).micros,
            memo=asked.memo,
            caller=order.caller,
            request_id=order.request_id,
            reference=str(Origin(OriginKind.PAYMENT_REQUEST, str(asked.id))),
        )
        return Command(
            transactions=(made.transaction,),
            postings=(made.postings,),
            items=(made.item,),
            request=request,
            sender=asked.payer,
            limit_usd_micros=limit_usd_micros,
            record_transitions=(paid(asked, made.transaction.id, at=self._clock.now()),),
        )

    async def _pay_answer(self, order: PayOrder, command: Command, outcome: Outcome) -> Paid:
        done = await transferred(self._engine, command, outcome)
        return Paid(done, await self._find(order.payment_request_id))

    async def close(self, party: ConsumerId, payment_request_id: UUID) -> PaymentRequest:
        """End an open request without payment: its payer declines it, its payee cancels it."""
        now = self._clock.now()
        async with writing(self._engine) as tx:
            wanted = (await _existing(tx, payment_request_id)).closed_by(party)
            await payment_requests.close(tx, payment_request_id, wanted, now=now)
            found = await _existing(tx, payment_request_id)
        if found.state is not wanted:
            raise PaymentRequestClosed(found.state_at(now))
        return found

    async def _find(self, payment_request_id: UUID) -> PaymentRequest:
        async with reading(self._engine) as tx:
            return await _existing(tx, payment_request_id)


async def _existing(tx: Tx, payment_request_id: UUID) -> PaymentRequest:
    found = await payment_requests.find(tx, payment_request_id)
    if found is None:
        raise PaymentRequestNotFound()
    return found
