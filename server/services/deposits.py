"""Deposits: how a consumer brings money in. Nothing moves here; whatever arrives is credited, announced or not.

The answer is kept under its request id, like everything that is decided, so that a replay gives the same instructions
even when routing would decide otherwise by now.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.commands import Command, Request
from domain.errors import BankAccountNotFound, ConsumerNotFound, ProviderUnavailable, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Outcome, Refused
from domain.money import Asset, Money
from domain.routing import Purpose, RouteDecision, RouteRequest, Speed
from domain.settlement import Rail
from server.ledger_writer import LedgerWriter
from server.services.routing import Routing
from storage import bank_links, custody, deposits
from storage.bank_accounts import BankAccounts
from storage.bank_links import BankLink
from storage.database import Engine, reading
from storage.deposits import Deposit


class DepositSource(StrEnum):
    """Where the money is to come from."""

    ANY = "any"
    CHAIN = "chain"
    BANK = "bank"


_PURPOSES = {
    DepositSource.ANY: frozenset({Purpose.CHAIN_DEPOSIT, Purpose.BANK_DEPOSIT}),
    DepositSource.CHAIN: frozenset({Purpose.CHAIN_DEPOSIT}),
    DepositSource.BANK: frozenset({Purpose.BANK_DEPOSIT}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositOrder:
    """What a caller announces. Zero micros: not known yet."""

    consumer: ConsumerId
    amount: Money
    source: DepositSource
    speed: Speed | None
    bank_account_id: UUID | None
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Announced:
    """The instructions, new or (`replayed`) since the request id was first used."""

    deposit: Deposit
    replayed: bool


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """What everybody who sends tokens to us on Tempo has to know."""

    chain_id: int
    token_addresses: dict[Asset, str]


class DepositService:
    """Says how to bring money in."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        bank_accounts: BankAccounts,
        routing: Routing,
        terms: ChainTerms,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._bank_accounts = bank_accounts
        self._routing = routing
        self._terms = terms
        self._clock = clock
        self._entropy = entropy

    async def announce(self, order: DepositOrder, *, deadline: float) -> Announced:
        """Choose the way and keep what was said, or raise why there is none."""
        command, deposit = await self._plan(order)
        return await self._answer(command, deposit, await self._writer.submit(command, deadline=deadline))

    async def preview(self, order: DepositOrder) -> Announced:
        """What `announce` would answer now."""
        command, deposit = await self._plan(order)
        return await self._answer(command, deposit, await self._writer.preview(command))

    async def _plan(self, order: DepositOrder) -> tuple[Command, Deposit | None]:
        request = _request(order)
        try:
            deposit = await self._deposit(order)
        except WalletError as refusal:
            return Command(request=request, sender=order.consumer, doom=refusal), None
        record = deposits.new_record(deposit, request_key=request.key, now=self._clock.now())
        return Command(request=request, sender=order.consumer, new_records=(record,)), deposit

    async def _deposit(self, order: DepositOrder) -> Deposit:
        if order.bank_account_id is not None:
            async with reading(self._engine) as tx:
                await self._bank_accounts.active(tx, order.consumer, order.bank_account_id)
        speed = await self._routing.speed(order.speed, consumer=order.consumer)
        bank = await self._bank(order)
        purposes = _PURPOSES[order.source]
        if order.source is DepositSource.ANY and bank is None:
            purposes = _PURPOSES[DepositSource.CHAIN]
        request = RouteRequest(purposes=purposes, amount=order.amount, speed=speed)
        route = await self._routing.choose(request, consumer=order.consumer)
        if route.rail is Rail.MINT:
            instructions = self._wire_instructions(order, bank, route)
        else:
            instructions = await self._chain_instructions(order, route)
        return Deposit(self._entropy.uuid7(), order.consumer, order.amount, route, instructions)

    async def _bank(self, order: DepositOrder) -> BankLink | None:
        """The linked account that a wire would come from: the one that was named, or else the newest."""
        async with reading(self._engine) as tx:
            if order.bank_account_id is not None:
                return await bank_links.find(tx, order.bank_account_id)
            return await bank_links.newest_active(tx, order.consumer)

    def _wire_instructions(
        self, order: DepositOrder, bank: BankLink | None, route: RouteDecision
    ) -> dict[str, str | int]:
        """What a worker keeps for wires from that account: only they can tell whose the money is."""
        if bank is None and order.bank_account_id is None:
            raise BankAccountNotFound()
        if bank is None or bank.instructions is None:
            raise ProviderUnavailable(route.provider)
        return {"rail": route.rail, **asdict(bank.instructions)}

    async def _chain_instructions(self, order: DepositOrder, route: RouteDecision) -> dict[str, str | int]:
        async with reading(self._engine) as tx:
            found = await custody.addresses_of(tx, [order.consumer])
        if order.consumer not in found:
            raise ConsumerNotFound(order.consumer)
        return {
            "rail": route.rail,
            "chain_id": self._terms.chain_id,
            "address": found[order.consumer].address,
            "token_address": self._terms.token_addresses.get(order.amount.asset, ""),
        }

    async def _answer(self, command: Command, deposit: Deposit | None, outcome: Outcome) -> Announced:
        if isinstance(outcome, Refused):
            raise outcome.error
        assert command.request is not None, "a deposit is announced under a request id"
        if deposit is not None and not outcome.replayed:
            return Announced(deposit, replayed=False)
        async with reading(self._engine) as tx:
            stored = await deposits.announced_by(tx, command.request.owner, command.request.key)
        return Announced(stored, replayed=True)


def _request(order: DepositOrder) -> Request:
    bank = str(order.bank_account_id or "")
    said = (order.amount.asset, order.amount.micros, order.source, order.speed or "", bank)
    key = request_key(caller=order.caller, request_id=order.request_id)
    return Request(order.consumer, key, body_hash("Deposit", *said), order.request_id)
