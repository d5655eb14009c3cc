"""A rail with everything a test needs around it: money from outside, time that passes, policies, a way to wait.

The contract suite runs the same tests on each of these worlds. A third provider joins by writing one more.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from domain.clock import SystemClock, uuid7_from
from domain.money import Asset
from providers.base import (
    Block,
    ChainReader,
    Faucet,
    Movement,
    Party,
    Preparation,
    PreparedAttempt,
    Receipt,
    SettlementProvider,
    Signer,
)
from providers.simulated import SimulatedConfig, SimulatedRail
from providers.simulated import connect as connect_simulated
from providers.tempo import TempoConfig, TempoRail
from providers.tempo import connect as connect_tempo
from providers.tempo.contracts import TIP403_REGISTRY, Tokens, pack
from providers.tempo.faucet import TempoFaucet
from providers.tempo.keys import address_of
from providers.tempo.transactions import ChainTerms
from sandbox.tempo_tokens import SeededTokens, open_endpoint, run_calls

UNIT = 1_000_000
OUTSIDER = Party.outside("0x" + "ab" * 20)
# On real chains a signed transaction must be valid for more than 3 s; tests of its death wait this long.
SHORT_WINDOW = timedelta(seconds=6)

# Worlds on one chain share it, so no two tests may use the same consumer.
_indexes = itertools.count()
_chance = random.Random(1)


class World(Protocol):
    """What the contract suite uses."""

    @property
    def provider(self) -> SettlementProvider: ...

    @property
    def reader(self) -> ChainReader: ...

    @property
    def signer(self) -> Signer: ...

    @property
    def faucet(self) -> Faucet: ...

    async def next_block(self) -> None: ...

    async def pass_time(self, seconds: float) -> None: ...

    async def forbid(self, address: str) -> None:
        """Put an address on USDB's blacklist."""
        ...

    async def pause(self, asset: Asset, *, paused: bool) -> None: ...


def item_id() -> UUID:
    return uuid7_from(_chance.getrandbits(48), _chance.randbytes(10))


def movement(source: Party, destination: Party, micros: int, asset: Asset = Asset.USDC) -> Movement:
    return Movement(item_id(), asset, micros, source, destination)


def operator(world: World) -> Party:
    return Party.operator(world.signer.operator_address)


async def consumers(world: World, count: int) -> list[Party]:
    """Parties nobody has used before."""
    indexes = [next(_indexes) for _ in range(count)]
    addresses = await world.signer.derive_addresses(indexes[0], count)
    return [Party.consumer(address=address, index=index) for address, index in zip(addresses, indexes, strict=True)]


async def active_consumers(world: World, count: int, *, micros: int, asset: Asset = Asset.USDC) -> list[Party]:
    """Consumers with money on the rail and with their allowance granted."""
    parties = await consumers(world, count)
    await settle(world, [movement(operator(world), party, micros, asset) for party in parties])
    activations = [await world.provider.prepare_activation(party, [asset]) for party in parties]
    for activation in activations:
        await world.provider.submit(attempt_of(activation).payload)
    for activation in activations:
        assert (await receipt_of(world, attempt_of(activation).reference)).succeeded
    return parties


def attempt_of(preparation: object) -> PreparedAttempt:
    assert isinstance(preparation, Preparation), preparation
    assert preparation.attempt is not None, preparation
    return preparation.attempt


async def settle(world: World, movements: Sequence[Movement]) -> Receipt:
    """Prepare, submit, wait; every movement must have gone through."""
    preparation = await world.provider.prepare(movements)
    attempt = attempt_of(preparation)
    assert attempt.movements == tuple(movements), preparation
    await world.provider.submit(attempt.payload)
    receipt = await receipt_of(world, attempt.reference)
    assert receipt.succeeded
    return receipt


async def receipt_of(world: World, reference: str) -> Receipt:
    for _ in range(100):
        if found := await world.reader.receipts([reference]):
            return found[reference]
        await world.next_block()
    raise AssertionError(f"{reference} was never mined")


async def block_of(world: World, receipt: Receipt) -> Block:
    return (await world.reader.blocks(receipt.block_number, receipt.block_number))[0]


async def balance(world: World, party: Party, asset: Asset = Asset.USDC) -> int:
    head = await world.reader.finalized()
    return (await world.reader.balances([party.address], asset, at_block=head.number))[party.address]


