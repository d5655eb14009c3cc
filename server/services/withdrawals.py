"""Withdrawals: money leaves the wallet system, to an address on Tempo or to a bank account.

The command holds amount and fee; what pays them out is a settlement item that it brings, or a payout that the worker of
the bank rail starts. What ends the hold is seen later, by the worker that watches the rail. An address that belongs to
another consumer is paid as a transfer, because nothing has to leave for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.bank_accounts import BankAccountState
from domain.clock import Clock, Entropy
from domain.commands import Command, NewItem, Request
from domain.errors import ProviderUnavailable, WalletError
from domain.identity import OUTSIDE, ConsumerId, ItemId, TransactionId, body_hash, request_key
from domain.ledger_state import Applied, Outcome, Refused
from domain.money import Money
from domain.postings import Transaction, TransactionKind
from domain.pricing import FeeSchedule
from domain.routing import Purpose, RouteDecision, RouteRequest, Speed
from domain.transfers import booking
from domain.withdrawals import Withdrawal, WithdrawalState, check_bank_amount, hold_posting
from server.ledger_writer import LedgerWriter
from server.services.destinations import Destinations
from server.services.rates import ReferenceRates
from server.services.routing import Routing
from storage import bank_links, requests, transactions, withdrawals
from storage.bank_accounts import BankAccounts
from storage.database import Engine, reading
from storage.transactions import Recorded, recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalOrder:
    """What a caller asks for: exactly one of `address`, as it was sent, and `bank_account_id`. The fee is on top."""

    consumer: ConsumerId
    amount: Money
    address: str | None
    bank_account_id: UUID | None
    memo: str
    speed: Speed | None
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The withdrawal, and the balance after its hold: now, or (`replayed`) when the request id was first used."""

    recorded: Recorded
    applied: Applied


@dataclass(frozen=True, slots=True)
class _Plan:
    """A command, and the withdrawal it holds money for, unless it is a transfer."""

    command: Command
    withdrawal: Withdrawal | None = None


