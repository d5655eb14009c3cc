"""Wallets, commands and the audit that ledger tests share. Every test that moves money ends with `audit`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text

from domain.clock import SystemClock, SystemEntropy
from domain.commands import BalanceKey, Command, CustodyChange, NewItem, Request
from domain.identity import ConsumerId, ItemId, TransactionId, body_hash, request_key
from domain.ledger_state import Applied, Outcome, Refused
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account
from domain.settlement import Rail
from server.ledger_writer import LedgerWriter
from storage import balances, proofs
from storage.balances import BalanceReading
from storage.database import Engine, Tx, create_engine
from storage.schema import stablecoin_balances, wallets

CLOCK = SystemClock()
ENTROPY = SystemEntropy(CLOCK)
FEE = 100
DOLLAR = 1_000_000


def new_request(owner: UUID, *, body: str = "", request_id: str | None = None) -> Request:
    """A request id and what it stands for."""
    sent_as = request_id or str(ENTROPY.uuid7())
    return Request(owner, request_key(caller="consumer", request_id=sent_as), body_hash("Test", body), sent_as)


def payment(
    sender: UUID,
    recipient: UUID,
    micros: int,
    *,
    asset: Asset = Asset.USDC,
    fee: int = FEE,
    request: Request | None = None,
    limit: int | None = None,
) -> Command:
    """A transfer as the service builds it."""
    postings = [Posting(available(sender), available(recipient), asset, micros)]
    if fee:
        postings.append(Posting(available(sender), operator_account(AccountKind.FEES), asset, fee))
    transaction = Transaction(
        id=TransactionId(ENTROPY.uuid7()),
        kind=TransactionKind.TRANSFER,
        consumer_id=sender,
        counterparty_id=recipient,
        asset=asset,
        micros=micros,
        fee_micros=fee,
    )
    item = NewItem(id=ItemId(ENTROPY.uuid7()), sender=sender, recipient=recipient, asset=asset, micros=micros)
    return Command(
        transactions=(transaction,),
        postings=(tuple(postings),),
        request=request or new_request(sender, body=f"{recipient}:{asset}:{micros}"),
        sender=sender,
        limit_usd_micros=micros if limit is None else limit,
        items=(item,),
    )


def deposit(consumer: UUID, micros: int, *, asset: Asset = Asset.USDC, name: str | None = None) -> Command:
    """Money that arrived on chain: the ledger and the position grow in one commit, as the watcher books it."""
    name = name or str(ENTROPY.uuid7())
    transaction = Transaction(
        id=TransactionId(ENTROPY.uuid7()),
        kind=TransactionKind.DEPOSIT,
        consumer_id=consumer,
        counterparty_id=None,
        asset=asset,
        micros=micros,
        reference=name,
    )
    posting = Posting(operator_account(AccountKind.EXTERNAL_TEMPO), available(consumer), asset, micros)
    return Command(
        transactions=(transaction,),
        postings=((posting,),),
        request=Request(consumer, request_key(caller="worker:test", request_id=name), body_hash("Deposit", name)),
        custody=(CustodyChange(consumer, Rail.TEMPO, asset, micros),),
    )


@dataclass
class Books:
    """A ledger under test: its database, one writer, and everything its commits announced."""

    url: str
    engine: Engine
    writer: LedgerWriter
    announced: list[BalanceKey] = field(default_factory=list)

    async def submit(self, command: Command) -> Outcome:
        return await self.writer.submit(command)

    async def apply(self, *commands: Command) -> list[Applied]:
        """Submit at once what must be applied."""
        outcomes = await asyncio.gather(*(self.writer.submit(command) for command in commands))
        assert all(isinstance(outcome, Applied) for outcome in outcomes), outcomes
        return [outcome for outcome in outcomes if isinstance(outcome, Applied)]

    async def refuse(self, command: Command) -> Refused:
        """Submit what must be refused."""
        outcome = await self.writer.submit(command)
        assert isinstance(outcome, Refused), outcome
        return outcome

    async def open(self, count: int, *, usdc: int = 0, kyc_level: int = 3) -> list[ConsumerId]:
        """New wallets, each with that much USDC deposited."""
        opened = await open_wallets(self.engine, count, kyc_level=kyc_level)
        if usdc:
            await self.apply(*(deposit(consumer, usdc) for consumer in opened))
        return opened

    async def balance(self, consumer: UUID, asset: Asset = Asset.USDC) -> BalanceReading:
        async with self.engine.connect() as tx:
            return (await balances.of_consumers(tx, [consumer]))[consumer, asset]

    async def available(self, *consumers: UUID) -> list[int]:
        return [(await self.balance(consumer)).available_micros for consumer in consumers]

    async def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Plain SQL, for what a test does to the database behind the server's back."""
        async with self.engine.begin() as tx:
            result = await tx.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []


@asynccontextmanager
async def books_of(url: str, **options: Any) -> AsyncIterator[Books]:
    """Run a ledger writer on the database until the block ends. `options` are the writer's."""
    engine = create_engine(url)
    announced: list[BalanceKey] = []
    writer = LedgerWriter(database_url=url, clock=CLOCK, entropy=ENTROPY, on_commit=announced.extend, **options)
    stop = asyncio.Event()
    running = asyncio.create_task(writer.run(stop))
    try:
        yield Books(url, engine, writer, announced)
    finally:
        stop.set()
        await running
        await engine.dispose()


async def open_wallets(engine: Engine, count: int, *, kyc_level: int = 3) -> list[ConsumerId]:
    """Rows as onboarding leaves them, without the person."""
    now = datetime.now(UTC)
    ids = [ConsumerId(ENTROPY.uuid7()) for _ in range(count)]
    rows = [
        {
            "consumer_id": consumer,
            "tempo_address": f"0x{consumer.hex:0>40}",
            "derivation_index": consumer.int % 2**62,
            "kyc_level": kyc_level,
            "usage_day": now.date(),
            "created_at": now,
        }
        for consumer in ids
    ]
    empty = [{"consumer_id": consumer, "asset": asset, "changed_at": now} for consumer in ids for asset in Asset]
    async with engine.begin() as tx:
        await tx.execute(insert(wallets), rows)
        await tx.execute(insert(stablecoin_balances), empty)
    return ids


_BROKEN_CHAINS = """
    SELECT consumer_id, asset, version FROM (
        SELECT consumer_id, asset, version, available_after, held_after, available_delta, held_delta, created_at,
               lag(version, 1, 0::bigint) OVER history AS version_before,
               lag(available_after, 1, 0::bigint) OVER history AS available_before,
               lag(held_after, 1, 0::bigint) OVER history AS held_before,
               lag(created_at, 1, '-infinity') OVER history AS before
        FROM entries WINDOW history AS (PARTITION BY consumer_id, asset ORDER BY version)
    ) AS chained
    WHERE version <> version_before + 1
       OR available_after <> available_before + available_delta
       OR held_after <> held_before + held_delta
       OR created_at < before
"""

_BROKEN_HEADS = """
    SELECT consumer_id, asset FROM stablecoin_balances AS balance
    LEFT JOIN LATERAL (
        SELECT version, available_after, held_after FROM entries
        WHERE (consumer_id, asset) = (balance.consumer_id, balance.asset) ORDER BY version DESC LIMIT 1
    ) AS last ON true
    WHERE (balance.version, available_micros, held_micros)
          IS DISTINCT FROM (coalesce(last.version, 0), coalesce(last.available_after, 0), coalesce(last.held_after, 0))
"""

_POSTED = """
    SELECT asset, sum(micros)::bigint AS micros FROM (
        SELECT asset, micros FROM postings WHERE target_owner > '00000000-0000-0000-0000-000000000002'
        UNION ALL
        SELECT asset, -micros FROM postings WHERE source_owner > '00000000-0000-0000-0000-000000000002'
    ) AS legs GROUP BY asset
"""
_ENTERED = "SELECT asset, sum(available_delta + held_delta)::bigint FROM entries GROUP BY asset"

_SYSTEM_POSTED = """
    SELECT kind, asset, sum(micros)::bigint FROM (
        SELECT target_kind AS kind, asset, micros FROM postings
        WHERE target_owner <= '00000000-0000-0000-0000-000000000002'
        UNION ALL
        SELECT source_kind, asset, -micros FROM postings
        WHERE source_owner <= '00000000-0000-0000-0000-000000000002'
    ) AS legs GROUP BY kind, asset HAVING sum(micros) <> 0
"""
_SYSTEM_ENTERED = """
    SELECT kind, asset, sum(micros)::bigint FROM (
        SELECT kind, asset, delta_micros AS micros FROM system_entries
        UNION ALL SELECT kind, asset, micros FROM system_balances
    ) AS rows GROUP BY kind, asset HAVING sum(micros) <> 0
"""


async def audit(engine: Engine) -> None:
    """What must be true of the books at every moment, whatever happened before."""
    async with engine.connect() as tx:
        assert not [asset for asset, micros in (await proofs.ledger_sums(tx)).items() if micros], "money was made"
        assert await proofs.entry_differences(tx) == [], "a balance is not the sum of its entries"
        assert (await proofs.consumer_differences(tx))[1] == [], "rule 16 does not hold"
        assert await _rows(tx, _BROKEN_CHAINS) == [], "a chain of entries is broken"
        assert await _rows(tx, _BROKEN_HEADS) == [], "a balance is not its last entry"
        assert await _rows(tx, _POSTED) == await _rows(tx, _ENTERED), "postings and entries differ"
        assert await _rows(tx, _SYSTEM_POSTED) == await _rows(tx, _SYSTEM_ENTERED), "the operator's accounts differ"
        negative = select(stablecoin_balances).where(stablecoin_balances.c.available_micros < 0)
        assert (await tx.execute(negative)).first() is None


async def _rows(tx: Tx, statement: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in await tx.execute(text(statement)))
