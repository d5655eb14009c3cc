"""The chores around settlement: the address pool, the roll-up of the operator's accounts, and the sweep of fees."""

from __future__ import annotations

import asyncio
import hashlib

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Command, FeeSweep, NewItem, Request
from domain.identity import OPERATOR, ItemId, request_key
from providers.base import Signer, SignerUnavailable
from server.ledger_writer import LedgerWriter
from server.workers.settlement import CHAIN
from storage import addresses, cursors, fees
from storage.database import Engine
from storage.fees import Unswept
from storage.rollup import roll_up

log = structlog.get_logger()


class AddressPool:
    """Derives addresses ahead, so that onboarding needs no key and no network.

    Not before the watcher has a place to begin: what arrives at an address that nobody watches yet would be lost.
    """

    def __init__(
        self, *, engine: Engine, signer: Signer, clock: Clock, entropy: Entropy, target: int, chunk: int = 64
    ) -> None:
        self._engine = engine
        self._signer = signer
        self._clock = clock
        self._entropy = entropy
        self._target = target
        self._chunk = chunk

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the pool at its target until `stop` is set."""
        while not stop.is_set():
            if not await self.fill():
                await self._clock.sleep(0.5)

    async def fill(self) -> bool:
        """Add one chunk when the pool is below its target; True when it added any."""
        async with self._engine.connect() as tx:
            watched = await cursors.read(tx, CHAIN) is not None
            free = await addresses.free_count(tx)
            first = await addresses.next_index(tx)
        if not watched or free >= self._target:
            return False
        try:
            derived = await self._signer.derive_addresses(first, self._chunk)
        except SignerUnavailable as fault:
            log.warning("addresses.waiting_for_signer", detail=str(fault)[:200])
            return False
        async with self._engine.begin() as tx:
            await addresses.add_derived(tx, derived, first_index=first, now=self._clock.now(), entropy=self._entropy)
        return True


class RollUp:
    """Folds the hot path's appended rows into the operator's balances."""

    def __init__(self, *, engine: Engine, clock: Clock, interval_seconds: float = 1.0) -> None:
        self._engine = engine
        self._clock = clock
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Roll up until `stop` is set."""
        while not stop.is_set():
            async with self._engine.begin() as tx:
                folded = await roll_up(tx)
            if not folded:
                await self._clock.sleep(self._interval_seconds)


class FeeSweeper:
    """Moves accrued fees from consumers' positions to the operator's, in aggregate (money rule 16)."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        clock: Clock,
        entropy: Entropy,
        threshold_micros: int,
        interval_seconds: float = 60.0,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._entropy = entropy
        self._threshold_micros = threshold_micros
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep every interval until `stop` is set."""
        due = self._clock.monotonic() + self._interval_seconds
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self.sweep()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.2)

    async def sweep(self) -> int:
        """One look for fees worth sweeping; returns how many items it made."""
        async with self._engine.connect() as tx:
            found = await fees.worth_sweeping(tx, threshold_micros=self._threshold_micros)
        for unswept in found:
            await self._writer.submit(self._command(unswept))
        return len(found)

    def _command(self, unswept: Unswept) -> Command:
        item = NewItem(
            id=ItemId(self._entropy.uuid7()),
            sender=unswept.consumer_id,
            recipient=OPERATOR,
            asset=unswept.asset,
            micros=unswept.micros,
        )
        # Named by the balance it was seen in: the same sweep submitted twice is one sweep (money rule 21).
        name = f"{unswept.asset}:{unswept.version}:{unswept.micros}"
        key = request_key(caller="worker:fee_sweep", request_id=name)
        return Command(
            request=Request(unswept.consumer_id, key, hashlib.sha256(name.encode()).digest()),
            items=(item,),
            fee_sweeps=(FeeSweep(unswept.consumer_id, unswept.asset, unswept.micros),),
        )
