"""How the books begin: after one finalized block, with what stands at the operator's own addresses there.

A float does not come out of nothing: whatever the operator and its fee payer held when the watcher began is booked as
float in from outside, in the commit that opens the cursor, so that the first proof is clean. The cursor is created
first, unopened, so that a crash in between opens the same books at the same block.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.clock import Entropy
from domain.commands import Command, CursorMove, CustodyChange
from domain.identity import HolderId, TransactionId
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, operator_account
from domain.settlement import Rail
from providers.base import Block, ChainReader
from storage.cursors import Cursor
from storage.custody import TempoAddress

Floats = Mapping[tuple[HolderId, Asset], int]


async def floats_at(reader: ChainReader, own: Mapping[HolderId, TempoAddress], *, block: int) -> Floats:
    """What the operator's addresses hold of each asset at that block."""
    floats: dict[tuple[HolderId, Asset], int] = {}
    for asset in Asset:
        balances = await reader.balances([found.address for found in own.values()], asset, at_block=block)
        floats.update({(holder, asset): balances[found.address] for holder, found in own.items()})
    return floats


def opening(cursor: Cursor, block: Block, floats: Floats, *, rail: Rail, entropy: Entropy) -> Command:
    """The command that opens the books at the cursor's block."""
    held = {key: micros for key, micros in sorted(floats.items()) if micros}
    outside, treasury = operator_account(AccountKind.EXTERNAL_TEMPO), operator_account(AccountKind.TREASURY)
    return Command(
        transactions=tuple(
            Transaction(
                id=TransactionId(entropy.uuid7()),
                kind=TransactionKind.FLOAT,
                consumer_id=holder,
                counterparty_id=None,
                asset=asset,
                micros=micros,
                caller="worker:watcher",
                reference=f"{cursor.chain}:{block.number}",
            )
            for (holder, asset), micros in held.items()
        ),
        postings=tuple((Posting(outside, treasury, asset, micros),) for (_, asset), micros in held.items()),
        custody=tuple(CustodyChange(holder, rail, asset, micros) for (holder, asset), micros in held.items()),
        cursor=CursorMove(
            chain=cursor.chain,
            expected_number=cursor.number,
            expected_hash=cursor.hash,
            number=block.number,
            hash=block.hash,
            at=block.time,
        ),
    )
