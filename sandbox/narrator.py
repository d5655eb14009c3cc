"""The voice of the demo: asks the wallet, tells what it answers, and checks every figure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import Balance, GetBalanceRequest, Money, WatchBalancesRequest
from monay.wallet.v1.operations_service_pb2_grpc import OperationsServiceStub
from monay.wallet.v1.sandbox_service_pb2_grpc import SandboxServiceStub
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, Settlement, TransactionState
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest, TransferResponse
from sandbox.keys import DevelopmentKeys
from sandbox.token import ALL_SERVICE_SCOPES, SCOPES, Claims, development_token

UNIT = 1_000_000
CALL_SECONDS = 20.0
SETTLE_SECONDS = 60.0


class WrongFigure(Exception):
    """The wallet said something else than it should."""


@dataclass(frozen=True)
class Person:
    """Somebody in the story."""

    name: str
    id: str
    address: str


class Narrator:
    """Speaks to one wallet as a backend service and as an operator."""

    def __init__(self, channel: grpc.aio.Channel, keys: DevelopmentKeys) -> None:
        self.wallet = ConsumerWalletServiceStub(channel)
        self.operations = OperationsServiceStub(channel)
        self.sandbox = SandboxServiceStub(channel)
        service = Claims(subject="demo", token_use="service", scope=ALL_SERVICE_SCOPES)
        operator = Claims(subject="demo-operator", token_use="operator", scope=SCOPES["operator"])
        self.as_service = bearer(development_token(keys, service))
        self.as_operator = bearer(development_token(keys, operator))
        self._started = time.monotonic()

    async def join(self, name: str) -> Person:
        number = int(uuid4().hex[:6], 16) % 8_000_000 + 2_000_000
        person = OnboardRequest(
            email=f"{name.lower()}.{uuid4().hex[:8]}@example.com", phone=f"+1415{number:07d}", full_name=name
        )
        answer = await self.wallet.Onboard(person, metadata=self.as_service, timeout=CALL_SECONDS)
        joined = Person(name, answer.consumer.id, answer.consumer.addresses[0].address)
        self.say(f"{name} is {joined.id}, at {joined.address} on Tempo")
        return joined

    # --- asking -------------------------------------------------------------------------------------------------------

    async def transfer(
        self, payer: Person, payee: Person, micros: int, *, request_id: str, memo: str = ""
    ) -> TransferResponse:
        order = TransferRequest(
            consumer_id=payer.id,
            request_id=request_id,
            recipient=Recipient(consumer_id=payee.id),
            amount=usdc(micros),
            memo=memo,
        )
        answer: TransferResponse = await self.wallet.Transfer(order, metadata=self.as_service, timeout=CALL_SECONDS)
        return answer

    async def refused(self, payer: Person, payee: Person, micros: int, *, request_id: str) -> str:
        try:
            await self.transfer(payer, payee, micros, request_id=request_id)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return "it was allowed"

    async def ask(self, rpc: str, request: Message) -> Any:
        """Call any rpc of the wallet."""
        return await getattr(self.wallet, rpc)(request, metadata=self.as_service, timeout=CALL_SECONDS)

    async def available(self, person: Person, asset: str = "USDC") -> int:
        answer = await self.ask("GetBalance", GetBalanceRequest(consumer_id=person.id, asset=asset))
        return sum(balance.available_micros for balance in answer.balances if balance.asset == asset)

    async def until_final(self, person: Person, transaction_id: str) -> str:
        """The state in which a transaction that takes its time ends."""
        request = GetTransactionRequest(consumer_id=person.id, transaction_id=transaction_id)
        for _ in range(int(SETTLE_SECONDS * 10)):
            state = (await self.ask("GetTransaction", request)).transaction.state
            if state != TransactionState.TRANSACTION_STATE_PENDING:
                break
            await asyncio.sleep(0.1)
        return TransactionState.Name(state)

    async def until_available(self, person: Person, micros: int) -> None:
        found = await self.available(person)
        for _ in range(int(SETTLE_SECONDS * 10)):
            if found == micros:
                break
            await asyncio.sleep(0.1)
            found = await self.available(person)
        self.check(f"{person.name}'s balance", found, micros)

    async def settlement(self, person: Person, transaction_id: str) -> Settlement:
        request = GetTransactionRequest(consumer_id=person.id, transaction_id=transaction_id)
        answer = await self.wallet.GetTransaction(request, metadata=self.as_service, timeout=CALL_SECONDS)
        settlement: Settlement = answer.transaction.settlements[0]
        return settlement

    @asynccontextmanager
    async def live(self, person: Person) -> AsyncIterator[None]:
        """A stream of the person's balances, told as they come."""
        watching = asyncio.create_task(self.watch(person))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def watch(self, person: Person) -> None:
        stream = self.wallet.WatchBalances(WatchBalancesRequest(consumer_id=person.id), metadata=self.as_service)
        async for event in stream:
            if event.HasField("update"):
                self.show(person, event.update)

    # --- telling ------------------------------------------------------------------------------------------------------

    def chapter(self, text: str) -> None:
        print(f"\n{text}")

    def say(self, text: str) -> None:
        print(f"  {time.monotonic() - self._started:6.2f} s  {text}")

    def show(self, person: Person, balance: Balance) -> None:
        units, micros = divmod(balance.available_micros, UNIT)
        self.say(f"      ~ {person.name}: {units}.{micros:06d} {balance.asset}, version {balance.version}")

    def check(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise WrongFigure(f"{what}: {found}, and it should be {expected}")
        self.say(f"{what}: {found}  ✓")


def usdc(micros: int) -> Money:
    return Money(asset="USDC", micros=micros)


def bearer(token: str) -> grpc.aio.Metadata:
    return grpc.aio.Metadata(("authorization", f"Bearer {token}"))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in the error's details, which is what programs go by."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return error.code().name
