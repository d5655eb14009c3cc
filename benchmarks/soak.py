"""`make soak`: mixed load with faults against the servers of `make run`, for as long as you like.

People pay each other, in batches and alone, swap, withdraw, read and watch, at a pace that leaves the machine room to
breathe. Meanwhile one of the things that the wallet leans on stops every now and then: the chain, the cache, Circle.
At the end everything has to have settled, the proof has to be clean, no call may have failed for a reason of the
wallet's own, and the memory of its processes must not go on growing.

    make soak MINUTES=30
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import uuid4

from benchmarks.processes import Process, descendants
from monay.wallet import WalletClient, WalletError, connect
from monay.wallet.v1.messages import (
    Balance,
    BatchTransferItem,
    BatchTransferRequest,
    FaucetRequest,
    GetBalanceRequest,
    GetLedgerProofRequest,
    GetPortfolioRequest,
    ListTransactionsRequest,
    Money,
    OnboardRequest,
    QuoteSwapRequest,
    Recipient,
    SwapRequest,
    TransferRequest,
    WithdrawRequest,
)
from sandbox.component import Refused
from sandbox.endpoints import Endpoints, data_folder
from sandbox.keys import DevelopmentKeys
from sandbox.token import ALL_SERVICE_SCOPES, SCOPES, Claims, development_token

PEOPLE = 40
GIFT = Money(asset="USDC", micros=800_000_000)
WATCHERS = 10
SAMPLE_SECONDS = 5.0
SETTLE_SECONDS = 240.0
FAULT_SECONDS = 12.0
# What says that the wallet itself is at fault; everything else has a reason that its caller can act upon.
OUR_FAULTS = frozenset({"INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS"})
# More than this is a leak: an hour at this slope is what a process may differ by anyway.
GROWTH_LIMIT_KIB_PER_MINUTE = 256.0
# A slope over less says nothing: caches fill, pools open.
LEAST_MINUTES = 10.0

# Programs that are stopped for a while, by what their command lines hold.
FAULTS = {"the chain": "anvil", "the cache": "valkey-server", "Circle": "sandbox.circle"}


Answer = TypeVar("Answer")


@dataclass
class Soak:
    """One run."""

    wallet: WalletClient
    operator: WalletClient
    root: int
    """The process of `make run`; everything it started is below it."""
    people: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    updates: int = 0

    async def run(self, *, seconds: float, rate: float, fault_every: float) -> None:
        """Fund the people, then load, faults, watching and sampling side by side."""
        await self._people_join()
        end = time.monotonic() + seconds
        tasks = [self._sample(end), self._break_things(end, fault_every)]
        watching = [asyncio.create_task(self._watch(person)) for person in self.people[:WATCHERS]]
        try:
            await asyncio.gather(self._load(end, rate), *tasks)
        finally:
            for task in watching:
                task.cancel()

    async def settled(self) -> bool:
        """Whether all that is on its way arrives in time."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            proof = await self.operator.operations.get_ledger_proof(GetLedgerProofRequest(refresh=True), timeout=60)
            if not any(total.in_settlement_micros for total in proof.ledger):
                for found in proof.breaks:
                    print(f"  break: {found}".replace("\n", " "))
                return bool(proof.clean)
            await asyncio.sleep(2)
        print("  something is still on its way")
        return False

    async def _people_join(self) -> None:
        for number in range(PEOPLE):
            phone = f"+1415{random.randrange(2_000_000, 9_999_999)}"
            newcomer = OnboardRequest(email=f"soak{number}.{uuid4().hex[:10]}@example.com", phone=phone)
            joined = await _patiently(partial(self.wallet.onboard, newcomer))
            self.people.append(joined.consumer.id)
        for person in self.people:
            await self.wallet.sandbox.faucet(FaucetRequest(consumer_id=person, amount=GIFT), timeout=60)
        while not await self._funded():  # noqa: ASYNC110
            await asyncio.sleep(0.5)

    async def _funded(self) -> bool:
        last = await self.wallet.get_balance(GetBalanceRequest(consumer_id=self.people[-1], asset="USDC"))
        return last.balances[0].available_micros >= GIFT.micros

    async def _load(self, end: float, rate: float) -> None:
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "transfer": self._transfer,
            "batch": self._batch,
            "swap": self._swap,
            "withdrawal": self._withdrawal,
            "balance": lambda: self.wallet.get_balance(GetBalanceRequest(consumer_id=self._one())),
            "portfolio": lambda: self.wallet.get_portfolio(GetPortfolioRequest(consumer_id=self._one())),
            "history": lambda: self.wallet.list_transactions(ListTransactionsRequest(consumer_id=self._one())),
        }
        weights = [60, 4, 2, 2, 20, 6, 6]
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < end:
                name = random.choices(list(acts), weights)[0]
                tasks.create_task(self._act(name, acts[name]))
                await asyncio.sleep(random.expovariate(rate))

    async def _act(self, name: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except WalletError as error:
            self.refused[error.reason_name or error.code.name] += 1
        else:
            self.done[name] += 1

    def _one(self) -> str:
        return random.choice(self.people)

    async def _transfer(self) -> None:
        payer, payee = random.sample(self.people, 2)
        amount = Money(asset="USDC", micros=random.randrange(1, 1_000_000))
        order = TransferRequest(consumer_id=payer, recipient=Recipient(consumer_id=payee), amount=amount)
        await self.wallet.transfer(order)

    async def _batch(self) -> None:
        payer, *payees = random.sample(self.people, 9)
        items = [
            BatchTransferItem(recipient=Recipient(consumer_id=payee), amount=Money(asset="USDC", micros=1_000))
            for payee in payees
        ]
        await self.wallet.batch_transfer(BatchTransferRequest(consumer_id=payer, items=items))

    async def _swap(self) -> None:
        person = self._one()
        sell = Money(asset="USDC", micros=random.randrange(1_000_000, 3_000_000))
        quote = await self.wallet.quote_swap(QuoteSwapRequest(consumer_id=person, sell=sell, buy_asset="EURC"))
        await self.wallet.swap(SwapRequest(consumer_id=person, quote_id=quote.quote.id))

    async def _withdrawal(self) -> None:
        somewhere = "0x" + os.urandom(20).hex()
        amount = Money(asset="USDC", micros=random.randrange(1_000, 100_000))
        await self.wallet.withdraw(WithdrawRequest(consumer_id=self._one(), amount=amount, address=somewhere))

    async def _watch(self, person: str) -> None:
        async def heard(_: Balance) -> None:
            self.updates += 1

        await self.wallet.watch_balances(heard, consumer_id=person)

    async def _sample(self, end: float) -> None:
        while time.monotonic() < end:
            for process in self._servers():
                self.memory.setdefault(process.command, []).append((time.monotonic(), process.resident_bytes()))
            await asyncio.sleep(SAMPLE_SECONDS)

    def _servers(self) -> list[Process]:
        return [one for one in descendants(self.root) if "-m server" in one.command and "--supervised" in one.command]

    async def _break_things(self, end: float, every: float) -> None:
        for number in range(10**6):
            await asyncio.sleep(min(every, max(0.0, end - time.monotonic())))
            if time.monotonic() + FAULT_SECONDS > end:
                return
            name = list(FAULTS)[number % len(FAULTS)]
            stopped = [one.pid for one in descendants(self.root) if FAULTS[name] in one.command]
            print(f"  {name} stops for {FAULT_SECONDS:.0f} s", flush=True)
            _signal(stopped, signal.SIGSTOP)
            try:
                await asyncio.sleep(FAULT_SECONDS)
            finally:
                _signal(stopped, signal.SIGCONT)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


async def _patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Addresses are derived ahead, a few at a time: who comes too early comes again."""
    for _ in range(60):
        try:
            return await call()
        except WalletError as error:
            if error.reason_name != "ADDRESS_POOL_EMPTY":
                raise
            await asyncio.sleep(1)
    raise Refused("There are no addresses for new consumers.")


def slope_kib_per_minute(samples: Sequence[tuple[float, int]]) -> float:
    """The least-squares slope of the later two thirds: a process fills its caches first."""
    late = samples[len(samples) // 3 :]
    if len(late) < 3:
        return 0.0
    mean_time = sum(at for at, _ in late) / len(late)
    mean_size = sum(size for _, size in late) / len(late)
    spread = sum((at - mean_time) ** 2 for at, _ in late)
    return sum((at - mean_time) * (size - mean_size) for at, size in late) / spread * 60 / 1024


async def _soak(endpoints: Endpoints, *, seconds: float, rate: float, fault_every: float) -> bool:
    keys = DevelopmentKeys(data_folder() / "keys")
    service = Claims(subject="soak", token_use="service", scope=ALL_SERVICE_SCOPES)
    operator = Claims(subject="soak-operator", token_use="operator", scope=SCOPES["operator"])
    async with (
        connect(endpoints.grpc, lambda: development_token(keys, service), tls=False) as wallet,
        connect(endpoints.grpc, lambda: development_token(keys, operator), tls=False) as operations,
    ):
        soak = Soak(wallet, operations, endpoints.pid)
        await soak.run(seconds=seconds, rate=rate, fault_every=fault_every)
        clean = await soak.settled()
    return _told(soak, clean=clean)


def _told(soak: Soak, *, clean: bool) -> bool:
    """Print what was found; whether all is well."""
    print(f"done: {dict(soak.done)}; updates seen: {soak.updates}")
    print(f"refused: {dict(soak.refused)}")
    fine = clean and OUR_FAULTS.isdisjoint(soak.refused)
    for command, samples in soak.memory.items():
        slope, minutes = slope_kib_per_minute(samples), (samples[-1][0] - samples[0][0]) / 60
        grows = minutes >= LEAST_MINUTES and slope > GROWTH_LIMIT_KIB_PER_MINUTE
        fine = fine and not grows
        name = command.partition("-m ")[2]
        last = samples[-1][1] / 2**20
        print(f"memory of {name}: {last:.0f} MiB, {slope:+.0f} KiB a minute{', GROWS' if grows else ''}")
    print("everything settled, the proof is clean" if clean else "NOT everything settled, or the proof is not clean")
    return fine


def main() -> int:
    """Run; 1 if something was not as it has to be."""
    parser = argparse.ArgumentParser(prog="make soak", description="Mixed load with faults.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=20, help="calls a second")
    parser.add_argument("--fault-every", type=float, default=60, help="seconds between two faults")
    options = parser.parse_args()
    try:
        fine = asyncio.run(
            _soak(Endpoints.read(), seconds=options.minutes * 60, rate=options.rate, fault_every=options.fault_every)
        )
    except Refused as refusal:
        print(f"make soak: {refusal}", file=sys.stderr)
        return 1
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
