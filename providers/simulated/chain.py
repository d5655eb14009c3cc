"""The simulated chain: a mempool, blocks, receipts and logs over `TokenState`.

Blocks come from `mine()`, or by themselves on a fixed grid of time. Only blocks with something in them are stored; an
empty one follows from its number, so a chain that runs for weeks weighs nothing, and a file of the stored ones brings
the same chain back, hashes included.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from domain.clock import Clock, Entropy
from providers.base import Block, Holding, Receipt
from providers.simulated.blocks import BlockMaker, can_pay
from providers.simulated.faults import Faults
from providers.simulated.state import TokenState
from providers.simulated.transactions import decode, reference_of

CHAIN_ID: Final = 31337


@dataclass(frozen=True, slots=True)
class _Waiting:
    payload: bytes
    not_before_block: int


class SimulatedChain:
    """One chain. `block_seconds=None` leaves mining to the caller; `path` keeps the chain over restarts."""

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        genesis: Mapping[Holding, int],
        block_seconds: float | None = None,
        path: Path | None = None,
    ) -> None:
        self.faults, self.state = Faults(), TokenState()
        self._clock, self._entropy = clock, entropy
        self._interval = timedelta(seconds=block_seconds) if block_seconds is not None else None
        self._path = path
        self._height = self._halted_through = 0
        self._times = [clock.now()]
        self._stored: dict[int, Block] = {}
        self._stored_numbers: list[int] = []
        self._forks: list[int] = []
        self._mempool: dict[str, _Waiting] = {}
        self._receipts: dict[str, Receipt] = {}
        for holding, micros in genesis.items():
            self.state.balances.set(holding, micros, at_block=0)
        if path is not None:
            self._load(path)

    @property
    def height(self) -> int:
        """The number of the newest block, after mining those whose time has come."""
        if self._interval is not None:
            self._mine_by_the_clock(self._interval)
        return self._height

    def time_of(self, number: int) -> datetime:
        return self._times[0] + self._interval * number if self._interval is not None else self._times[number]

    def block(self, number: int) -> Block:
        if number in self._stored:
            return self._stored[number]
        return Block(number, self.hash_of(number), self.hash_of(number - 1), self.time_of(number), (), ())

    def hash_of(self, number: int) -> str:
        """Follows from the number, from all that happened before it, and from how often the chain forgot."""
        if number in self._stored:
            return self._stored[number].hash
        return self._hash(number, ())

    def receipt(self, reference: str) -> Receipt | None:
        return self._receipts.get(reference)

    def can_pay(self, fee_payer: str) -> bool:
        return can_pay(self.state, fee_payer)

    def submit(self, payload: bytes) -> None:
        """Put a transaction into the mempool, unless it is there or mined already."""
        next_block, reference = self.height + 1, reference_of(payload)
        if reference not in self._receipts and reference not in self._mempool:
            self._mempool[reference] = _Waiting(payload, next_block + self.faults.late_blocks)

    def mine(self) -> int:
        """Make one block now, of whatever waits and has not expired. Returns the height."""
        assert self._interval is None, "this chain mines by the clock"
        if not self.faults.halted:
            self._times.append(max(self._clock.now(), self._times[-1]))
            self._mine_next()
        return self._height

    def forget(self, blocks: int) -> None:
        """Lose the newest blocks and the mempool: what a real chain never does, and a killed dev chain may."""
        assert self._path is None, "a chain kept in a file does not forget"
        self._height = max(0, self._height - blocks)
        if self._interval is None:
            del self._times[self._height + 1 :]
        self._forks.append(self._height + 1)
        self._mempool.clear()
        self._stored = {n: block for n, block in self._stored.items() if n <= self._height}
        self._stored_numbers = sorted(self._stored)
        self._receipts = {r: receipt for r, receipt in self._receipts.items() if receipt.block_number <= self._height}
        self.state.balances.forget_after(self._height)
        self.state.allowances.forget_after(self._height)

    def _mine_by_the_clock(self, interval: timedelta) -> None:
        due = (self._clock.now() - self._times[0]) // interval
        if self.faults.halted:
            self._halted_through = due
            return
        # The blocks of a halt stay empty: what waited through it must not be mined into the past.
        self._height = max(self._height, self._halted_through)
        while self._height < due and self._mempool:
            self._mine_next()
        self._height = max(self._height, due)

    def _mine_next(self) -> None:
        self._height += 1
        ready = self._take_ready(self._height)
        if ready:
            self._execute(self._height, ready)
            self._append({"number": self._height, "payloads": [payload.hex() for payload in ready]})

    def _take_ready(self, number: int) -> list[bytes]:
        """Whatever may be mined into this block, in an order left to chance: expiring nonces give none."""
        time, ready = self.time_of(number), list[bytes]()
        for reference, waiting in list(self._mempool.items()):
            expired = time >= decode(waiting.payload).valid_before
            if not expired and waiting.not_before_block <= number:
                ready.append(waiting.payload)
            if expired or waiting.not_before_block <= number:
                del self._mempool[reference]
        return sorted(ready, key=lambda _: self._entropy.uniform(0, 1))

    def _execute(self, number: int, payloads: Sequence[bytes]) -> None:
        block_hash = self._hash(number, [reference_of(payload) for payload in payloads])
        maker = BlockMaker(self.state, number, block_hash, self.hash_of(number - 1), self.time_of(number))
        for payload in payloads:
            maker.add(payload)
        self._receipts |= {receipt.reference: receipt for receipt in maker.receipts}
        self._stored[number] = maker.finish()
        self._stored_numbers.append(number)

    def _hash(self, number: int, references: Sequence[str]) -> str:
        newest = bisect_right(self._stored_numbers, number)
        before = self._stored[self._stored_numbers[newest - 1]].hash if newest else "genesis"
        forks = sum(1 for start in self._forks if start <= number)
        return "0x" + sha256(f"{number} {before} {forks} {' '.join(references)}".encode()).hexdigest()

    def _load(self, path: Path) -> None:
        """Play the stored blocks again; a file that is not there yet begins with the time of the genesis."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append({"genesis": self._times[0].isoformat()})
            return
        genesis, *blocks = [json.loads(line) for line in path.read_text().splitlines()]
        self._times = [datetime.fromisoformat(genesis["genesis"])]
        for block in blocks:
            self._height = block["number"]
            self._execute(self._height, [bytes.fromhex(payload) for payload in block["payloads"]])

    def _append(self, line: Mapping[str, object]) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
