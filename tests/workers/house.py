"""A whole settlement side around one rail: workers, ledger writer, consumers with addresses from the real pool.

The same house stands on the simulated chain, where a test moves the time and the workers step by step, and on a real
Tempo node, where they run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import insert, select, text

from domain.clock import Clock, Entropy
from domain.commands import Command, NewItem, Request
from domain.errors import WalletError
from domain.identity import FEE_PAYER, OPERATOR, ConsumerId, ItemId, TransactionId, body_hash, request_key
from domain.ledger_state import Applied
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account
from domain.settlement import ItemState, Rail
from providers.base import ChainReader, Faucet, SettlementProvider, Signer
from server.ledger_writer import LedgerWriter
from server.workers.chores import AddressPool, FeeSweeper
from server.workers.reconciliation import Proof, Reconciliation
from server.workers.settlement import CHAIN, SettlementPace, SettlementWorker
from server.workers.watcher import Watcher, WatchPace
from storage import addresses, balances, custody
from storage.custody import Position, TempoAddress
from storage.database import Engine, create_engine
from storage.schema import breaks, settlement_items, stablecoin_balances, wallets

UNIT = 1_000_000
FEE = 100


class RailParts(Protocol):
    """What a house needs of a rail, simulated or real."""

    @property
    def provider(self) -> SettlementProvider: ...
    @property
    def reader(self) -> ChainReader: ...
    @property
    def signer(self) -> Signer: ...
    @property
    def faucet(self) -> Faucet: ...


class Outside(Protocol):
    """What a worker uses, as one process sees it."""

    @property
    def engine(self) -> Engine: ...
    @property
    def writer(self) -> LedgerWriter: ...
    @property
    def provider(self) -> SettlementProvider: ...
    @property
    def reader(self) -> ChainReader: ...


@dataclass(frozen=True)
class _Here:
    engine: Engine
    writer: LedgerWriter
    provider: SettlementProvider
    reader: ChainReader


def payment(
    entropy: Entropy, sender: UUID, recipient: UUID, micros: int, *, asset: Asset = Asset.USDC, fee: int = FEE
) -> Command:
    """A transfer as the service builds it."""
    postings = [Posting(available(sender), available(recipient), asset, micros)]
    if fee:
        postings.append(Posting(available(sender), operator_account(AccountKind.FEES), asset, fee))
    request_id = str(entropy.uuid7())
    transaction = Transaction(
        id=TransactionId(entropy.uuid7()),
        kind=TransactionKind.TRANSFER,
        consumer_id=sender,
        counterparty_id=recipient,
        asset=asset,
        micros=micros,
        fee_micros=fee,
        caller="consumer",
        request_id=request_id,
    )
    item = NewItem(id=ItemId(entropy.uuid7()), sender=sender, recipient=recipient, asset=asset, micros=micros)
    key = request_key(caller="consumer", request_id=request_id)
    return Command(
        transactions=(transaction,),
        postings=(tuple(postings),),
        request=Request(sender, key, body_hash("Transfer", str(recipient), asset, micros), request_id),
        sender=sender,
        limit_usd_micros=micros,
        items=(item,),
    )


@dataclass
class House:
    """The parts, and short words for what tests do with them."""

    engine: Engine
    writer: LedgerWriter
    rail: RailParts
    clock: Clock
    entropy: Entropy
    pace: SettlementPace = field(default_factory=SettlementPace)

    def __post_init__(self) -> None:
        self.settlement = self.new_settlement_worker()
        self.watcher = self.new_watcher()
        self.reconciliation = Reconciliation(
            engine=self.engine,
            writer=self.writer,
            reader=self.rail.reader,
            chain=CHAIN,
            clock=self.clock,
            entropy=self.entropy,
        )
        self.pool = AddressPool(
            engine=self.engine, signer=self.rail.signer, clock=self.clock, entropy=self.entropy, target=8, chunk=16
        )

    def new_settlement_worker(self, outside: Outside | None = None) -> SettlementWorker:
        """Another settlement worker, in the same process or in one that sees the outside in its own way."""
        outside = outside or self.outside
        return SettlementWorker(
            engine=outside.engine,
            writer=outside.writer,
            provider=outside.provider,
            reader=outside.reader,
            operator_address=self.rail.signer.operator_address,
            clock=self.clock,
            entropy=self.entropy,
            pace=self.pace,
        )

    def new_watcher(
        self,
        outside: Outside | None = None,
        *,
        start_block: int | None = None,
        pace: WatchPace | None = None,
        woken: asyncio.Event | None = None,
    ) -> Watcher:
        outside = outside or self.outside
        return Watcher(
            engine=outside.engine,
            writer=outside.writer,
            reader=outside.reader,
            rail=Rail.TEMPO,
            chain=CHAIN,
            clock=self.clock,
            entropy=self.entropy,
            start_block=start_block,
            pace=pace or WatchPace(),
            woken=woken,
        )

    @property
    def outside(self) -> Outside:
        return _Here(self.engine, self.writer, self.rail.provider, self.rail.reader)

    async def furnish(self) -> None:
        """What the worker process does before its workers run; the watcher has its place to begin."""
        async with self.engine.begin() as tx:
            now = self.clock.now()
            await addresses.add_operator(tx, OPERATOR, self.rail.signer.operator_address, now=now)
            await addresses.add_operator(tx, FEE_PAYER, self.rail.signer.fee_payer_address, now=now)
        await self.watcher.step()

    async def open_wallets(self, count: int, *, kyc_level: int = 3) -> list[ConsumerId]:
        """Consumers as onboarding leaves them, at addresses of the pool, without the persons."""
        while await self.pool.fill():
            pass
        async with self.engine.begin() as tx:
            taken = [address for address in [await addresses.take_free(tx) for _ in range(count)] if address]
            assert len(taken) == count, "the pool is too small for this test"
            now = self.clock.now()
            rows = [
                {
                    "consumer_id": address.holder_id,
                    "tempo_address": address.address,
                    "derivation_index": address.index,
                    "kyc_level": kyc_level,
                    "usage_day": now.date(),
                    "created_at": now,
                }
                for address in taken
            ]
            await tx.execute(insert(wallets), rows)
            consumers = [ConsumerId(address.holder_id) for address in taken]
            empty = [{"consumer_id": c, "asset": asset, "changed_at": now} for c in consumers for asset in Asset]
            await tx.execute(insert(stablecoin_balances), empty)
        return consumers

    async def address(self, consumer: UUID) -> TempoAddress:
        async with self.engine.connect() as tx:
            return (await custody.addresses_of(tx, [consumer]))[consumer]

    async def fund(self, consumer: UUID, micros: int, asset: Asset = Asset.USDC) -> str:
        """Money from outside, on the chain; the watcher has yet to see it."""
        return await self.rail.faucet.fund((await self.address(consumer)).address, asset, micros)

    async def pay(self, sender: UUID, recipient: UUID, micros: int, asset: Asset = Asset.USDC) -> ItemId:
        """A transfer that must be applied; the id of its settlement item."""
        command = payment(self.entropy, sender, recipient, micros, asset=asset)
        outcome = await self.writer.submit(command)
        assert isinstance(outcome, Applied), outcome
        return command.items[0].id

    async def try_to_pay(self, sender: UUID, recipient: UUID, micros: int) -> WalletError | None:
        """A transfer that may be refused, and why it was."""
        outcome = await self.writer.submit(payment(self.entropy, sender, recipient, micros))
        return None if isinstance(outcome, Applied) else outcome.error

    async def available(self, consumer: UUID, asset: Asset = Asset.USDC) -> int:
        async with self.engine.connect() as tx:
            return (await balances.of_consumers(tx, [consumer]))[consumer, asset].available_micros

    async def position(self, holder: UUID, asset: Asset = Asset.USDC) -> Position | None:
        async with self.engine.connect() as tx:
            return (await custody.positions(tx, Rail.TEMPO, [(holder, asset)])).get((holder, asset))

    async def item(self, item_id: UUID) -> Any:
        async with self.engine.connect() as tx:
            return (await tx.execute(select(settlement_items).where(settlement_items.c.id == item_id))).one()

    async def items(self) -> list[Any]:
        async with self.engine.connect() as tx:
            return list(await tx.execute(select(settlement_items).order_by(settlement_items.c.id)))

    async def states(self) -> list[str]:
        return sorted({row.state for row in await self.items()})

    async def breaks(self) -> list[str]:
        async with self.engine.connect() as tx:
            return [row.kind for row in await tx.execute(select(breaks).order_by(breaks.c.found_at))]

    async def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Plain SQL, for what a test does behind the workers' backs."""
        async with self.engine.begin() as tx:
            result = await tx.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    async def prove(self) -> Proof:
        return await self.reconciliation.prove()

    async def prove_clean(self) -> Proof:
        """A proof with nothing to say against, down to `balanceOf` (money rules 14, 16 and 17)."""
        proof = await self.prove()
        differences = {equation.name: equation.differences for equation in proof.equations if equation.differences}
        assert proof.clean, (differences, proof.ledger_sums, proof.chain_note)
        return proof

    async def sweep_fees(self, threshold_micros: int = 1) -> int:
        sweeper = FeeSweeper(
            engine=self.engine,
            writer=self.writer,
            clock=self.clock,
            entropy=self.entropy,
            threshold_micros=threshold_micros,
        )
        return await sweeper.sweep()


