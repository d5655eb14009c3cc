"""`make demo`: the story of the wallet against the servers of `make run`, narrated, with every figure checked.

Two people are onboarded, money arrives from the chain, one pays the other, refusals change nothing, settlement is
followed into its block, and the proof says that every balance is backed. It ends with 0 only if every figure was right.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from monay.wallet.v1.consumer_pb2 import GetLimitsRequest, OnboardRequest
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import Balance, GetBalanceRequest, Money, WatchBalancesRequest
from monay.wallet.v1.operations_service_pb2 import GetLedgerProofRequest
from monay.wallet.v1.operations_service_pb2_grpc import OperationsServiceStub
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from monay.wallet.v1.sandbox_service_pb2_grpc import SandboxServiceStub
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, ListTransactionsRequest, Settlement, SettlementState
from monay.wallet.v1.transfer_pb2 import Recipient, TransferRequest, TransferResponse
from sandbox.component import Refused
from sandbox.endpoints import Endpoints, data_folder
from sandbox.keys import DevelopmentKeys
from sandbox.token import ALL_SERVICE_SCOPES, SCOPES, Claims, development_token

UNIT = 1_000_000
FEE_MICROS = 100
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


class Story:
    """Tells and checks, chapter by chapter."""

    def __init__(self, channel: grpc.aio.Channel, keys: DevelopmentKeys) -> None:
        self._wallet = ConsumerWalletServiceStub(channel)
        self._operations = OperationsServiceStub(channel)
        self._sandbox = SandboxServiceStub(channel)
        service = Claims(subject="demo", token_use="service", scope=ALL_SERVICE_SCOPES)
        operator = Claims(subject="demo-operator", token_use="operator", scope=SCOPES["operator"])
        self._as_service = _bearer(development_token(keys, service))
        self._as_operator = _bearer(development_token(keys, operator))
        self._started = time.monotonic()

    async def tell(self) -> None:
        """The whole story."""
        self._chapter("Two people join. No network is asked: their addresses were derived ahead.")
        ann, ben = await self._join("Ann"), await self._join("Ben")
        async with self._live(ann), self._live(ben):
            await self._money_arrives(ann)
            payment = await self._ann_pays_ben(ann, ben)
            await self._said_twice(ann, ben, payment)
            await self._refusals(ann, ben)
            await self._many_small_ones(ann, ben)
            await self._into_the_block(ann, payment)
        await self._histories(ann, ben)
        await self._proof()

    # --- chapters -----------------------------------------------------------------------------------------------------

    async def _join(self, name: str) -> Person:
        number = int(uuid4().hex[:6], 16) % 8_000_000 + 2_000_000
        person = OnboardRequest(
            email=f"{name.lower()}.{uuid4().hex[:8]}@example.com", phone=f"+1415{number:07d}", full_name=name
        )
        answer = await self._wallet.Onboard(person, metadata=self._as_service, timeout=CALL_SECONDS)
        joined = Person(name, answer.consumer.id, answer.consumer.addresses[0].address)
        self._say(f"{name} is {joined.id}, at {joined.address} on Tempo")
        return joined

    async def _money_arrives(self, ann: Person) -> None:
        self._chapter("Somebody outside sends Ann 500 USDC on the chain. The wallet was not told; it sees the block.")
        gift = FaucetRequest(consumer_id=ann.id, request_id=str(uuid4()), amount=_usdc(500 * UNIT))
        paid = await self._sandbox.Faucet(gift, metadata=self._as_service, timeout=CALL_SECONDS)
        self._say(f"paid by chain transaction {paid.chain_transaction_hash}")
        await self._until_available(ann, 500 * UNIT)

    async def _ann_pays_ben(self, ann: Person, ben: Person) -> TransferResponse:
        self._chapter("Ann pays Ben 12.50 USDC. The answer comes after one durable commit, and waits for no chain.")
        began = time.monotonic()
        answer = await self._transfer(ann, ben, 12_500_000, request_id=str(uuid4()), memo="Dinner")
        self._say(f"done in {(time.monotonic() - began) * 1000:.1f} ms: transaction {answer.transaction.id}")
        self._check("the fee", answer.fee.micros, FEE_MICROS)
        self._check("Ann's balance", answer.balance.available_micros, 500 * UNIT - 12_500_000 - FEE_MICROS)
        self._check("Ben's balance", await self._available(ben), 12_500_000)
        return answer

    async def _said_twice(self, ann: Person, ben: Person, payment: TransferResponse) -> None:
        self._chapter("The answer got lost, so Ann's phone asks again with the same request id.")
        request_id = payment.transaction.request_id
        again = await self._transfer(ann, ben, 12_500_000, request_id=request_id, memo="Dinner")
        self._check("replayed", int(again.replayed), 1)
        self._check("the same transaction", again.transaction.id, payment.transaction.id)
        self._check("Ben's balance", await self._available(ben), 12_500_000)
        reason = await self._refused(ann, ben, 1_000_000, request_id=request_id)
        self._check("the same id for something else", reason, "IDEMPOTENCY_KEY_REUSED")

    async def _refusals(self, ann: Person, ben: Person) -> None:
        self._chapter("What is not possible is refused with its reason, and nothing changes.")
        before = await self._available(ann), await self._available(ben)
        stranger = Person("nobody", str(uuid4()), "")
        for what, who, to, micros, expected in (
            ("more than Ben has", ben, ann, 400 * UNIT, "INSUFFICIENT_FUNDS"),
            ("more than a day's limit", ann, ben, 1_001 * UNIT, "LIMIT_EXCEEDED"),
            ("to herself", ann, ann, UNIT, "SELF_TRANSFER"),
            ("to nobody", ann, stranger, UNIT, "RECIPIENT_NOT_FOUND"),
        ):
            self._check(what, await self._refused(who, to, micros, request_id=str(uuid4())), expected)
        self._check("balances as before", (await self._available(ann), await self._available(ben)), before)
        limits = await self._wallet.GetLimits(
            GetLimitsRequest(consumer_id=ann.id), metadata=self._as_service, timeout=CALL_SECONDS
        )
        self._say(f"Ann's limits now: {str(limits).replace(chr(10), ' ')[:110]} …")

    async def _many_small_ones(self, ann: Person, ben: Person) -> None:
        self._chapter("Forty small payments at once, there and back. They share commits, and later chain transactions.")
        before = await self._available(ann), await self._available(ben)
        began = time.monotonic()
        orders = [(ann, ben, 10_000 + n) if n % 2 else (ben, ann, 10_000 + n) for n in range(40)]
        await asyncio.gather(*(self._transfer(a, b, micros, request_id=str(uuid4())) for a, b, micros in orders))
        self._say(f"all answered in {(time.monotonic() - began) * 1000:.0f} ms")
        moved = sum(micros if payer is ann else -micros for payer, _, micros in orders)
        self._check("Ann", await self._available(ann), before[0] - moved - 20 * FEE_MICROS)
        self._check("Ben", await self._available(ben), before[1] + moved - 20 * FEE_MICROS)

    async def _into_the_block(self, ann: Person, payment: TransferResponse) -> None:
        self._chapter("Meanwhile the first payment becomes true on the chain.")
        seen = ""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            settlement = await self._settlement(ann, payment.transaction.id)
            name = SettlementState.Name(settlement.state).removeprefix("SETTLEMENT_STATE_")
            if name != seen:
                self._say(f"settlement is {name}")
                seen = name
            if settlement.state == SettlementState.SETTLEMENT_STATE_CONFIRMED:
                self._say(
                    f"in block {settlement.block_number}, log {settlement.log_index}, chain transaction "
                    f"{settlement.chain_transaction_hash}, network fee {settlement.network_fee.micros} micros "
                    f"{settlement.network_fee.asset}"
                )
                return
            await asyncio.sleep(0.1)
        raise WrongFigure(f"the payment was still {seen} after {SETTLE_SECONDS:.0f} s")

    async def _histories(self, ann: Person, ben: Person) -> None:
        self._chapter("Both histories, page by page.")
        for person in (ann, ben):
            count, token = 0, ""
            while True:
                page = await self._wallet.ListTransactions(
                    ListTransactionsRequest(consumer_id=person.id, page_size=15, page_token=token),
                    metadata=self._as_service,
                    timeout=CALL_SECONDS,
                )
                count, token = count + len(page.transactions), page.next_page_token
                if not token:
                    break
            self._check(f"{person.name}'s transactions", count, 42 if person is ann else 41)

    async def _proof(self) -> None:
        self._chapter("Everything settles, and then the books are proven, against themselves and against the chain.")
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            proof = await self._operations.GetLedgerProof(
                GetLedgerProofRequest(refresh=True), metadata=self._as_operator, timeout=CALL_SECONDS
            )
            waiting = sum(total.in_settlement_micros for total in proof.ledger)
            if not waiting or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        for total in proof.rails:
            self._say(
                f"{total.expected.asset:<5} on {total.rail}: books {total.expected.micros}, chain {total.found.micros}"
            )
        self._check("micros still on their way", waiting, 0)
        self._check("Σ of the ledger", [total.sum_micros for total in proof.ledger], [0] * len(proof.ledger))
        self._check("breaks", len(proof.breaks), 0)
        self._check("the proof is clean", proof.clean, True)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _transfer(
        self, payer: Person, payee: Person, micros: int, *, request_id: str, memo: str = ""
    ) -> TransferResponse:
        order = TransferRequest(
            consumer_id=payer.id,
            request_id=request_id,
            recipient=Recipient(consumer_id=payee.id),
            amount=_usdc(micros),
            memo=memo,
        )
        answer: TransferResponse = await self._wallet.Transfer(order, metadata=self._as_service, timeout=CALL_SECONDS)
        return answer

    async def _refused(self, payer: Person, payee: Person, micros: int, *, request_id: str) -> str:
        try:
            await self._transfer(payer, payee, micros, request_id=request_id)
        except grpc.aio.AioRpcError as error:
            return _reason(error)
        return "it was allowed"

    async def _available(self, person: Person) -> int:
        request = GetBalanceRequest(consumer_id=person.id, asset="USDC")
        answer = await self._wallet.GetBalance(request, metadata=self._as_service, timeout=CALL_SECONDS)
        return sum(balance.available_micros for balance in answer.balances if balance.asset == "USDC")

    async def _until_available(self, person: Person, micros: int) -> None:
        found = await self._available(person)
        for _ in range(int(SETTLE_SECONDS * 10)):
            if found == micros:
                break
            await asyncio.sleep(0.1)
            found = await self._available(person)
        self._check(f"{person.name}'s balance", found, micros)

    async def _settlement(self, person: Person, transaction_id: str) -> Settlement:
        request = GetTransactionRequest(consumer_id=person.id, transaction_id=transaction_id)
        answer = await self._wallet.GetTransaction(request, metadata=self._as_service, timeout=CALL_SECONDS)
        settlement: Settlement = answer.transaction.settlements[0]
        return settlement

    @asynccontextmanager
    async def _live(self, person: Person) -> AsyncIterator[None]:
        """A stream of the person's balances, told as they come."""
        watching = asyncio.create_task(self._watch(person))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, person: Person) -> None:
        stream = self._wallet.WatchBalances(WatchBalancesRequest(consumer_id=person.id), metadata=self._as_service)
        async for event in stream:
            if event.HasField("update"):
                self._show(person, event.update)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _chapter(self, text: str) -> None:
        print(f"\n{text}")

    def _say(self, text: str) -> None:
        print(f"  {time.monotonic() - self._started:6.2f} s  {text}")

    def _show(self, person: Person, balance: Balance) -> None:
        units, micros = divmod(balance.available_micros, UNIT)
        self._say(f"      ~ {person.name}: {units}.{micros:06d} {balance.asset}, version {balance.version}")

    def _check(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise WrongFigure(f"{what}: {found}, and it should be {expected}")
        self._say(f"{what}: {found}  ✓")


def _usdc(micros: int) -> Money:
    return Money(asset="USDC", micros=micros)


def _bearer(token: str) -> grpc.aio.Metadata:
    return grpc.aio.Metadata(("authorization", f"Bearer {token}"))


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The reason in the error's details, which is what programs go by."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return error.code().name


async def _tell(endpoints: Endpoints) -> None:
    async with grpc.aio.insecure_channel(endpoints.grpc) as channel:
        await Story(channel, DevelopmentKeys(data_folder() / "keys")).tell()


def main() -> int:
    """Tell the story; 1 if a figure was wrong or the wallet would not answer."""
    try:
        asyncio.run(_tell(Endpoints.read()))
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except WrongFigure as wrong:
        print(f"\nWRONG: {wrong}", file=sys.stderr)
        return 1
    except grpc.aio.AioRpcError as error:
        print(f"\nThe wallet refused: {error.code().name} {_reason(error)}: {error.details()}", file=sys.stderr)
        return 1
    print("\nEvery figure was right.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
