"""What a use case wants to become true in the ledger: commands, pure data.

Whatever touches the ledger is a `Command`: transactions with their postings, limit use, the caller's request, and every
effect that belongs into the same commit (settlement items, custody changes, records, audit facts), with the states that
are expected to be found. `domain/ledger.py` decides about them; if one expectation fails, the whole command is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from domain.audit import AuditFact
from domain.errors import WalletError
from domain.identity import HolderId, ItemId, TransactionId, is_consumer
from domain.money import Asset
from domain.postings import Posting, Transaction
from domain.settlement import AttemptState, ItemState, Rail


@dataclass(frozen=True, slots=True)
class Request:
    """The caller's idempotency key: `key` is unique for `owner` for ever, `body_hash` says what it was used for."""

    owner: HolderId
    key: UUID
    body_hash: bytes
    sent_as: str = ""
    """The id as the caller wrote it, for an answer that the caller recognises."""


class NewItem(NamedTuple):
    """A settlement item: what has to become true on a rail because of this command."""

    id: ItemId
    sender: HolderId
    recipient: HolderId
    asset: Asset
    micros: int
    destination: str | None = None
    counts: bool = True
    """Whether the ledger already moved the money. A withdrawal's item counts only once its hold is posted (rule 16)."""
    group_id: UUID | None = None
    state: ItemState = ItemState.PENDING
    """BLOCKED from the start when it only records what cannot be moved (rule 10)."""
    transaction_id: TransactionId | None = None
    """The transaction it settles part of, when that is not the first of its command."""
    reason: str = ""
    """Why it is BLOCKED, if it is."""


@dataclass(frozen=True, slots=True)
class CustodyChange:
    """A confirmed change of what stands on a rail for a holder, and of what is reserved there for debits in flight."""

    holder: HolderId
    rail: Rail
    asset: Asset
    micros: int
    reserved_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTransition:
    """Move one settlement item from any of the expected states to another.

    A worker that decides about an item it claimed names its lease; whoever lost the lease decides nothing (rule 2).
    """

    item_id: ItemId
    expected: frozenset[ItemState]
    state: ItemState
    lease_token: int | None = None
    transaction_hash: str | None = None
    block_number: int | None = None
    log_index: int | None = None
    at: datetime | None = None
    reason: str = ""
    counts: bool | None = None
    failed: bool = False
    """The item goes back to its queue because an attempt failed."""
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """What became of a signed attempt, with the network fee of its receipt."""

    attempt_id: UUID
    state: AttemptState
    at: datetime
    fee_asset: Asset | None = None
    fee_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """A difference between the ledger and a rail. Written down, never repaired silently."""

    id: UUID
    kind: str
    subject: str
    facts: dict[str, str]


class RecordKind(StrEnum):
    """Records with a state machine of their own that move together with money; each is the name of its table."""

    BATCH_TRANSFER = "batch_transfers"
    DEPOSIT = "deposits"
    WITHDRAWAL = "withdrawals"
    SWAP_QUOTE = "swap_quotes"
    PAYMENT_REQUEST = "payment_requests"
    SCHEDULED_TRANSFER = "scheduled_transfers"
    SCHEDULED_RUN = "scheduled_runs"
    ADJUSTMENT = "adjustments"
    BANK_ACCOUNT = "bank_accounts"
    BANK_DEPOSIT = "bank_deposits"
    BANK_PAYOUT = "bank_payouts"
    TREASURY_SALE = "treasury_sales"
    PROVIDER_JOB = "provider_jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """A record that comes into being with this command; `values` are its columns besides the id."""

    kind: RecordKind
    id: UUID
    values: Mapping[str, Any]
    limit_day_column: str | None = None
    """The column that takes the day at whose counter this command's limit use is reserved (money rule 24)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTransition:
    """Move a record from any of the expected states to another, and set what else changes with it.

    `refusals` says what the caller is told for each other state that is found; for the rest it is a `StateConflict`.
    From `expires_at` on, a record in an expected state is taken to be in the state EXPIRED, whatever its row says.
    """

    kind: RecordKind
    id: UUID
    expected: frozenset[str]
    state: str
    values: Mapping[str, Any] = field(default_factory=dict)
    refusals: Mapping[str, WalletError] = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorMove:
    """The chain watcher's progress: applies only if nobody moved the cursor since it was read."""

    chain: str
    expected_number: int
    expected_hash: str
    number: int
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumedLog:
    """A chain log that this command accounts for; each is consumed once (money rule 12)."""

    chain: str
    transaction_hash: str
    log_index: int
    meaning: str
    item_id: ItemId | None = None