@asynccontextmanager
async def house_of(
    url: str, rail: RailParts, *, clock: Clock, entropy: Entropy, pace: SettlementPace | None = None, **options: Any
) -> AsyncIterator[House]:
    """A furnished house on the database, until the block ends. `options` are the ledger writer's."""
    async with AsyncExitStack() as stack:
        engine = create_engine(url)
        stack.push_async_callback(engine.dispose)
        writer = LedgerWriter(database_url=url, clock=clock, entropy=entropy, **options)
        stop = asyncio.Event()
        running = asyncio.create_task(writer.run(stop))

        async def end() -> None:
            stop.set()
            await running

        stack.push_async_callback(end)
        house = House(engine, writer, rail, clock, entropy, pace or SettlementPace())
        await house.furnish()
        yield house


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """Workers at work until the block ends; then each leaves at its clean point."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(part.run(stop))
        try:
            yield
        finally:
            stop.set()


async def until(condition: Any, *, seconds: float = 30.0, every: float = 0.05) -> None:
    """Wait in real time for an asynchronous condition."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(every)


def final(rows: Sequence[Any]) -> bool:
    """Whether no item is on its way any more."""
    return all(row.state in (ItemState.CONFIRMED, ItemState.FAILED, ItemState.BLOCKED) for row in rows)
