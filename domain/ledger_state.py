"""What the ledger decides on, what it answers, and what it then writes.

A consumer's two accounts of an asset (available and held) live in one locked row, their *balance*; each transaction
that touches a balance raises its `version` by one and leaves one *entry* there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from domain.audit import AuditFact
from domain.commands import (
    AttemptOutcome,
    BalanceKey,
    Break,
    ConsumedLog,
    CursorMove,
    CustodyChange,
    CustodyKey,
    ItemTransition,
    NewItem,
    NewRecord,
    RecordKey,
    RecordTransition,
    Refund,
    Request,
)
from domain.errors import WalletError
from domain.identity import ItemId, TransactionId
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind
from domain.settlement import ItemState


@dataclass(slots=True)
class Wallet:
    """The row that holds a consumer's flags and the day's counter. Locked while a command about it is decided."""

    consumer_id: UUID
    kyc_level: int
    frozen: bool
    usage_day: date
    usage_usd_micros: int
    erased: bool = False
    dirty: bool = False


@dataclass(slots=True)
class Balance:
    """A consumer's accounts of one asset: one locked row."""

    consumer_id: UUID
    asset: Asset
    available: int
    held: int
    unswept_fees: int
    version: int
    changed_at: datetime
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What an earlier use of a request id left behind."""

    body_hash: bytes
    transaction_id: TransactionId | None
    rejection: WalletError | None
    available_after: int
    held_after: int
    version_after: int
    at: datetime


@dataclass(slots=True)
class ItemRow:
    """A settlement item under lock."""

    id: ItemId
    state: ItemState
    lease_token: int = 0


class Entry(NamedTuple):
    """A transaction's effect on one balance."""

    consumer_id: UUID
    asset: Asset
    version: int
    transaction_id: TransactionId
    kind: TransactionKind
    counterparty_id: UUID | None
    available_delta: int
    held_delta: int
    available_after: int
    held_after: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Applied:
    """The command's effects stand, now or (`replayed`) since an earlier call with the same request id."""

    transaction_id: TransactionId | None
    at: datetime
    """When the command's first transaction was recorded."""
    available_after: int = 0
    held_after: int = 0
    version_after: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed, for this reason."""

    error: WalletError
    replayed: bool = False


Outcome = Applied | Refused


@dataclass(slots=True)
class LedgerState:
    """What a batch was decided on: the locked rows, and what was read after locking them."""

    now: datetime
    wallets: dict[UUID, Wallet] = field(default_factory=dict)
    balances: dict[BalanceKey, Balance] = field(default_factory=dict)
    requests: dict[tuple[UUID, UUID], StoredRequest] = field(default_factory=dict)
    items: dict[ItemId, ItemRow] = field(default_factory=dict)
    custody: dict[CustodyKey, int] = field(default_factory=dict)
    cursors: dict[str, tuple[int, str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    """The states of the addresses that commands want to taint."""
    records: dict[RecordKey, str] = field(default_factory=dict)
    """The states of the records that commands want to move."""
    refunded: dict[TransactionId, int] = field(default_factory=dict)
    """How much has been given back of the transfers that commands want to refund."""


@dataclass(slots=True)
class Writes:
    """What the batch changes beyond the rows of its state, in the order in which it was decided."""

    transactions: list[tuple[Transaction, datetime]] = field(default_factory=list)
    postings: list[tuple[TransactionId, int, Posting]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    requests: list[tuple[Request, Outcome]] = field(default_factory=list)
    items: list[tuple[NewItem, TransactionId | None, int, int, datetime]] = field(default_factory=list)
    transitions: list[ItemTransition] = field(default_factory=list)
    custody: list[CustodyChange] = field(default_factory=list)
    attempts: list[AttemptOutcome] = field(default_factory=list)
    logs: list[ConsumedLog] = field(default_factory=list)
    tainted: list[str] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    new_records: list[NewRecord] = field(default_factory=list)
    record_transitions: list[RecordTransition] = field(default_factory=list)
    audits: list[AuditFact] = field(default_factory=list)
    refunds: dict[TransactionId, Refund] = field(default_factory=dict)
    """The last refund of each transfer; how much is given back in all, the state says."""
    cursors: list[CursorMove] = field(default_factory=list)
    system: dict[tuple[AccountKind, Asset], int] = field(default_factory=dict)
