"""The stream of a wallet's transactions: every ledger event once and in order, and how settlement goes on behind it.

The balance feed says when there is something new, the versions of the balances say what: whatever is read lies behind
the cursor, so a lost hint costs seconds and never an event. Settlement is asked about together with all other streams.
"""

from __future__ import annotations

import asyncio
from asyncio import create_task, ensure_future
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from uuid import UUID

from domain.clock import Clock
from domain.identity import ConsumerId
from domain.money import Asset
from domain.postings import TransactionKind
from domain.streams import ItemStates, Mark, StreamPosition, as_told
from monay.wallet.v1 import transaction_pb2 as pb
from monay.wallet.v1.money_pb2 import Heartbeat
from server.api import resume_cursors
from server.api.access import Call
from server.api.convert import timestamp
from server.api.transactions import SHOWN_KINDS, other_party, settlement, transaction, whole_state
from server.balance_feed import BalanceFeed, Watch
from server.settlement_feed import SettlementFeed, States
from storage import epochs, following, transactions
from storage.balances import BalanceReading
from storage.consumers import Directory
from storage.database import Engine, Tx, reading
from storage.following import EntryLine
from storage.transactions import Recorded

# The contract promises a sign of life every 30 seconds.
HEARTBEAT_SECONDS = 20.0
PAGE = 200
# Streams are many and may have news at once: they take turns at so many connections, and calls find theirs free.
READERS = 4

_WITHDRAWAL_STEPS = {
    TransactionKind.WITHDRAWAL: pb.TRANSACTION_STATE_PENDING,
    TransactionKind.WITHDRAWAL_POSTED: pb.TRANSACTION_STATE_COMPLETED,
    TransactionKind.WITHDRAWAL_RELEASED: pb.TRANSACTION_STATE_FAILED,
}
"""What each step of a withdrawal made of it. A stream tells the steps, also when it tells them late."""

Message = pb.WatchTransactionsResponse


class TransactionStreams:
    """WatchTransactions."""

    def __init__(
        self, *, engine: Engine, directory: Directory, feed: BalanceFeed, settlements: SettlementFeed, clock: Clock
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._feed = feed
        self._settlements = settlements
        self._clock = clock
        self._readers = asyncio.Semaphore(READERS)

    async def watch_transactions(self, request: pb.WatchTransactionsRequest, call: Call) -> AsyncIterator[Message]:
        async with self._feed.watch(call.consumer_id) as watch:
            newest = await watch.next()
            stream = await self._open(call.consumer_id, request.resume_cursor, newest)
            if not request.resume_cursor:
                yield self._heartbeat(stream)
            async with aclosing(self._follow(stream, watch)) as messages:
                step = ensure_future(anext(messages))
                try:
                    while True:
                        done, _ = await asyncio.wait({step}, timeout=HEARTBEAT_SECONDS)
                        yield step.result() if done else self._heartbeat(stream)
                        step = ensure_future(anext(messages)) if done else step
                finally:
                    # Nobody may be inside the messages when they are closed.
                    step.cancel()
                    await asyncio.wait({step})

    async def _follow(self, stream: _Stream, watch: Watch) -> AsyncGenerator[Message, None]:
        """Everything that happens from here on. It ends with an error only."""
        # Two things to wait for, both begun before anything is read, so that nothing falls between.
        news, look = create_task(watch.next()), create_task(self._look(stream))
        try:
            async for message in stream.events():
                yield message
            while True:
                await asyncio.wait({news, look}, return_when=asyncio.FIRST_COMPLETED)
                if news.done():
                    news.result()
                    news = create_task(watch.next())
                    async for message in stream.events():
                        yield message
                if look.done():
                    async for message in stream.progress(look.result()):
                        yield message
                    look = create_task(self._look(stream))
        finally:
            news.cancel()
            look.cancel()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Tx]:
        """A connection, when it is this stream's turn."""
        async with self._readers, reading(self._engine) as tx:
            yield tx

    async def _open(self, wallet: ConsumerId, cursor: str, newest: Sequence[BalanceReading]) -> _Stream:
        async with self._reading() as tx:
            epoch = await epochs.current(tx)
            versions = {one.asset: one.version for one in newest}
            mark = resume_cursors.decode(cursor, wallet=wallet, epoch=epoch) if cursor else Mark.at(versions)
            if any(version > versions[asset] for asset, version in mark.told.items()):
                raise resume_cursors.too_old(wallet=wallet, epoch=epoch)
            position = StreamPosition.resumed(mark)
            for entry, transaction_id in (await following.transactions_of(tx, wallet, mark.named)).items():
                position.follow(entry, transaction_id)
        return _Stream(wallet, epoch, position, self._reading, self._directory)

    async def _look(self, stream: _Stream) -> States:
        """How everything stands that the stream follows; nothing to follow is never answered."""
        await stream.find_unseen()
        while not stream.position.followed:
            await stream.follows.wait()
            stream.follows.clear()
        return await self._settlements.look(list(stream.position.followed))

    def _heartbeat(self, stream: _Stream) -> Message:
        return Message(cursor=stream.cursor(), heartbeat=Heartbeat(time=timestamp(self._clock.now())))


