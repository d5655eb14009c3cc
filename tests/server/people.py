"""People with wallets and money, for the tests that talk to the server as their apps would."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from domain.money import Asset
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import Balance, GetBalanceRequest, Money
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest, TransferResponse
from sandbox.postgres import Postgres
from tests.books import Books, audit, books_of, deposit

from .conftest import Metadata, Wallet, consumer, fill_pool, service, serving, wallet_settings

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a wallet, and the token their app sends."""

    id: uuid.UUID
    email: str
    phone: str
    handle: str
    token: Metadata


@dataclass
class Town:
    """A server, the books behind it, and who lives there."""

    wallet: Wallet
    books: Books

    async def settle_in(self, name: str, *, usdc: int = 0, **assets: int) -> Person:
        """Onboard somebody and deposit money for them. Everybody is a different person, whatever the name."""
        number = next(_numbers)
        email, phone, handle = f"{name}-{number}@example.com", f"+1415{5_550_000 + number}", f"{name}_{number}"
        request = OnboardRequest(email=email, phone=phone, full_name=name.title())
        answer = await self.wallet.consumers.Onboard(request, metadata=service())
        person = Person(uuid.UUID(answer.consumer.id), email, phone, handle, consumer(answer.consumer.id))
        for asset, micros in {"USDC": usdc, **assets}.items():
            if micros:
                await self.books.apply(deposit(person.id, micros, asset=Asset(asset)))
        return person

    async def name(self, person: Person) -> None:
        """Give somebody their handle."""
        await self.books.execute(
            "UPDATE consumers SET handle = :handle WHERE id = :id", handle=person.handle, id=person.id
        )

    async def pay(
        self, sender: Person, recipient: Person, micros: int, *, asset: str = "USDC", **fields: Any
    ) -> TransferResponse:
        """One transfer by the sender's app."""
        request = transfer(recipient.id, micros, asset=asset, **fields)
        answer: TransferResponse = await self.wallet.consumers.Transfer(request, metadata=sender.token)
        return answer

    async def balance(self, person: Person, asset: str = "USDC") -> Balance:
        answer = await self.wallet.consumers.GetBalance(GetBalanceRequest(asset=asset), metadata=person.token)
        (balance,) = answer.balances
        found: Balance = balance
        return found

    async def freeze(self, person: Person) -> None:
        """What an operator does to a wallet that looks wrong."""
        await self.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=person.id)

    async def everything(self) -> list[Any]:
        """All money, all usage and all records, but not the requests: those remember definite refusals."""
        return [await self.books.execute(f"SELECT * FROM {table} ORDER BY 1, 2") for table in _TABLES]


_TABLES = (
    "stablecoin_balances",
    "wallets",
    "transactions",
    "settlement_items",
    "batch_transfers",
    "refunded_transfers",
    "payment_requests",
    "scheduled_transfers",
)


@asynccontextmanager
async def town_of(wallet: Wallet, database: str) -> AsyncIterator[Town]:
    """The town around a running server, with a ledger writer of its own for the deposits; audited at the end.

    The server works as the service's role; the books as the owner, who can do behind its back what it cannot.
    """
    async with books_of(database) as books:
        yield Town(wallet, books)
        await audit(books.engine)


@asynccontextmanager
async def new_town(postgres: Postgres, template: str, folder: Path, **settings: Any) -> AsyncIterator[Town]:
    """A server on a database of its own, for all tests of a module: one for each test would take most of the time."""
    name = f"town_{next(_numbers)}"
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"'.encode())
        try:
            chosen = wallet_settings(postgres.service_url(name), folder, **settings)
            await fill_pool(chosen, 200)
            async with serving(chosen) as wallet, town_of(wallet, postgres.database_url(name)) as town:
                yield town
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def transfer(
    recipient: uuid.UUID | Recipient, micros: int, *, asset: str = "USDC", request_id: str | None = None, **fields: Any
) -> TransferRequest:
    """What an app sends. Without a request id it makes a new one."""
    to = recipient if isinstance(recipient, Recipient) else Recipient(consumer_id=str(recipient))
    return TransferRequest(
        request_id=request_id or str(uuid.uuid4()), recipient=to, amount=Money(asset=asset, micros=micros), **fields
    )
