"""How `make acceptance` speaks to a wallet, and what it notes of every call it makes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import GetBalanceRequest
from monay.wallet.v1.operations_service_pb2 import GetLedgerProofRequest, GetLedgerProofResponse
from monay.wallet.v1.operations_service_pb2_grpc import OperationsServiceStub
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from monay.wallet.v1.sandbox_service_pb2_grpc import SandboxServiceStub
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, Settlement, SettlementState, TransactionState
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest, TransferResponse
from sandbox.component import Refused
from sandbox.narrator import bearer, reason_of, usdc

CALL_SECONDS = 20.0
PATIENCE_SECONDS = 120.0
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass
class Client:
    """A backend service and an operator, as callers of one wallet."""

    channel: grpc.aio.Channel
    service_token: str
    operator_token: str
    funded: str | None = None
    calls: int = 0
    faults: int = 0
    """Answers that the wallet has to answer for: not those that refuse what cannot be."""
    seconds: list[float] = field(default_factory=list)
    """How long each transfer took, as the caller sees it."""

    def __post_init__(self) -> None:
        self._wallet = ConsumerWalletServiceStub(self.channel)
        self._operations = OperationsServiceStub(self.channel)
        self._sandbox = SandboxServiceStub(self.channel)

    async def ask(self, rpc: str, request: Message, *, stub: Any = None, token: str = "") -> Any:
        """One call, made again as an SDK would where the wallet was away or asked for patience."""
        call = getattr(stub or self._wallet, rpc)
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            self.calls += 1
            try:
                return await call(request, metadata=bearer(token or self.service_token), timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN or time.monotonic() > deadline:
                    self.faults += error.code() in (*AGAIN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
                    raise
                self.faults += error.code() is grpc.StatusCode.UNAVAILABLE
            await asyncio.sleep(0.2)

    async def operate(self, rpc: str, request: Message) -> Any:
        return await self.ask(rpc, request, stub=self._operations, token=self.operator_token)

    async def reason(self, rpc: str, request: Message) -> str:
        """Why it is refused; empty if it is not."""
        try:
            await self.ask(rpc, request)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return ""

    async def join(self) -> str:
        """A new consumer's id."""
        unique = uuid4().hex
        phone = f"+1415{int(unique[:6], 16) % 8_000_000 + 2_000_000:07d}"
        request = OnboardRequest(email=f"acceptance.{unique}@example.com", phone=phone, request_id=str(uuid4()))
        answer = await self.ask("Onboard", request)
        return str(answer.consumer.id)

    async def fund(self, consumer: str, micros: int) -> float:
        """Give somebody money; the seconds until it could be spent."""
        began = time.monotonic()
        before = await self.available(consumer)
        gift = FaucetRequest(consumer_id=consumer, request_id=str(uuid4()), amount=usdc(micros))
        try:
            await self.ask("Faucet", gift, stub=self._sandbox)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            if self.funded is None:
                raise Refused("There is no faucet at the target: name a consumer with money by --funded ID.") from None
            await self.transfer(self.funded, consumer, micros)
        while await self.available(consumer) < before + micros:
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Refused("The money for the acceptance did not arrive.")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def available(self, consumer: str, asset: str = "USDC") -> int:
        answer = await self.ask("GetBalance", GetBalanceRequest(consumer_id=consumer, asset=asset))
        return sum(balance.available_micros for balance in answer.balances)

    async def transfer(self, sender: str, recipient: str, micros: int) -> TransferResponse:
        """One transfer, timed."""
        request = order(sender, recipient, micros)
        began = time.monotonic()
        answer: TransferResponse = await self.ask("Transfer", request)
        self.seconds.append(time.monotonic() - began)
        return answer

    async def settled(self, consumer: str, transaction_id: str) -> Settlement:
        """The transfer's settlement, once it is final or patience has ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        request = GetTransactionRequest(consumer_id=consumer, transaction_id=transaction_id)
        while True:
            (settlement,) = (await self.ask("GetTransaction", request)).transaction.settlements
            found: Settlement = settlement
            if found.state == SettlementState.SETTLEMENT_STATE_CONFIRMED or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)

    async def completed(self, consumer: str, transaction_id: str) -> bool:
        """Whether a withdrawal completes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        request = GetTransactionRequest(consumer_id=consumer, transaction_id=transaction_id)
        while time.monotonic() < deadline:
            state = (await self.ask("GetTransaction", request)).transaction.state
            if state != TransactionState.TRANSACTION_STATE_PENDING:
                return bool(state == TransactionState.TRANSACTION_STATE_COMPLETED)
            await asyncio.sleep(0.2)
        return False

    async def proof(self) -> GetLedgerProofResponse:
        """A fresh proof, once everything has settled or patience has ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            proof: GetLedgerProofResponse = await self.operate("GetLedgerProof", GetLedgerProofRequest(refresh=True))
            waiting = sum(total.in_settlement_micros for total in proof.ledger)
            if (proof.clean and not waiting) or time.monotonic() > deadline:
                return proof
            await asyncio.sleep(0.5)


def order(sender: str, recipient: str, micros: int) -> TransferRequest:
    """A transfer with a request id of its own."""
    return TransferRequest(
        consumer_id=sender, request_id=str(uuid4()), recipient=Recipient(consumer_id=recipient), amount=usdc(micros)
    )
