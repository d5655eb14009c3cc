"""People with wallets and money, for the tests that talk to the server as their apps would."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from domain.money import Asset
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import Balance, GetBalanceRequest, Money
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest, TransferResponse
from tests.books import Books, books_of, deposit

from .conftest import Metadata, Wallet, consumer, service


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a wallet, and the token their app sends."""

    id: uuid.UUID
    email: str
    phone: str
    token: Metadata


@dataclass
class Town:
    """A server, the books behind it, and who lives there."""

    wallet: Wallet
    books: Books

    async def settle_in(self, name: str, *, usdc: int = 0, **assets: int) -> Person:
        """Onboard somebody and deposit money for them."""
        number = uuid.uuid4().int % 10_000_000
        email, phone = f"{name}@example.com", f"+1415{number:07}"
        request = OnboardRequest(email=email, phone=phone, full_name=name.title())
        answer = await self.wallet.consumers.Onboard(request, metadata=service())
        person = Person(uuid.UUID(answer.consumer.id), email, phone, consumer(answer.consumer.id))
        for asset, micros in {"USDC": usdc, **assets}.items():
            if micros:
                await self.books.apply(deposit(person.id, micros, asset=Asset(asset)))
        return person

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


@asynccontextmanager
async def town_of(wallet: Wallet) -> AsyncIterator[Town]:
    """The town around a running server, with a ledger writer of its own for the deposits."""
    async with books_of(wallet.settings.database_url.get_secret_value()) as books:
        yield Town(wallet, books)


def transfer(
    recipient: uuid.UUID | Recipient, micros: int, *, asset: str = "USDC", request_id: str | None = None, **fields: Any
) -> TransferRequest:
    """What an app sends. Without a request id it makes a new one."""
    to = recipient if isinstance(recipient, Recipient) else Recipient(consumer_id=str(recipient))
    return TransferRequest(
        request_id=request_id or str(uuid.uuid4()), recipient=to, amount=Money(asset=asset, micros=micros), **fields
    )
