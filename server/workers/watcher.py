"""The chain watcher: finalized blocks into the books, in order, each log once.

From a stored cursor (number and hash) it reads the next range of finalized blocks, judges every transfer log in it
(`domain/chain_events.py`), and applies confirmations, deposits, network fees and the cursor's move in ONE commit, so
that "custody at block N" exists (money rule 14). The command expects the cursor where it was read: of two watchers one
wins, and a range whose commit was lost is simply read again.

A block that does not follow the cursor's, or a finalized head below it that is younger, means that the chain is not the
one it was. Then nothing settles any more until a person decides: a break is written, and settlement halts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Command
from domain.errors import Overloaded, StateConflict
from domain.identity import OUTSIDE
from domain.ledger_state import Applied
from domain.settlement import Rail
from providers.base import Block, ChainChanged, ChainReader, Head, ProviderUnavailable, Receipt
from server.ledger_writer import LedgerWriter
from server.workers.block_range import BlockRange, Known
from server.workers.opening import floats_at, opening
from storage import attempts, cursors, custody, recoveries, settlements, treasury_sales, withdrawals
from storage.cursors import NOT_OPENED, Cursor
from storage.database import Engine

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WatchPace:
    """How far one commit reaches, and how often the head is asked for when nothing wakes the watcher."""

    blocks_per_commit: int = 32
    transfers_per_commit: int = 4_000
    """A bound on the commit's length; a block is never divided."""
    poll_seconds: float = 0.25