class WithdrawalService:
    """Sends money out."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        destinations: Destinations,
        bank_accounts: BankAccounts,
        routing: Routing,
        rates: ReferenceRates,
        fees: FeeSchedule,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._destinations = destinations
        self._bank_accounts = bank_accounts
        self._routing = routing
        self._rates = rates
        self._fees = fees
        self._clock = clock
        self._entropy = entropy

    async def withdraw(self, order: WithdrawalOrder, *, deadline: float) -> Withdrawn:
        """Hold the money and set its payment going, or raise why not. Answers after the commit."""
        plan = await self._plan(order, deadline)
        return await self._answer(plan, await self._writer.submit(plan.command, deadline=deadline))

    async def preview(self, order: WithdrawalOrder, *, deadline: float) -> Withdrawn:
        """What `withdraw` would answer now; nothing is written but the question whether the address may be paid."""
        plan = await self._plan(order, deadline)
        return await self._answer(plan, await self._writer.preview(plan.command))

    async def _plan(self, order: WithdrawalOrder, deadline: float) -> _Plan:
        """The order as one command. A refusal found on the way travels with it (money rule 22)."""
        request = _request(order)
        try:
            async with reading(self._engine) as tx:
                if await requests.is_known(tx, request):
                    return _Plan(Command(request=request, sender=order.consumer))
            return await self._fresh_plan(order, request, deadline)
        except WalletError as refusal:
            return _Plan(Command(request=request, sender=order.consumer, doom=refusal))

    async def _fresh_plan(self, order: WithdrawalOrder, request: Request, deadline: float) -> _Plan:
        owner = await self._owner(order)
        limit_usd_micros = await self._rates.usd_micros(order.amount)
        if owner is not None:
            return _Plan(self._transfer(order, owner, request, limit_usd_micros))
        route = await self._route(order)
        if order.address is not None:
            await self._destinations.require_allowed(order.address, order.amount.asset, deadline=deadline)
        return self._hold(order, request, route, limit_usd_micros)

    async def _owner(self, order: WithdrawalOrder) -> ConsumerId | None:
        """The other consumer whom the destination belongs to, if it is one; raises why it cannot be paid."""
        if order.address is not None:
            return await self._destinations.owner(order.address, sender=order.consumer)
        assert order.bank_account_id is not None, "a withdrawal goes somewhere"
        check_bank_amount(order.amount)
        async with reading(self._engine) as tx:
            await self._bank_accounts.active(tx, order.consumer, order.bank_account_id)
        return None

    async def _route(self, order: WithdrawalOrder) -> RouteDecision:
        purpose = Purpose.CHAIN_WITHDRAWAL if order.address is not None else Purpose.BANK_WITHDRAWAL
        speed = await self._routing.speed(order.speed, consumer=order.consumer)
        request = RouteRequest(purposes=frozenset({purpose}), amount=order.amount, speed=speed)
        route = await self._routing.choose(request, consumer=order.consumer)
        if order.bank_account_id is not None:
            await self._require_link(order.bank_account_id, route)
        return route

    async def _require_link(self, bank_account_id: UUID, route: RouteDecision) -> None:
        """The provider knows the account: what is held for one that it does not would be held for ever."""
        async with reading(self._engine) as tx:
            link = await bank_links.find(tx, bank_account_id)
        if link is None or link.state is not BankAccountState.ACTIVE:
            raise ProviderUnavailable(route.provider)

    def _transfer(self, order: WithdrawalOrder, owner: ConsumerId, request: Request, limit_usd_micros: int) -> Command:
        """What pays another consumer, at once, without anything leaving."""
        made = booking(
            self._entropy,
            sender=order.consumer,
            recipient=owner,
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
            sender=order.consumer,
            limit_usd_micros=limit_usd_micros,
            places={owner: "address"},
        )

    def _hold(self, order: WithdrawalOrder, request: Request, route: RouteDecision, limit_usd_micros: int) -> _Plan:
        """The hold, its record, and the item that pays it out once the ledger's posting makes it count (rule 16).

        A bank is paid by the provider out of the operator's position: that item comes when the bank has been paid.
        """
        amount, fee, now = order.amount, route.fee, self._clock.now()
        to_chain = order.address is not None
        withdrawal = Withdrawal(
            id=self._entropy.uuid7(),
            transaction_id=TransactionId(self._entropy.uuid7()),
            consumer_id=order.consumer,
            amount=amount,
            fee=fee,
            route=route,
            state=WithdrawalState.HELD,
            address=order.address.lower() if order.address is not None else None,
            bank_account_id=order.bank_account_id,
            item_id=ItemId(self._entropy.uuid7()) if to_chain else None,
            limit_day=now.date(),
            limit_usd_micros=limit_usd_micros,
        )
        command = Command(
            transactions=(_header(order, withdrawal),),
            postings=((hold_posting(order.consumer, amount, fee),),),
            request=request,
            sender=order.consumer,
            limit_usd_micros=limit_usd_micros,
            items=(_item(withdrawal),) if to_chain else (),
            new_records=(withdrawals.new_record(withdrawal, now=now),),
        )
        return _Plan(command, withdrawal)

    async def _answer(self, plan: _Plan, outcome: Outcome) -> Withdrawn:
        if isinstance(outcome, Refused):
            raise outcome.error
        if not outcome.replayed:
            return Withdrawn(recorded(plan.command, outcome.at, withdrawal=plan.withdrawal), outcome)
        assert outcome.transaction_id is not None, "a withdrawal's request id stands for its transaction"
        async with reading(self._engine) as tx:
            return Withdrawn(await transactions.get(tx, outcome.transaction_id), outcome)


def _request(order: WithdrawalOrder) -> Request:
    to = ("address", order.address.lower()) if order.address is not None else ("bank", str(order.bank_account_id))
    said = (*to, order.amount.asset, order.amount.micros, order.memo, order.speed or "")
    key = request_key(caller=order.caller, request_id=order.request_id)
    return Request(order.consumer, key, body_hash("Withdraw", *said), order.request_id)


def _header(order: WithdrawalOrder, withdrawal: Withdrawal) -> Transaction:
    return Transaction(
        id=withdrawal.transaction_id,
        kind=TransactionKind.WITHDRAWAL,
        consumer_id=order.consumer,
        counterparty_id=None,
        asset=order.amount.asset,
        micros=order.amount.micros,
        fee_micros=withdrawal.fee.micros,
        memo=order.memo,
        caller=order.caller,
        request_id=order.request_id,
    )


def _item(withdrawal: Withdrawal) -> NewItem:
    """The consumer's own position pays; it counts only when the hold is posted."""
    assert withdrawal.item_id is not None, "what leaves a rail is a settlement item"
    return NewItem(
        id=withdrawal.item_id,
        sender=withdrawal.consumer_id,
        recipient=OUTSIDE,
        asset=withdrawal.amount.asset,
        micros=withdrawal.amount.micros,
        destination=withdrawal.address,
        counts=False,
    )
