"""Reconciliation: the books against themselves, and against the chain at exactly the block they stand at.

A proof checks that the ledger sums to zero, that each balance is the sum of its entries, that what is owed to each
holder stands on the rails or is on its way (money rules 16 and 17), and that each position equals `balanceOf` at the
watcher's cursor (rule 14). What a custodian says of the operator's account is compared by the worker that reads it, and
a proof takes that over. A difference is a break: counted, written down, shown by `GetLedgerProof`, never repaired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Break, Command
from domain.identity import OPERATOR
from domain.money import Asset
from providers.base import ChainReader, ProviderUnavailable
from server.ledger_writer import LedgerWriter
from storage import cursors, proofs, rail_comparisons
from storage.cursors import Cursor
from storage.database import Engine, Tx
from storage.proofs import Difference, StandingAt
from storage.rail_comparisons import RailComparison

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 2.0
PAGE = 1_000

# Money may be between two reads of a custodian's account. A difference that has lasted so long is one.
LASTING = timedelta(seconds=60)
# A comparison this old says nothing of today.
STALE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class EquationResult:
    """One equation over all its holders."""

    name: str
    checked: int
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Proof:
    """The state of the books at one moment and one finalized block."""

    id: UUID
    made_at: datetime
    block_number: int | None
    block_hash: str
    block_time: datetime | None
    halted_reason: str
    ledger_sums: dict[Asset, int]
    owed: dict[Asset, int]
    """What the ledger owes consumers."""
    in_settlement: dict[Asset, int]
    standing: dict[Asset, int]
    """Σ of our positions on the chain, beside what the chain says of the same addresses."""
    on_chain: dict[Asset, int]
    custodians: list[RailComparison]
    """What custodians said of the operator's accounts, when they were last asked."""
    equations: list[EquationResult]
    chain_note: str
    """Why positions could not be compared with the chain this time; empty when they were."""
    custodian_note: str

    @property
    def clean(self) -> bool:
        """Nothing differs, and everything could be compared."""
        sums = not any(self.ledger_sums.values())
        compared = not self.chain_note and not self.custodian_note
        return sums and compared and not any(equation.differences for equation in self.equations)

    def report(self) -> dict[str, Any]:
        """The proof as it is stored and shown."""
        shown = asdict(self)
        shown.update(id=str(self.id), made_at=self.made_at.isoformat(), clean=self.clean)
        shown["block_time"] = self.block_time.isoformat() if self.block_time else None
        shown["custodians"] = [_shown(one) for one in self.custodians]
        for equation in shown["equations"]:
            for difference in equation["differences"]:
                difference["holder"] = str(difference["holder"])
        return shown