class Watcher:
    """Reads one chain into the books."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        reader: ChainReader,
        rail: Rail,
        chain: str,
        clock: Clock,
        entropy: Entropy,
        start_block: int | None = None,
        pace: WatchPace = WatchPace(),
        woken: asyncio.Event | None = None,
    ) -> None:
        """`woken` is set by whoever hears of a new head; without it the watcher asks at its own pace."""
        self._engine = engine
        self._writer = writer
        self._reader = reader
        self._rail = rail
        self._chain = chain
        self._clock = clock
        self._entropy = entropy
        self._start_block = start_block
        self._pace = pace
        self._woken = woken or asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the finalized head until `stop` is set."""
        while not stop.is_set():
            self._woken.clear()
            try:
                behind = await self.step()
            except (ProviderUnavailable, Overloaded) as fault:
                log.info("watcher.waiting", detail=str(fault)[:200])
                behind = False
            if not behind:
                await self._rest()

    async def _rest(self) -> None:
        """Until a head is announced, or for a moment: nobody has to announce one."""
        sleeping = asyncio.ensure_future(self._clock.sleep(self._pace.poll_seconds))
        waits: list[asyncio.Future[Any]] = [sleeping, asyncio.ensure_future(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def step(self) -> bool:
        """Apply the next range of blocks; True when there is more to read at once."""
        cursor = await self._cursor()
        if cursor.halted_reason:
            return False
        if not cursor.opened:
            await self._open_books(cursor)
            return True
        if cursor.paused_until is None:
            await self._recover()
            return True
        head = await self._reader.finalized()
        if head.number < cursor.number:
            await self._judge_low_head(cursor, head)
            return False
        last = min(head.number, cursor.number + self._pace.blocks_per_commit)
        try:
            # The cursor's own block is read again: its hash must still be the one in the books.
            blocks = await self._reader.blocks(cursor.number, last, endpoint=head.endpoint)
        except ChainChanged as change:
            await self._halt(cursor, str(change))
            return False
        if blocks[0].hash != cursor.hash:
            await self._halt(cursor, f"block {cursor.number} is not {cursor.hash} any more")
            return False
        new = self._within_one_commit(blocks[1:])
        if new:
            await self._apply(cursor, new)
        return bool(new) and new[-1].number < head.number

    def _within_one_commit(self, blocks: Sequence[Block]) -> Sequence[Block]:
        transfers = 0
        for count, block in enumerate(blocks):
            transfers += len(block.transfers)
            if count and transfers > self._pace.transfers_per_commit:
                return blocks[:count]
        return blocks

    # --- the beginning ------------------------------------------------------------------------------------------------

    async def _cursor(self) -> Cursor:
        async with self._engine.connect() as tx:
            cursor = await cursors.read(tx, self._chain)
        return cursor or await self._start()

    async def _start(self) -> Cursor:
        """The first start: after the named block, or after the present head, before which no address was ours."""
        head = await self._reader.finalized()
        number = self._start_block if self._start_block is not None else head.number
        block = (await self._reader.blocks(number, number))[0]
        async with self._engine.begin() as tx:
            await cursors.start(tx, Cursor(self._chain, number, NOT_OPENED, block.time))
            started = await cursors.read(tx, self._chain)
        assert started is not None
        return started

    async def _open_books(self, cursor: Cursor) -> None:
        async with self._engine.connect() as tx:
            own = await custody.operator_addresses(tx)
        block = (await self._reader.blocks(cursor.number, cursor.number))[0]
        floats = await floats_at(self._reader, own, block=cursor.number)
        await self._submit(opening(cursor, block, floats, rail=self._rail, entropy=self._entropy))
        log.info("watcher.opened", block=block.number, floats=sum(1 for micros in floats.values() if micros))

    # --- another chain ------------------------------------------------------------------------------------------------

    async def _judge_low_head(self, cursor: Cursor, head: Head) -> None:
        """A low head may be a lagging endpoint's, whose time is low too. A low but younger one is of another chain."""
        if head.time > cursor.block_time:
            reason = f"finalized block {head.number} is younger than block {cursor.number}, which was read before"
            await self._halt(cursor, reason)
        else:
            log.info("watcher.endpoint_lags", head=head.number, cursor=cursor.number)

    async def _halt(self, cursor: Cursor, reason: str) -> None:
        reason = f"chain changed: {reason}"
        async with self._engine.begin() as tx:
            await cursors.halt(tx, cursor, reason, break_id=self._entropy.uuid7(), now=self._clock.now())
        log.error("watcher.chain_changed", reason=reason)

    # --- another database ---------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """A restore or a promotion: what was signed in lost commits may still land, and is adopted when it does."""
        async with self._engine.begin() as tx:
            begun = await recoveries.begin(tx, now=self._clock.now(), break_id=self._entropy.uuid7())
        if begun:
            log.error("watcher.database_recovered", pause_seconds=recoveries.PAUSE.total_seconds())

    # --- one range ----------------------------------------------------------------------------------------------------

    async def _apply(self, cursor: Cursor, blocks: Sequence[Block]) -> None:
        known = await self._look_up(blocks, adopting=cursor.recovering)
        draft = BlockRange(self._chain, self._rail, self._entropy, known, self._clock.now())
        for block in blocks:
            for transfer in block.transfers:
                draft.add_transfer(transfer)
            draft.add_fees(block.fees)
        for receipt in await self._failed_receipts(blocks, draft):
            draft.add_failure(receipt)
        await self._submit(draft.command(cursor, blocks[-1]))

    async def _submit(self, command: Command) -> None:
        """Have the range committed. When the cursor, an item or an address moved meanwhile, it is read anew."""
        outcome = await self._writer.submit(command)
        assert command.cursor is not None
        if isinstance(outcome, Applied):
            log.debug("watcher.applied", to=command.cursor.number, items=len(command.transitions))
        else:
            note = log.info if isinstance(outcome.error, StateConflict) else log.error
            note("watcher.range_not_applied", to=command.cursor.number, reason=str(outcome.error))

    async def _look_up(self, blocks: Sequence[Block], *, adopting: bool) -> Known:
        """What the books know of everything the range mentions."""
        transfers = [transfer for block in blocks for transfer in block.transfers]
        fees = [fee for block in blocks for fee in block.fees]
        addresses = {end for t in transfers for end in (t.sender, t.recipient)} | {fee.payer for fee in fees}
        hashes = {t.transaction_hash for t in transfers} | {fee.transaction_hash for fee in fees}
        if not hashes:
            return Known()
        async with self._engine.connect() as tx:
            holders = await custody.holders_of(tx, addresses)
            ours = await attempts.by_reference(tx, hashes)
            sales = await treasury_sales.by_attempt(tx, ours.values())
            carried = await settlements.items_of_attempts(tx, ours.values())
            items = {item.candidate.item_id: item for group in carried.values() for item in group}
            memos = {t.item_id for t in transfers if t.item_id and t.transaction_hash not in ours}
            adoptable = await settlements.items_by_id(tx, memos) if adopting else {}
            found = (*items.values(), *adoptable.values())
            outgoing = [item.candidate.item_id for item in found if item.candidate.recipient == OUTSIDE]
            holds = await withdrawals.by_item(tx, outgoing)
        return Known(
            holders=holders,
            attempts=ours,
            items=items,
            carried=carried,
            adoptable=adoptable,
            withdrawals=holds,
            sales={reference: sales[attempt] for reference, attempt in ours.items() if attempt in sales},
            blocks={block.number: block for block in blocks},
        )

    async def _failed_receipts(self, blocks: Sequence[Block], draft: BlockRange) -> list[Receipt]:
        """Attempts that paid their fee in this range but moved nothing: their receipts say status 0."""
        suspects = draft.silent_attempts({fee.transaction_hash for block in blocks for fee in block.fees})
        if not suspects:
            return []
        receipts = await self._reader.receipts(suspects)
        missing = set(suspects) - receipts.keys()
        if missing:
            raise ProviderUnavailable(f"no receipt yet for {len(missing)} transactions of a finalized block")
        return [receipt for receipt in receipts.values() if not receipt.succeeded]
