"""Where histories are played: one database, one engine, one ledger writer, cleared for each seed."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from providers.simulated import SimulatedConfig, SimulatedCustodian, connect
from server.ledger_writer import LedgerWriter
from storage.database import Engine
from storage.schema import metadata
from storage.sealing import KeyRing, new_key_file
from tests.simulation import invariants
from tests.simulation.chance import SimulatedClock, SimulatedEntropy
from tests.simulation.counter import Counter
from tests.simulation.process import quick
from tests.simulation.world import ASSETS, CONSUMERS, PACE, World
from tests.workers.house import UNIT, House

FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings of a Postgres whose data nobody will miss."""

STEPS = 32
CHECK_EVERY, PROVE_EVERY = 2, 32
BANKS = 0.3
"""In how many worlds there is a bank."""
CALM_STRIDES = (0.5, 0.5, 0.5, 1, 2, *(4,) * 30)
"""Seconds. What remains after a while waits for a lease, an expiry or a pause to end."""


@dataclass(frozen=True, slots=True)
class Played:
    """One history: what happened, what it broke, what it cost."""

    seed: int
    trace: list[str]
    failure: str
    cpu_seconds: float

    @property
    def text(self) -> str:
        return "\n".join(self.trace)


@dataclass
class Stage:
    """Everything that outlives a seed."""

    engine: Engine
    writer: LedgerWriter
    clock: SimulatedClock
    entropy: SimulatedEntropy
    ring: KeyRing

    async def play(self, seed: int) -> Played:
        """One history, from an empty database to the morning after."""
        started = time.process_time()
        world = await self._world(seed)
        try:
            failure = ""
            await _history(world)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            world.note("FAILED", failure)
        return Played(seed, world.trace, failure, time.process_time() - started)

    async def _world(self, seed: int) -> World:
        await self._clear()
        self.clock.reset()
        self.entropy.reset(seed)
        config = SimulatedConfig(seed=b"simulation", name="tempo", window=timedelta(seconds=25))
        rail = connect(config, clock=self.clock, entropy=self.entropy)
        house = House(quick(self.engine), self.writer, rail, self.clock, self.entropy, PACE)
        custodian = SimulatedCustodian(clock=self.clock, entropy=self.entropy)
        counter = Counter(house, rail.exchange, self.ring)
        return World(house, rail, custodian, counter, self.clock, random.Random(seed))

    async def _clear(self) -> None:
        async with self.engine.begin() as tx:
            await tx.execute(text(";".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables)))


async def _history(world: World) -> None:
    await _begin(world)
    world.calm = False
    for step in range(STEPS):
        await world.act()
        if step % CHECK_EVERY == 0:
            await invariants.check(world)
        if step % PROVE_EVERY == PROVE_EVERY // 2:
            await invariants.check_by_the_proof(world)
    await world.calm_down()
    await _settle_down(world)
    if await world.retry_blocked():
        await _settle_down(world)
    await invariants.check_end(world)


async def _begin(world: World) -> None:
    """A few consumers with money, all but two of whom have granted their allowance."""
    house = world.house
    await house.furnish()
    world.chain.mine()
    await world.abroad.furnish(world.workers[0].second)
    world.consumers = await house.open_wallets(CONSUMERS)
    for consumer in world.consumers[: CONSUMERS - 1]:
        for asset in ASSETS:
            await house.fund(consumer, 10 * UNIT, asset)
    for _ in range(2):
        await world.one_calm_round()
    await world.activate(world.consumers[: CONSUMERS - 2])
    if world.chance.random() < BANKS:
        await world.open_bank()


async def _settle_down(world: World) -> None:
    """Rounds without faults, until nothing moves any more."""
    for seconds in CALM_STRIDES:
        await world.one_calm_round(seconds)
        if not await world.open_items():
            break
    await invariants.check(world)


def _engine(url: str) -> Engine:
    """As the workers' own, but for the question before each use whether the connection still lives."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    return create_async_engine(address, connect_args={"options": "-c lock_timeout=5000 -c timezone=UTC -c jit=off"})


def _ring(entropy: SimulatedEntropy) -> KeyRing:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sealing-keys.json")
        path.write_text(new_key_file(entropy, name="simulation"))
        return KeyRing.read(path, entropy=entropy)


@asynccontextmanager
async def stage_of(url: str) -> AsyncIterator[Stage]:
    """A stage on a migrated database that nobody else uses."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    clock = SimulatedClock()
    entropy = SimulatedEntropy(clock)
    engine = _engine(url)
    writer = LedgerWriter(database_url=url, clock=clock, entropy=entropy, batch_time=clock.now)
    stop = asyncio.Event()
    running = asyncio.create_task(writer.run(stop))
    try:
        yield Stage(engine, writer, clock, entropy, _ring(entropy))
    finally:
        stop.set()
        await running
        await engine.dispose()
        structlog.reset_defaults()
