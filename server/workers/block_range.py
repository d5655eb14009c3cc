"""What one range of finalized blocks does to the books, collected into one command.

Kept apart from the watcher because it is pure: it is given the blocks and everything the books know of the addresses,
hashes and memos in them, and does no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from domain.chain_events import Expected, LogOrigin, Meaning, Transfer, meaning
from domain.clock import Entropy
from domain.commands import (
    AttemptOutcome,
    Break,
    Command,
    ConsumedLog,
    CursorMove,
    CustodyChange,
    ItemTransition,
    RecordKind,
    RecordTransition,
)
from domain.identity import OPERATOR, AttemptId, HolderId, ItemId, TransactionId, is_consumer
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, operator_account
from domain.settlement import IN_FLIGHT, AttemptState, ItemState, Rail, retry_after
from domain.treasury import SaleState, StoredSale
from domain.withdrawals import Withdrawal, posted
from providers.base import Block, FeeLog, Receipt, TransferLog
from storage.cursors import Cursor
from storage.custody import TempoAddress
from storage.settlements import StoredItem


@dataclass(frozen=True, slots=True)
class Known:
    """What the books know of everything the range mentions."""

    holders: Mapping[str, TempoAddress] = field(default_factory=dict)
    attempts: Mapping[str, AttemptId] = field(default_factory=dict)
    items: Mapping[ItemId, StoredItem] = field(default_factory=dict)
    carried: Mapping[AttemptId, list[StoredItem]] = field(default_factory=dict)
    adoptable: Mapping[ItemId, StoredItem] = field(default_factory=dict)
    """Items named by memos of transactions that nobody knows, while the database recovers (rule 15)."""
    withdrawals: Mapping[ItemId, Withdrawal] = field(default_factory=dict)
    sales: Mapping[str, StoredSale] = field(default_factory=dict)
    """Sales of the treasury's, by the hash of the chain transaction that carries them."""
    blocks: Mapping[int, Block] = field(default_factory=dict)


