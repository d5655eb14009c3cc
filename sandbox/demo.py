"""`make demo`: the story of the wallet against the servers of `make run`, narrated, with every figure checked.

Two people are onboarded, money arrives from the chain, one pays the other, refusals change nothing, settlement is
followed into its block; then handles, payment requests, a batch, a swap and a withdrawal; then Tempo is taken away and
comes back; and at the end the proof says that every balance is backed. It ends with 0 only if every figure was right.
"""

from __future__ import annotations

import asyncio
import sys
import time
from uuid import uuid4

import grpc

from monay.wallet.v1.consumer_pb2 import GetLimitsRequest, SetHandleRequest
from monay.wallet.v1.operations_service_pb2 import GetLedgerProofRequest
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from monay.wallet.v1.transaction_pb2 import ListTransactionsRequest, SettlementState
from monay.wallet.v1.transfer_pb2 import (
    BatchTransferItem,
    BatchTransferRequest,
    CreatePaymentRequestRequest,
    PayPaymentRequestRequest,
    QuoteSwapRequest,
    Recipient,
    SwapRequest,
    TransferRequest,
    TransferResponse,
    WithdrawRequest,
)
from sandbox.component import Refused
from sandbox.endpoints import Endpoints, data_folder
from sandbox.keys import DevelopmentKeys
from sandbox.narrator import CALL_SECONDS, SETTLE_SECONDS, UNIT, Narrator, Person, WrongFigure, reason_of, usdc
from sandbox.outage import tempo_is_taken_away

FEE_MICROS = 100