@dataclass(frozen=True, slots=True)
class FeeSweep:
    """Part of a consumer's unswept fees that an item of this command moves to the operator."""

    consumer: HolderId
    asset: Asset
    micros: int


@dataclass(frozen=True, slots=True)
class LimitReturn:
    """Give a reservation back to the day at whose counter it was taken (money rules 11 and 24)."""

    consumer: HolderId
    day: date
    usd_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Part of a received transfer that its recipient gives back; never more in all than what was received.

    Only its recipient refunds a transfer, so the lock of that wallet puts all refunds of it into one order.
    """

    transaction_id: TransactionId
    """The transfer that is given back."""
    received_micros: int
    micros: int
    all_that_is_left: bool = False
    """The amount is what was left when the command was built; if that has changed, the command is built anew."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Everything one use case wants to become true in one commit, or nothing of it."""

    transactions: tuple[Transaction, ...] = ()
    postings: tuple[tuple[Posting, ...], ...] = ()
    """The postings of each transaction, in the same order as `transactions`."""
    request: Request | None = None
    sender: HolderId | None = None
    """The consumer at whose wish money leaves: must exist, must not be frozen, is held to the limit."""
    limit_usd_micros: int = 0
    limit_return: LimitReturn | None = None
    items: tuple[NewItem, ...] = ()
    fee_sweeps: tuple[FeeSweep, ...] = ()
    custody: tuple[CustodyChange, ...] = ()
    transitions: tuple[ItemTransition, ...] = ()
    attempts: tuple[AttemptOutcome, ...] = ()
    cursor: CursorMove | None = None
    logs: tuple[ConsumedLog, ...] = ()
    tainted: tuple[str, ...] = ()
    """Unassigned addresses that received money: the pool never gives them to anybody (money rule 13)."""
    breaks: tuple[Break, ...] = ()
    new_records: tuple[NewRecord, ...] = ()
    record_transitions: tuple[RecordTransition, ...] = ()
    audits: tuple[AuditFact, ...] = ()
    refund: Refund | None = None
    places: Mapping[UUID, str] = field(default_factory=dict)
    """Where in the caller's request each party is named, for a refusal about that party."""
    doom: WalletError | None = None
    """A refusal found while building the command; it is given only if the request id is new (money rule 22)."""

    @cached_property
    def balance_keys(self) -> Collection[BalanceKey]:
        """The consumer balances this command may change, in the order in which it names them."""
        keys = {
            (account.owner, posting.asset): None
            for postings in self.postings
            for posting in postings
            for account in (posting.source, posting.target)
            if is_consumer(account.owner)
        }
        keys.update(((item.sender, item.asset), None) for item in self.items if is_consumer(item.sender))
        keys.update(((sweep.consumer, sweep.asset), None) for sweep in self.fee_sweeps)
        return keys.keys()

    @cached_property
    def wallet_ids(self) -> Collection[UUID]:
        """The wallets whose flags and counters decide about this command."""
        ids = {owner for owner, _ in self.balance_keys}
        for holder in (
            self.sender,
            self.request and self.request.owner,
            self.limit_return and self.limit_return.consumer,
        ):
            if holder and is_consumer(holder):
                ids.add(holder)
        return ids


EXPIRED = "EXPIRED"
"""The state of a record whose time is over. Nobody has to be there to write it down."""


BalanceKey = tuple[UUID, Asset]
CustodyKey = tuple[UUID, Rail, Asset]
RecordKey = tuple[RecordKind, UUID]
