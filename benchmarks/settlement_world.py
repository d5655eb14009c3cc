"""Consumers with money on a real chain and a queue of transfers among them, for the measure of settlement."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import insert

from domain.clock import SystemClock, SystemEntropy
from domain.commands import Command, NewItem, Request
from domain.identity import FEE_PAYER, OPERATOR, ConsumerId, ItemId, TransactionId, body_hash, request_key
from domain.ledger_state import Applied
from domain.money import MICROS_PER_UNIT, Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account
from domain.settlement import Rail
from providers.base import Party, Preparation
from providers.tempo import TempoConfig, TempoRail, connect, contracts
from sandbox.tempo_tokens import SeededTokens, open_endpoint, run_calls
from server.ledger_writer import LedgerWriter
from server.workers.reconciliation import Proof, Reconciliation
from server.workers.settlement import CHAIN
from server.workers.watcher import Watcher
from storage import addresses, custody
from storage.database import Engine, create_engine
from storage.schema import stablecoin_balances, tempo_addresses, wallets

OPERATOR_KEY, FEE_PAYER_KEY, ACTIVE_SEED = (bytes([byte]) * 32 for byte in (0xC1, 0xC2, 0xC3))
MICROS_EACH = 10_000 * MICROS_PER_UNIT
_FUNDED_AT_ONCE = 80
_ACTIVATED_AT_ONCE = 64
_QUEUED_AT_ONCE = 500
_FEE = 100


@dataclass
class SettlementWorld:
    """The books before the worker process comes."""

    engine: Engine
    writer: LedgerWriter
    rail: TempoRail
    chain_url: str
    tokens: SeededTokens
    watcher: Watcher
    reconciliation: Reconciliation
    clock: SystemClock
    entropy: SystemEntropy
    parties: dict[ConsumerId, Party] = field(default_factory=dict)

    async def furnish(self, count: int) -> None:
        """Open the books, make consumers, fund them on the chain, and have their allowances granted."""
        async with self.engine.begin() as tx:
            now = self.clock.now()
            await addresses.add_operator(tx, OPERATOR, self.rail.signer.operator_address, now=now)
            await addresses.add_operator(tx, FEE_PAYER, self.rail.signer.fee_payer_address, now=now)
        await self.catch_up()
        derived = await self.rail.signer.derive_addresses(0, count)
        for index, address in enumerate(derived):
            self.parties[ConsumerId(self.entropy.uuid7())] = Party.consumer(address=address, index=index)
        await self._open_wallets()
        await self._fund(derived)
        await self._activate()

    async def catch_up(self) -> None:
        """Read the chain into the books up to its head."""
        while await self.watcher.step():
            pass

    async def _open_wallets(self) -> None:
        now = self.clock.now()
        rows = [
            {
                "consumer_id": consumer,
                "tempo_address": party.address,
                "derivation_index": party.index,
                "kyc_level": 3,
                "usage_day": now.date(),
                "created_at": now,
            }
            for consumer, party in self.parties.items()
        ]
        own = [
            {
                "address": party.address,
                "holder_id": consumer,
                "derivation_index": party.index,
                "state": "assigned",
                "created_at": now,
            }
            for consumer, party in self.parties.items()
        ]
        empty = [{"consumer_id": c, "asset": asset, "changed_at": now} for c in self.parties for asset in Asset]
        async with self.engine.begin() as tx:
            await tx.execute(insert(wallets), rows)
            await tx.execute(insert(tempo_addresses), own)
            await tx.execute(insert(stablecoin_balances), empty)

    async def _fund(self, derived: Sequence[str]) -> None:
        token = self.tokens.tokens[Asset.USDC]
        async with open_endpoint(self.chain_url) as endpoint:
            for start in range(0, len(derived), _FUNDED_AT_ONCE):
                calls = [
                    (token, contracts.transfer(to, MICROS_EACH)) for to in derived[start : start + _FUNDED_AT_ONCE]
                ]
                await run_calls(
                    endpoint, self.tokens.chain_id, calls, key=self.tokens.outside_key, gas=320_000 * len(calls)
                )
        await self.catch_up()

    async def _activate(self) -> None:
        parties = list(self.parties.values())
        for start in range(0, len(parties), _ACTIVATED_AT_ONCE):
            group = parties[start : start + _ACTIVATED_AT_ONCE]
            signed = await asyncio.gather(*(self.rail.provider.prepare_activation(p, [Asset.USDC]) for p in group))
            payloads = [s.attempt.payload for s in signed if isinstance(s, Preparation) and s.attempt is not None]
            assert len(payloads) == len(group), signed
            await asyncio.gather(*(self.rail.provider.submit(payload) for payload in payloads))
        while not await self._allowed([party.address for party in parties]):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        await self.catch_up()
        async with self.engine.begin() as tx:
            await custody.mark_activated(tx, Rail.TEMPO, [(consumer, Asset.USDC) for consumer in self.parties])

    async def _allowed(self, owners: Sequence[str]) -> bool:
        return all((await self.rail.reader.allowances(owners, Asset.USDC)).values())

    async def enqueue(self, count: int) -> None:
        """So many transfers between random consumers, decided by the ledger as any other."""
        commands = [self._transfer(*random.sample(list(self.parties), 2)) for _ in range(count)]
        for start in range(0, count, _QUEUED_AT_ONCE):
            part = commands[start : start + _QUEUED_AT_ONCE]
            outcomes = await asyncio.gather(*(self.writer.submit(command) for command in part))
            assert all(isinstance(outcome, Applied) for outcome in outcomes), outcomes

    def _transfer(self, sender: ConsumerId, recipient: ConsumerId) -> Command:
        micros = random.randint(1, MICROS_PER_UNIT)
        transaction = Transaction(
            id=TransactionId(self.entropy.uuid7()),
            kind=TransactionKind.TRANSFER,
            consumer_id=sender,
            counterparty_id=recipient,
            asset=Asset.USDC,
            micros=micros,
            fee_micros=_FEE,
        )
        postings = (
            Posting(available(sender), available(recipient), Asset.USDC, micros),
            Posting(available(sender), operator_account(AccountKind.FEES), Asset.USDC, _FEE),
        )
        sent_as = str(self.entropy.uuid7())
        return Command(
            transactions=(transaction,),
            postings=(postings,),
            request=Request(sender, request_key(caller="consumer", request_id=sent_as), body_hash("Transfer"), sent_as),
            sender=sender,
            items=(
                NewItem(
                    id=ItemId(self.entropy.uuid7()),
                    sender=sender,
                    recipient=recipient,
                    asset=Asset.USDC,
                    micros=micros,
                ),
            ),
        )

    async def prove(self) -> Proof:
        """A proof that has to be clean."""
        proof = await self.reconciliation.prove()
        assert proof.clean, proof.report()
        return proof


@asynccontextmanager
async def settlement_world(database_url: str, chain_url: str, tokens: SeededTokens) -> AsyncIterator[SettlementWorld]:
    """Everything but the worker process, until the block ends."""
    clock = SystemClock()
    entropy = SystemEntropy(clock)
    config = TempoConfig(
        rpc_urls=(chain_url,),
        chain_id=tokens.chain_id,
        tokens=tokens.tokens,
        operator_key=OPERATOR_KEY,
        fee_payer_key=FEE_PAYER_KEY,
        seed=ACTIVE_SEED,
    )
    rail = connect(config, clock=clock)
    engine = create_engine(database_url)
    writer = LedgerWriter(database_url=database_url, clock=clock, entropy=entropy)
    stop = asyncio.Event()
    running = asyncio.create_task(writer.run(stop))
    watcher = Watcher(
        engine=engine,
        writer=writer,
        reader=rail.reader,
        rail=Rail.TEMPO,
        chain=CHAIN,
        clock=clock,
        entropy=entropy,
    )
    reconciliation = Reconciliation(
        engine=engine, writer=writer, reader=rail.reader, chain=CHAIN, clock=clock, entropy=entropy
    )
    try:
        yield SettlementWorld(engine, writer, rail, chain_url, tokens, watcher, reconciliation, clock, entropy)
    finally:
        stop.set()
        await running
        await engine.dispose()
        await rail.close()