# --- Simulated -------------------------------------------------------------------------------------------------------


class ManualClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class SeededEntropy:
    """Chance that repeats itself."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uuid7(self) -> UUID:
        return uuid7_from(self._random.getrandbits(48), self._random.randbytes(10))

    def token_bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class SimulatedWorld:
    def __init__(self, *, window: timedelta = SHORT_WINDOW) -> None:
        self.clock = ManualClock()
        config = SimulatedConfig(seed=b"contract", name="third", window=window)
        self.rail: SimulatedRail = connect_simulated(config, clock=self.clock, entropy=SeededEntropy(7))
        self.chain = self.rail.chain
        self.provider, self.reader = self.rail.provider, self.rail.reader
        self.signer, self.faucet = self.rail.signer, self.rail.faucet

    async def next_block(self) -> None:
        self.clock.advance(0.5)
        self.chain.mine()

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.5)):
            await self.next_block()

    async def forbid(self, address: str) -> None:
        self.chain.state.forbidden.add(address)

    async def pause(self, asset: Asset, *, paused: bool) -> None:
        change = self.chain.state.paused.add if paused else self.chain.state.paused.discard
        change(asset)


# --- Tempo -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TempoChain:
    """A node with our tokens on it, and the keys that rule them. USDB carries a blacklist."""

    url: str
    seeded: SeededTokens
    operator_key: bytes
    fee_payer_key: bytes
    usdb_policy: int

    def config(self, *urls: str, window: timedelta = SHORT_WINDOW, api_key: str | None = None) -> TempoConfig:
        return TempoConfig(
            rpc_urls=urls or (self.url,),
            chain_id=self.seeded.chain_id,
            tokens=self.seeded.tokens,
            operator_key=self.operator_key,
            fee_payer_key=self.fee_payer_key,
            seed=b"a seed that only tests know of 01",
            window=window,
            api_key=api_key,
            request_timeout=timedelta(seconds=2),
        )

    async def run_as_operator(self, target: str, data: bytes) -> None:
        async with open_endpoint(self.url) as endpoint:
            await run_calls(endpoint, self.seeded.chain_id, [(target, data)], key=self.operator_key, gas=3_000_000)


class TempoWorld:
    def __init__(self, chain: TempoChain, *, window: timedelta = SHORT_WINDOW) -> None:
        self.chain = chain
        self.rail: TempoRail = connect_tempo(chain.config(window=window), clock=SystemClock())
        self.provider, self.reader, self.signer = self.rail.provider, self.rail.reader, self.rail.signer
        tokens = Tokens(chain.seeded.tokens)
        terms = ChainTerms(chain.seeded.chain_id, tokens, tokens.address(Asset.USDC))
        self.faucet = TempoFaucet(self.rail.endpoints, terms, key=chain.seeded.outside_key)

    async def next_block(self) -> None:
        before = (await self.reader.finalized()).number
        while (await self.reader.finalized()).number == before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def pass_time(self, seconds: float) -> None:
        until = (await self.reader.finalized()).time + timedelta(seconds=seconds)
        while (await self.reader.finalized()).time < until:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def forbid(self, address: str) -> None:
        change = pack("modifyPolicyBlacklist(uint64,address,bool)", self.chain.usdb_policy, address, True)
        await self.chain.run_as_operator(TIP403_REGISTRY, change)

    async def pause(self, asset: Asset, *, paused: bool) -> None:
        await self.chain.run_as_operator(self.chain.seeded.tokens[asset], pack("pause()" if paused else "unpause()"))


async def blacklist_on_usdb(url: str, seeded: SeededTokens, operator_key: bytes) -> int:
    """Put USDB under a blacklist policy of the operator's, and return the policy's number."""
    create = pack("createPolicy(address,uint8)", address_of(operator_key), 1)
    async with open_endpoint(url) as endpoint:
        counter = {"to": TIP403_REGISTRY, "data": "0x" + pack("policyIdCounter()").hex()}
        policy = int(await endpoint.call("eth_call", [counter, "latest"]), 16)
        await run_calls(endpoint, seeded.chain_id, [(TIP403_REGISTRY, create)], key=operator_key, gas=3_000_000)
        change = (seeded.tokens[Asset.USDB], pack("changeTransferPolicyId(uint64)", policy))
        await run_calls(endpoint, seeded.chain_id, [change], key=operator_key, gas=3_000_000)
    return policy