@dataclass(slots=True)
class BlockRange:
    """The command of one range, as it grows log by log."""

    chain: str
    rail: Rail
    entropy: Entropy
    known: Known
    now: datetime
    transactions: list[Transaction] = field(default_factory=list)
    postings: list[tuple[Posting, ...]] = field(default_factory=list)
    custody: list[CustodyChange] = field(default_factory=list)
    transitions: list[ItemTransition] = field(default_factory=list)
    attempts: dict[str, AttemptOutcome] = field(default_factory=dict)
    logs: list[ConsumedLog] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    records: list[RecordTransition] = field(default_factory=list)
    tainted: set[str] = field(default_factory=set)
    settled: set[ItemId] = field(default_factory=set)
    fees: dict[tuple[HolderId, Asset], int] = field(default_factory=dict)

    def add_transfer(self, event: TransferLog) -> None:
        """Book one transfer log for what it means."""
        transfer, expected = self._transfer(event), self._expected(event)
        sale = self.known.sales.get(event.transaction_hash)
        kind = meaning(transfer, expected, sale)
        if kind is Meaning.FOREIGN:
            return
        if kind is Meaning.EXCHANGE and sale is not None:
            self._trade(event, sale)
        elif kind is Meaning.SETTLEMENT and expected is not None:
            self._settle(event, expected)
        elif kind is Meaning.BREAK:
            self._report(event, "unexpected_transfer")
        else:
            self._book_outside(event, transfer, kind)
        item_id = expected.candidate.item_id if kind is Meaning.SETTLEMENT and expected else None
        self.logs.append(
            ConsumedLog(
                chain=self.chain,
                transaction_hash=event.transaction_hash,
                log_index=event.log_index,
                meaning=kind,
                item_id=item_id,
            )
        )

    def _transfer(self, event: TransferLog) -> Transfer:
        sender, recipient = self.known.holders.get(event.sender), self.known.holders.get(event.recipient)
        return Transfer(
            asset=event.asset,
            micros=event.micros,
            transaction_hash=event.transaction_hash,
            sender=sender.holder if sender else None,
            recipient=recipient.holder if recipient else None,
            recipient_address=event.recipient,
            recipient_assigned=recipient is not None and recipient.state == "assigned",
        )

    def _expected(self, event: TransferLog) -> Expected | None:
        if event.item_id is None or event.item_id in self.settled:
            return None
        adopted = self.known.adoptable.get(ItemId(event.item_id))
        item = adopted or self.known.items.get(ItemId(event.item_id))
        if item is None:
            return None
        ours = adopted is not None or event.transaction_hash in self.known.attempts
        references = frozenset({event.transaction_hash}) if ours else frozenset[str]()
        return Expected(item.candidate, item.state, references, adopted=adopted is not None)

    def _settle(self, event: TransferLog, expected: Expected) -> None:
        """The item is true on the rail now: move custody from holder to holder, and free what was reserved."""
        item = expected.candidate
        self.settled.add(item.item_id)
        self.transitions.append(
            ItemTransition(
                item_id=item.item_id,
                expected=frozenset({expected.state}) if expected.adopted else IN_FLIGHT,
                state=ItemState.CONFIRMED,
                transaction_hash=event.transaction_hash,
                block_number=event.block_number,
                log_index=event.log_index,
                at=event.block_time,
            )
        )
        reserved = 0 if expected.state is ItemState.PENDING else item.micros
        self.custody.append(CustodyChange(item.sender, self.rail, item.asset, -item.micros, -reserved))
        if is_consumer(item.recipient) or item.recipient == OPERATOR:
            self.custody.append(CustodyChange(item.recipient, self.rail, item.asset, item.micros))
        attempt_id = self.known.attempts.get(event.transaction_hash)
        if attempt_id is not None:
            outcome = AttemptOutcome(attempt_id=attempt_id, state=AttemptState.CONFIRMED, at=event.block_time)
            self.attempts[event.transaction_hash] = outcome
        withdrawal = self.known.withdrawals.get(item.item_id)
        if withdrawal is not None:
            self._post(withdrawal, at=event.block_time)

    def _post(self, withdrawal: Withdrawal, *, at: datetime) -> None:
        """The money has left for good, and with it the ledger's hold: from here on the item counts (rule 16)."""
        transaction_id = TransactionId(self.entropy.uuid7())
        end = posted(withdrawal, transaction_id=transaction_id, caller="worker:watcher", at=at)
        self.transactions.append(end.transaction)
        self.postings.append(end.postings)
        self.records.append(end.transition)

    def _book_outside(self, event: TransferLog, transfer: Transfer, kind: Meaning) -> None:
        """Money that came from outside, or left the float by hand."""
        if kind is Meaning.FLOAT_OUT and transfer.sender is not None:
            self._report(event, "float_moved_by_hand")
            self._move_float_out(event, transfer)
            return
        assert transfer.recipient is not None
        target, transaction_kind = {
            Meaning.DEPOSIT: (available(transfer.recipient), TransactionKind.DEPOSIT),
            Meaning.SUSPENSE: (operator_account(AccountKind.SUSPENSE), TransactionKind.SUSPENSE),
            Meaning.FLOAT_IN: (operator_account(AccountKind.TREASURY), TransactionKind.FLOAT),
        }[kind]
        if kind is Meaning.SUSPENSE:
            self.tainted.add(event.recipient)
            self._report(event, "deposit_to_unassigned_address")
        posting = Posting(operator_account(AccountKind.EXTERNAL_TEMPO), target, event.asset, event.micros)
        self._record(event, transaction_kind, transfer.recipient, posting)
        self.custody.append(CustodyChange(transfer.recipient, self.rail, event.asset, event.micros))

    def _move_float_out(self, event: TransferLog, transfer: Transfer) -> None:
        assert transfer.sender is not None
        self.custody.append(CustodyChange(transfer.sender, self.rail, event.asset, -event.micros))
        if transfer.recipient is not None:
            self.custody.append(CustodyChange(transfer.recipient, self.rail, event.asset, event.micros))
            return
        treasury, outside = operator_account(AccountKind.TREASURY), operator_account(AccountKind.EXTERNAL_TEMPO)
        posting = Posting(treasury, outside, event.asset, event.micros)
        self._record(event, TransactionKind.FLOAT, transfer.sender, posting)

    def _trade(self, event: TransferLog, sale: StoredSale) -> None:
        """One side of a sale: what was sold goes to the exchange, and what it brought comes from there (rule 17)."""
        exchange, treasury = operator_account(AccountKind.EXTERNAL_DEX), operator_account(AccountKind.TREASURY)
        if event.asset is sale.sell.asset:
            self._record(
                event, TransactionKind.EXCHANGE, OPERATOR, Posting(treasury, exchange, event.asset, event.micros)
            )
            sold = CustodyChange(OPERATOR, self.rail, event.asset, -event.micros, -sale.sell.micros)
            self.custody.append(sold)
            return
        self._record(event, TransactionKind.EXCHANGE, OPERATOR, Posting(exchange, treasury, event.asset, event.micros))
        self.custody.append(CustodyChange(OPERATOR, self.rail, event.asset, event.micros))
        self.records.append(_ended(sale, SaleState.CONFIRMED, event.block_time, bought_micros=event.micros))
        outcome = AttemptOutcome(attempt_id=sale.attempt_id, state=AttemptState.CONFIRMED, at=event.block_time)
        self.attempts[event.transaction_hash] = outcome

    def _record(self, event: TransferLog, kind: TransactionKind, holder: HolderId, posting: Posting) -> None:
        origin = LogOrigin(event.transaction_hash, event.log_index, event.sender)
        self._add(kind, holder, posting, reference=str(origin))

    def _add(self, kind: TransactionKind, holder: HolderId, posting: Posting, *, reference: str) -> None:
        """One transaction of one posting."""
        self.transactions.append(
            Transaction(
                id=TransactionId(self.entropy.uuid7()),
                kind=kind,
                consumer_id=holder,
                counterparty_id=None,
                asset=posting.asset,
                micros=posting.micros,
                caller="worker:watcher",
                reference=reference,
            )
        )
        self.postings.append((posting,))

    def _report(self, event: TransferLog, kind: str) -> None:
        facts = {
            "asset": str(event.asset),
            "micros": str(event.micros),
            "sender": event.sender,
            "recipient": event.recipient,
            "block": str(event.block_number),
        }
        subject = f"{event.transaction_hash}:{event.log_index}"
        self.breaks.append(Break(self.entropy.uuid7(), kind, subject, facts))

    def add_fees(self, fees: Sequence[FeeLog]) -> None:
        """Network fees are the operator's expense, whoever's attempt they were for, status 0 included (rule 17)."""
        for fee in fees:
            payer = self.known.holders.get(fee.payer)
            if payer is None or fee.asset is None or is_consumer(payer.holder):
                continue
            key = (payer.holder, fee.asset)
            self.fees[key] = self.fees.get(key, 0) + fee.micros
            outcome = self.attempts.get(fee.transaction_hash)
            if outcome is not None:
                paid = replace(outcome, fee_asset=fee.asset, fee_micros=fee.micros)
                self.attempts[fee.transaction_hash] = paid

    def silent_attempts(self, paid: set[str]) -> list[str]:
        """Attempts of ours that paid a fee in this range without settling anything."""
        ours = [hash_ for hash_ in sorted(paid & self.known.attempts.keys()) if hash_ not in self.attempts]
        return [hash_ for hash_ in ours if hash_ in self.known.sales or self.known.carried[self.known.attempts[hash_]]]

    def add_failure(self, receipt: Receipt) -> None:
        """Status 0 in a finalized block: the fee was paid, nothing moved, the items may be tried again (rule 1).

        They keep the attempt's id, which makes them suspects: each goes alone next time.
        """
        attempt_id = self.known.attempts[receipt.reference]
        block = self.known.blocks[receipt.block_number]
        sale = self.known.sales.get(receipt.reference)
        if sale is not None:
            self.records.append(_ended(sale, SaleState.FAILED, block.time))
            self.custody.append(CustodyChange(OPERATOR, self.rail, sale.sell.asset, 0, -sale.sell.micros))
        for item in self.known.carried[attempt_id]:
            if item.state not in IN_FLIGHT:
                continue
            candidate = item.candidate
            self.transitions.append(
                ItemTransition(
                    item_id=candidate.item_id,
                    expected=IN_FLIGHT,
                    state=ItemState.PENDING,
                    reason=f"reverted in block {receipt.block_number}",
                    failed=True,
                    not_before=self.now + retry_after(candidate.failures),
                )
            )
            self.custody.append(CustodyChange(candidate.sender, self.rail, candidate.asset, 0, -candidate.micros))
        fee = receipt.fee
        self.attempts[receipt.reference] = AttemptOutcome(
            attempt_id=attempt_id,
            state=AttemptState.FAILED,
            at=block.time,
            fee_asset=fee.asset if fee else None,
            fee_micros=fee.micros if fee else None,
        )

    def command(self, cursor: Cursor, last: Block) -> Command:
        """Everything of the range, in one command that moves the cursor."""
        self._book_fees(last)
        return Command(
            transactions=tuple(self.transactions),
            postings=tuple(self.postings),
            custody=tuple(self.custody),
            transitions=tuple(self.transitions),
            attempts=tuple(self.attempts.values()),
            logs=tuple(self.logs),
            breaks=tuple(self.breaks),
            record_transitions=tuple(self.records),
            tainted=tuple(sorted(self.tainted)),
            cursor=CursorMove(
                chain=self.chain,
                expected_number=cursor.number,
                expected_hash=cursor.hash,
                number=last.number,
                hash=last.hash,
                at=last.time,
            ),
        )

    def _book_fees(self, last: Block) -> None:
        expense, outside = operator_account(AccountKind.NETWORK_FEES), operator_account(AccountKind.EXTERNAL_TEMPO)
        for (payer, asset), micros in sorted(self.fees.items()):
            if micros:
                self.custody.append(CustodyChange(payer, self.rail, asset, -micros))
                posting = Posting(expense, outside, asset, micros)
                self._add(TransactionKind.NETWORK_FEE, payer, posting, reference=f"{self.chain}:{last.number}")


def _ended(sale: StoredSale, state: SaleState, at: datetime, **values: int) -> RecordTransition:
    return RecordTransition(
        kind=RecordKind.TREASURY_SALE,
        id=sale.id,
        expected=frozenset({SaleState.SIGNED}),
        state=state,
        values={**values, "closed_at": at},
    )
