"""A real chain with our tokens, real books, and worker processes that can be killed at a chosen step."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from domain.clock import SystemClock, SystemEntropy
from domain.identity import ConsumerId
from domain.money import Asset
from providers.base import ChainReader, Faucet, SettlementProvider, Signer, item_of
from providers.tempo import TempoConfig, contracts
from providers.tempo import connect as connect_tempo
from sandbox import tempo_tokens
from sandbox.tempo_node import TempoNode
from sandbox.tempo_tokens import SeededTokens, open_endpoint
from tests.workers.house import UNIT, House, final, house_of, until

ROOT = Path(__file__).parent.parent.parent
OPERATOR_KEY, FEE_PAYER_KEY = bytes.fromhex("b1" * 32), bytes.fromhex("b2" * 32)
WINDOW = timedelta(seconds=8)
LEASE_SECONDS = 3
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Chain:
    """A node with our tokens on it, and a seed whose consumers nobody else has."""

    node: TempoNode
    tokens: SeededTokens
    seed: bytes

    @classmethod
    async def of(cls, node: TempoNode) -> Chain:
        tokens = await tempo_tokens.seed(node.url, operator_key=OPERATOR_KEY, fee_payer_key=FEE_PAYER_KEY)
        return cls(node, tokens, secrets.token_bytes(32))

    def config(self, *urls: str) -> TempoConfig:
        return TempoConfig(
            rpc_urls=urls or (self.node.url,),
            chain_id=self.tokens.chain_id,
            tokens=self.tokens.tokens,
            operator_key=OPERATOR_KEY,
            fee_payer_key=FEE_PAYER_KEY,
            seed=self.seed,
            window=WINDOW,
            request_timeout=timedelta(seconds=2),
        )

    async def memos(self) -> Counter[UUID]:
        """How often each item stands on the chain, asked of the node itself and of nothing of ours."""
        topics = [contracts.TRANSFER_WITH_MEMO]
        query = {"fromBlock": "0x0", "toBlock": "latest", "address": [*self.tokens.tokens.values()], "topics": topics}
        async with open_endpoint(self.node.url) as endpoint:
            logs = await endpoint.call("eth_getLogs", [query])
        items = [item_of(bytes.fromhex(log["topics"][3].removeprefix("0x"))) for log in logs]
        return Counter(item for item in items if item is not None)


@dataclass(frozen=True)
class Rail:
    """The Tempo adapter with the faucet beside it, as a house wants them."""

    provider: SettlementProvider
    reader: ChainReader
    signer: Signer
    faucet: Faucet


@asynccontextmanager
async def rail_of(chain: Chain, *urls: str) -> AsyncIterator[Rail]:
    rail = connect_tempo(chain.config(*urls), clock=SystemClock())
    direct = connect_tempo(chain.config(), clock=SystemClock())
    try:
        yield Rail(rail.provider, rail.reader, rail.signer, direct.faucet(chain.tokens.outside_key))
    finally:
        await rail.close()
        await direct.close()


@dataclass
class System:
    """A chain, the books, and nothing that works on them yet."""

    chain: Chain
    house: House
    database: str

    async def consumers(self, count: int, *, micros: int = 20 * UNIT) -> list[ConsumerId]:
        """Consumers with money on the chain that somebody has yet to see there."""
        consumers = await self.house.open_wallets(count)
        await asyncio.gather(*(self.house.fund(consumer, micros) for consumer in consumers))
        return consumers

    async def credited(self, consumers: Sequence[UUID]) -> None:
        async def everybody() -> bool:
            return all([await self.house.available(consumer) > 0 for consumer in consumers])

        await until(everybody, seconds=PATIENCE_SECONDS)

    async def settled(self) -> None:
        async def everything() -> bool:
            return final(await self.house.items())

        await until(everything, seconds=PATIENCE_SECONDS)

    async def require_each_once(self, items: Sequence[UUID]) -> None:
        """Every item confirmed in the books, exactly once on the chain, and a proof with nothing to say against it."""
        rows = {row.id: row for row in await self.house.items()}
        assert {rows[item].state for item in items} == {"CONFIRMED"}
        memos = await self.chain.memos()
        assert {memos[item] for item in items} == {1}
        await self.house.prove_clean()

    @asynccontextmanager
    async def worker(self, *, crash_at: str = "", log: Path | None = None) -> AsyncIterator[Process]:
        """The worker process of a deployment; with `crash_at` one that kills itself there, once."""
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.database,
            "HTTP_LISTEN": "127.0.0.1:0",
            "TEMPO_RPC_URL": self.chain.node.url,
            "TEMPO_CHAIN_ID": str(self.chain.tokens.chain_id),
            "TEMPO_TOKENS": ",".join(f"{asset}={address}" for asset, address in self.chain.tokens.tokens.items()),
            "TEMPO_PRIVATE_KEY": OPERATOR_KEY.hex(),
            "TEMPO_FEE_PAYER_KEY": FEE_PAYER_KEY.hex(),
            "TEMPO_SEED": self.chain.seed.hex(),
            "TEMPO_VALID_BEFORE_SECONDS": str(WINDOW.total_seconds()),
            "SETTLEMENT_LEASE_SECONDS": str(LEASE_SECONDS),
            "ADDRESS_POOL_SIZE": "16",
            "PROOF_INTERVAL_SECONDS": "3600",
            "CRASH_AT": crash_at,
        }
        command = (sys.executable, "-m", "tests.system.crashing_worker")
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=DEVNULL)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await process.wait()


@asynccontextmanager
async def system_on(chain: Chain, database: str) -> AsyncIterator[System]:
    """Books of a fresh database over the chain. The test's own parts read, pay and prove; they settle nothing."""
    clock = SystemClock()
    async with (
        rail_of(chain) as rail,
        house_of(database, rail, clock=clock, entropy=SystemEntropy(clock)) as house,
    ):
        yield System(chain, house, database)


ASSET = Asset.USDC