class _Stream:
    """One open stream: its place, and how the next messages are made."""

    def __init__(
        self,
        wallet: ConsumerId,
        epoch: UUID,
        position: StreamPosition,
        reading: Callable[[], AbstractAsyncContextManager[Tx]],
        directory: Directory,
    ) -> None:
        self.wallet = wallet
        self.position = position
        self.follows = asyncio.Event()
        self._epoch = epoch
        self._reading = reading
        self._directory = directory

    def cursor(self) -> str:
        return resume_cursors.encode(self.position.mark(), wallet=self.wallet, epoch=self._epoch)

    async def events(self) -> AsyncIterator[Message]:
        """What the ledger did behind the stream's place, page by page, until there is nothing more."""
        while True:
            async with self._reading() as tx:
                lines = await following.entries_behind(tx, self.wallet, self.position.told, limit=PAGE)
                shown = await self._shown(tx, lines)
            for line in lines:
                event = shown.get((line.asset, line.version))
                if event is None:
                    self.position.tell((line.asset, line.version))
                    continue
                self._told(line, event)
                yield Message(cursor=self.cursor(), transaction=event[1])
            if len(lines) < PAGE:
                return

    def _told(self, line: EntryLine, event: tuple[Recorded, pb.Transaction]) -> None:
        recorded = event[0]
        # Of a withdrawal's later steps the item belongs to the first, which is followed since then.
        own = line.transaction_id == recorded.transaction.id
        states = {receipt.item_id: as_told(receipt.state) for receipt in recorded.receipts} if own else {}
        self.position.tell((line.asset, line.version), line.transaction_id, states)
        self.follows.set()

    async def progress(self, states: States) -> AsyncIterator[Message]:
        """The items that moved on, each with the latest it came to."""
        for transaction_id, found in states.items():
            moved = self.position.moved(transaction_id, found)
            if moved:
                async with self._reading() as tx:
                    receipts = await transactions.receipts(tx, moved)
                messages = [_update(transaction_id, found, settlement(receipt)) for receipt in receipts]
            else:
                messages = []
            # The cursor of the last message says that all of them were told; those before it, that none was.
            for message in messages[:-1]:
                message.cursor = self.cursor()
                yield message
            self.position.update(transaction_id, found)
            for message in messages[-1:]:
                message.cursor = self.cursor()
                yield message

    async def find_unseen(self) -> None:
        """Follow what was told before the stream was resumed, or while there was no room for more."""
        while unseen := self.position.unseen():
            behind, last = ({asset: pair[i] for asset, pair in unseen.items()} for i in (0, 1))
            async with self._reading() as tx:
                lines = await following.entries_behind(tx, self.wallet, behind, last=last, limit=PAGE)
            for line in lines:
                self.position.see((line.asset, line.version), line.transaction_id)

    async def _shown(
        self, tx: Tx, lines: Sequence[EntryLine]
    ) -> dict[tuple[Asset, int], tuple[Recorded, pb.Transaction]]:
        """The entries that are events, with the transaction each is about.

        A transaction with an entry in each of two assets is one event, told with its header's asset. A step of a
        withdrawal is told as the withdrawal in another state.
        """
        found = await transactions.get_all(tx, {line.transaction_id for line in lines})
        steps = {
            line.transaction_id: UUID(found[line.transaction_id].transaction.reference)
            for line in lines
            if line.kind in (TransactionKind.WITHDRAWAL_POSTED, TransactionKind.WITHDRAWAL_RELEASED)
        }
        found |= await transactions.get_all(tx, set(steps.values()) - found.keys()) if steps else {}
        about = {
            (line.asset, line.version): (line.kind, found[steps.get(line.transaction_id, line.transaction_id)])
            for line in lines
            if found[line.transaction_id].transaction.asset is line.asset
        }
        events = {entry: one for entry, one in about.items() if one[1].transaction.kind in SHOWN_KINDS}
        others = {other_party(recorded.transaction, self.wallet) for _, recorded in events.values()}
        handles = await self._directory.handles(tx, [other for other in others if other is not None])
        return {entry: (one[1], self._proto(*one, handles)) for entry, one in events.items()}

    def _proto(self, kind: TransactionKind, recorded: Recorded, handles: dict[UUID, str]) -> pb.Transaction:
        proto = transaction(recorded, self.wallet, handles)
        proto.state = _WITHDRAWAL_STEPS.get(kind, proto.state)
        return proto


def _update(transaction_id: UUID, states: ItemStates, moved: pb.Settlement) -> Message:
    update = pb.SettlementUpdate(
        transaction_id=str(transaction_id), settlement_state=whole_state(list(states.values())), settlement=moved
    )
    return Message(settlement=update)