class Story(Narrator):
    """Tells and checks, chapter by chapter."""

    def __init__(self, channel: grpc.aio.Channel, keys: DevelopmentKeys, endpoints: Endpoints) -> None:
        super().__init__(channel, keys)
        self._endpoints = endpoints

    async def tell(self) -> None:
        """The whole story."""
        self.chapter("Two people join. No network is asked: their addresses were derived ahead.")
        ann, ben = await self.join("Ann"), await self.join("Ben")
        async with self.live(ann), self.live(ben):
            await self._money_arrives(ann)
            payment = await self._ann_pays_ben(ann, ben)
            await self._said_twice(ann, ben, payment)
            await self._refusals(ann, ben)
            await self._many_small_ones(ann, ben)
            await self._into_the_block(ann, payment)
        await self._histories(ann, ben)
        await self._by_handle_and_by_request(ann, ben)
        await self._a_batch(ann, ben)
        await self._a_swap(ann)
        await self._money_leaves(ann)
        if self._endpoints.tempo_pid and self._endpoints.circle_url:
            async with self.live(ann), self.live(ben):
                await tempo_is_taken_away(self, ann, ben, node=self._endpoints.tempo_pid)
        await self._proof()

    # --- chapters -----------------------------------------------------------------------------------------------------

    async def _money_arrives(self, ann: Person) -> None:
        self.chapter("Somebody outside sends Ann 500 USDC on the chain. The wallet was not told; it sees the block.")
        gift = FaucetRequest(consumer_id=ann.id, request_id=str(uuid4()), amount=usdc(500 * UNIT))
        paid = await self.sandbox.Faucet(gift, metadata=self.as_service, timeout=CALL_SECONDS)
        self.say(f"paid by chain transaction {paid.chain_transaction_hash}")
        await self.until_available(ann, 500 * UNIT)

    async def _ann_pays_ben(self, ann: Person, ben: Person) -> TransferResponse:
        self.chapter("Ann pays Ben 12.50 USDC. The answer comes after one durable commit, and waits for no chain.")
        began = time.monotonic()
        answer = await self.transfer(ann, ben, 12_500_000, request_id=str(uuid4()), memo="Dinner")
        self.say(f"done in {(time.monotonic() - began) * 1000:.1f} ms: transaction {answer.transaction.id}")
        self.check("the fee", answer.fee.micros, FEE_MICROS)
        self.check("Ann's balance", answer.balance.available_micros, 500 * UNIT - 12_500_000 - FEE_MICROS)
        self.check("Ben's balance", await self.available(ben), 12_500_000)
        return answer

    async def _said_twice(self, ann: Person, ben: Person, payment: TransferResponse) -> None:
        self.chapter("The answer got lost, so Ann's phone asks again with the same request id.")
        request_id = payment.transaction.request_id
        again = await self.transfer(ann, ben, 12_500_000, request_id=request_id, memo="Dinner")
        self.check("replayed", int(again.replayed), 1)
        self.check("the same transaction", again.transaction.id, payment.transaction.id)
        self.check("Ben's balance", await self.available(ben), 12_500_000)
        reason = await self.refused(ann, ben, 1_000_000, request_id=request_id)
        self.check("the same id for something else", reason, "IDEMPOTENCY_KEY_REUSED")

    async def _refusals(self, ann: Person, ben: Person) -> None:
        self.chapter("What is not possible is refused with its reason, and nothing changes.")
        before = await self.available(ann), await self.available(ben)
        stranger = Person("nobody", str(uuid4()), "")
        for what, who, to, micros, expected in (
            ("more than Ben has", ben, ann, 400 * UNIT, "INSUFFICIENT_FUNDS"),
            ("more than a day's limit", ann, ben, 1_001 * UNIT, "LIMIT_EXCEEDED"),
            ("to herself", ann, ann, UNIT, "SELF_TRANSFER"),
            ("to nobody", ann, stranger, UNIT, "RECIPIENT_NOT_FOUND"),
        ):
            self.check(what, await self.refused(who, to, micros, request_id=str(uuid4())), expected)
        self.check("balances as before", (await self.available(ann), await self.available(ben)), before)
        limits = await self.wallet.GetLimits(
            GetLimitsRequest(consumer_id=ann.id), metadata=self.as_service, timeout=CALL_SECONDS
        )
        self.say(f"Ann's limits now: {str(limits).replace(chr(10), ' ')[:110]} …")

    async def _many_small_ones(self, ann: Person, ben: Person) -> None:
        self.chapter("Forty small payments at once, there and back. They share commits, and later chain transactions.")
        before = await self.available(ann), await self.available(ben)
        began = time.monotonic()
        orders = [(ann, ben, 10_000 + n) if n % 2 else (ben, ann, 10_000 + n) for n in range(40)]
        await asyncio.gather(*(self.transfer(a, b, micros, request_id=str(uuid4())) for a, b, micros in orders))
        self.say(f"all answered in {(time.monotonic() - began) * 1000:.0f} ms")
        moved = sum(micros if payer is ann else -micros for payer, _, micros in orders)
        self.check("Ann", await self.available(ann), before[0] - moved - 20 * FEE_MICROS)
        self.check("Ben", await self.available(ben), before[1] + moved - 20 * FEE_MICROS)

    async def _into_the_block(self, ann: Person, payment: TransferResponse) -> None:
        self.chapter("Meanwhile the first payment becomes true on the chain.")
        seen = ""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            settlement = await self.settlement(ann, payment.transaction.id)
            name = SettlementState.Name(settlement.state).removeprefix("SETTLEMENT_STATE_")
            if name != seen:
                self.say(f"settlement is {name}")
                seen = name
            if settlement.state == SettlementState.SETTLEMENT_STATE_CONFIRMED:
                self.say(
                    f"in block {settlement.block_number}, log {settlement.log_index}, chain transaction "
                    f"{settlement.chain_transaction_hash}, network fee {settlement.network_fee.micros} micros "
                    f"{settlement.network_fee.asset}"
                )
                return
            await asyncio.sleep(0.1)
        raise WrongFigure(f"the payment was still {seen} after {SETTLE_SECONDS:.0f} s")

    async def _histories(self, ann: Person, ben: Person) -> None:
        self.chapter("Both histories, page by page.")
        for person in (ann, ben):
            count, token = 0, ""
            while True:
                page = await self.wallet.ListTransactions(
                    ListTransactionsRequest(consumer_id=person.id, page_size=15, page_token=token),
                    metadata=self.as_service,
                    timeout=CALL_SECONDS,
                )
                count, token = count + len(page.transactions), page.next_page_token
                if not token:
                    break
            self.check(f"{person.name}'s transactions", count, 42 if person is ann else 41)

    async def _by_handle_and_by_request(self, ann: Person, ben: Person) -> None:
        self.chapter("Ben takes a handle, and asks Ann for 3 USDC; she pays what he asked for.")
        handle = f"ben_{uuid4().hex[:8]}"
        await self.ask("SetHandle", SetHandleRequest(consumer_id=ben.id, handle=f"@{handle}"))
        paid = TransferRequest(
            consumer_id=ann.id, request_id=str(uuid4()), recipient=Recipient(handle=handle), amount=usdc(UNIT)
        )
        before = await self.available(ben)
        await self.ask("Transfer", paid)
        self.check(f"@{handle} has received", await self.available(ben) - before, UNIT)
        wish = CreatePaymentRequestRequest(
            consumer_id=ben.id, request_id=str(uuid4()), payer=Recipient(consumer_id=ann.id), amount=usdc(3 * UNIT)
        )
        asked = await self.ask("CreatePaymentRequest", wish)
        pay = PayPaymentRequestRequest(
            consumer_id=ann.id, request_id=str(uuid4()), payment_request_id=asked.payment_request.id
        )
        await self.ask("PayPaymentRequest", pay)
        self.check("and what he asked for", await self.available(ben) - before, 4 * UNIT)

    async def _a_batch(self, ann: Person, ben: Person) -> None:
        self.chapter("Ann pays four people at once: all or nothing, for one fee.")
        people = [ben, *[await self.join(name) for name in ("Cleo", "Dan", "Eve")]]
        items = [
            BatchTransferItem(recipient=Recipient(consumer_id=person.id), amount=usdc(UNIT + n))
            for n, person in enumerate(people)
        ]
        before = await self.available(ann)
        batch = await self.ask(
            "BatchTransfer", BatchTransferRequest(consumer_id=ann.id, request_id=str(uuid4()), items=items)
        )
        self.check("transfers", len(batch.transactions), 4)
        self.check("the one fee", batch.fee.micros, FEE_MICROS)
        self.check("Ann has paid", before - await self.available(ann), 4 * UNIT + 6 + FEE_MICROS)

    async def _a_swap(self, ann: Person) -> None:
        self.chapter("Ann swaps 20 USDC into EURC, at a price that is quoted first and then kept.")
        wanted = QuoteSwapRequest(consumer_id=ann.id, sell=usdc(20 * UNIT), buy_asset="EURC")
        quote = (await self.ask("QuoteSwap", wanted)).quote
        self.say(f"offered {quote.buy.micros} micros EURC, of which the spread took {quote.spread.micros}")
        before = await self.available(ann), await self.available(ann, "EURC")
        await self.ask("Swap", SwapRequest(consumer_id=ann.id, request_id=str(uuid4()), quote_id=quote.id))
        self.check("USDC given", before[0] - await self.available(ann), 20 * UNIT)
        self.check("EURC received", await self.available(ann, "EURC") - before[1], quote.buy.micros)

    async def _money_leaves(self, ann: Person) -> None:
        self.chapter("Ann withdraws 5 USDC to an address outside. It is held until the chain has paid it.")
        outside = f"0x{uuid4().hex}{uuid4().hex[:8]}"
        order = WithdrawRequest(consumer_id=ann.id, request_id=str(uuid4()), amount=usdc(5 * UNIT), address=outside)
        answer = await self.ask("Withdraw", order)
        self.say(f"route: {answer.route.provider}, fee {answer.fee.micros}, held {answer.balance.held_micros}")
        state = await self.until_final(ann, answer.transaction.id)
        self.check("the withdrawal", state, "TRANSACTION_STATE_COMPLETED")

    async def _proof(self) -> None:
        self.chapter("Everything settles, and then the books are proven, against themselves and against the chain.")
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            proof = await self.operations.GetLedgerProof(
                GetLedgerProofRequest(refresh=True), metadata=self.as_operator, timeout=CALL_SECONDS
            )
            waiting = sum(total.in_settlement_micros for total in proof.ledger)
            if not waiting or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        for total in proof.rails:
            self.say(
                f"{total.expected.asset:<5} on {total.rail}: books {total.expected.micros}, chain {total.found.micros}"
            )
        self.check("micros still on their way", waiting, 0)
        self.check("Σ of the ledger", [total.sum_micros for total in proof.ledger], [0] * len(proof.ledger))
        self.check("breaks", len(proof.breaks), 0)
        self.check("the proof is clean", proof.clean, True)


async def _tell(endpoints: Endpoints) -> None:
    async with grpc.aio.insecure_channel(endpoints.grpc) as channel:
        await Story(channel, DevelopmentKeys(data_folder() / "keys"), endpoints).tell()


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
        print(f"\nThe wallet refused: {error.code().name} {reason_of(error)}: {error.details()}", file=sys.stderr)
        return 1
    print("\nEvery figure was right.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