class Reconciliation:
    """Makes proofs, now and then or when asked."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        reader: ChainReader,
        chain: str,
        clock: Clock,
        entropy: Entropy,
        interval_seconds: float = 30.0,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._reader = reader
        self._chain = chain
        self._clock = clock
        self._entropy = entropy
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """A proof every interval until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                await self.prove()
                due = self._clock.monotonic() + self._interval_seconds
            await self._clock.sleep(0.2)

    async def prove(self) -> Proof:
        """Check everything, store the result, and write a break for each difference."""
        proof = await self._check()
        async with self._engine.begin() as tx:
            await proofs.store(tx, proof_id=proof.id, clean=proof.clean, report=proof.report(), now=proof.made_at)
        found = self._breaks(proof)
        if found:
            await self._writer.submit(Command(breaks=tuple(found)))
            log.error("reconciliation.breaks", count=len(found), first=str(found[0].facts))
        return proof

    async def _check(self) -> Proof:
        async with self._engine.connect() as tx:
            await tx.execution_options(isolation_level="REPEATABLE READ")
            cursor = await cursors.read(tx, self._chain)
            sums = await proofs.ledger_sums(tx)
            entry_differences = await proofs.entry_differences(tx)
            consumers, consumer_differences = await proofs.consumer_differences(tx)
            operator_differences = await proofs.operator_differences(tx)
            owed, in_settlement = await proofs.owed_to_consumers(tx), await proofs.in_settlement(tx)
            standing = await self._standing(tx)
            custodians = await rail_comparisons.read_all(tx)
        now = self._clock.now()
        on_chain, note = await self._on_chain(cursor, standing)
        chain_differences = [
            Difference(position.holder, position.asset, position.micros, found)
            for position, found in zip(standing, on_chain, strict=False)
            if position.micros != found
        ]
        chain_differences += _lasting(custodians)
        equations = [
            EquationResult("balance_is_entries", consumers, entry_differences),
            EquationResult("consumer_backed", consumers, consumer_differences),
            EquationResult("operator_backed", len(Asset), operator_differences),
            EquationResult("position_on_rail", len(on_chain) + len(custodians), chain_differences),
        ]
        return Proof(
            id=self._entropy.uuid7(),
            made_at=now,
            block_number=cursor.number if cursor else None,
            block_hash=cursor.hash if cursor else "",
            block_time=cursor.block_time if cursor else None,
            halted_reason=cursor.halted_reason if cursor else "",
            ledger_sums=sums,
            owed=owed,
            in_settlement=in_settlement,
            standing=_totals(standing, [position.micros for position in standing]),
            on_chain=_totals(standing, on_chain),
            custodians=custodians,
            equations=equations,
            chain_note=note,
            custodian_note=_custodian_note(custodians, now),
        )

    async def _standing(self, tx: Tx) -> list[StandingAt]:
        """Every position, read in pages inside the proof's snapshot."""
        found: list[StandingAt] = []
        after = (UUID(int=0), "")
        while page := await proofs.standing_on_tempo(tx, after=after, limit=PAGE):
            found.extend(page)
            after = (page[-1].holder, page[-1].asset)
        return found

    async def _on_chain(self, cursor: Cursor | None, standing: Sequence[StandingAt]) -> tuple[list[int], str]:
        """What the chain says of each position. What differs is asked again before anybody is told.

        A node may answer for its newest block while it executes the next one already (anvil does, under load). Asked
        when that block is an old one, it has one answer only.
        """
        found, note = await self._balances(cursor, standing)
        differing = [
            number
            for number, (position, micros) in enumerate(zip(standing, found, strict=False))
            if position.micros != micros
        ]
        if differing:
            await self._clock.sleep(LOOK_AGAIN_SECONDS)
            again, note = await self._balances(cursor, [standing[number] for number in differing])
            if note:
                return [], note
            for number, micros in zip(differing, again, strict=True):
                found[number] = micros
        return found, note

    async def _balances(self, cursor: Cursor | None, standing: Sequence[StandingAt]) -> tuple[list[int], str]:
        """What the chain says of each position at the cursor's block, or nothing and why."""
        if cursor is None:
            return [], "the watcher has not started"
        found: dict[tuple[str, Asset], int] = {}
        try:
            for asset in Asset:
                addresses = [position.address for position in standing if position.asset is asset]
                for start in range(0, len(addresses), PAGE):
                    page = addresses[start : start + PAGE]
                    balances = await self._reader.balances(page, asset, at_block=cursor.number)
                    found.update({(address, asset): micros for address, micros in balances.items()})
        except ProviderUnavailable as fault:
            return [], f"the chain could not be asked: {fault}"[:300]
        return [found[position.address, position.asset] for position in standing], ""

    def _breaks(self, proof: Proof) -> list[Break]:
        found = [
            Break(
                self._entropy.uuid7(),
                equation.name,
                _subject(str(difference.holder), difference.asset, difference.rail),
                {"expected": str(difference.expected), "found": str(difference.found), "proof": str(proof.id)},
            )
            for equation in proof.equations
            for difference in equation.differences
        ]
        found += [
            Break(self._entropy.uuid7(), "ledger_sum", str(asset), {"sum": str(micros), "proof": str(proof.id)})
            for asset, micros in proof.ledger_sums.items()
            if micros
        ]
        return found


def _subject(holder: str, asset: str, rail: str) -> str:
    """What a break is about, as its key says it."""
    return f"{holder}:{asset}:{rail}" if rail else f"{holder}:{asset}"


def _lasting(custodians: Sequence[RailComparison]) -> list[Difference]:
    return [
        Difference(OPERATOR, one.asset, one.expected_micros, one.found_micros, one.rail)
        for one in custodians
        if one.differs_since is not None and one.compared_at - one.differs_since >= LASTING
    ]


def _custodian_note(custodians: Sequence[RailComparison], now: datetime) -> str:
    """Why a custodian's account could not be compared; empty when it was, or there is none."""
    stale = [one for one in custodians if now - one.compared_at > STALE]
    return f"{stale[0].rail} was last asked at {stale[0].compared_at.isoformat()}" if stale else ""


def _shown(one: RailComparison) -> dict[str, Any]:
    return {"rail": one.rail, "asset": one.asset, "expected": one.expected_micros, "found": one.found_micros}


def _totals(standing: Sequence[StandingAt], micros: Sequence[int]) -> dict[Asset, int]:
    totals: dict[Asset, int] = {}
    for position, amount in zip(standing, micros, strict=False):
        totals[position.asset] = totals.get(position.asset, 0) + amount
    return totals
