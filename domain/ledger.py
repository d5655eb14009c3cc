"""The ledger's decisions: pure, in order, command by command.

Whatever touches the ledger is a `Command`: pure data that says what should become true, under which conditions. The
ledger writer reads and locks the rows a batch of commands involves into a `LedgerState`; `decide` then takes the
commands one after another, each seeing the effects of those before it, and collects what is to be written. Nothing here
does I/O, so the same code runs in a request, in `validate_only`, in a simulation and in a property test.

A *posting* moves money from one account to another, so every transaction balances by construction. A consumer's two
accounts of an asset (available and held) live in one locked row, their *balance*; each transaction that touches a
balance raises its `version` by one and leaves one *entry* there. Accounts of the operator are append-only: no request
ever locks a system row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

from domain.audit import AuditFact
from domain.errors import (
    BalanceOverflow,
    ConsumerErased,
    ConsumerFrozen,
    ConsumerNotFound,
    IdempotencyKeyReused,
    InsufficientFunds,
    LimitExceeded,
    RecipientFrozen,
    RecipientNotFound,
    RefundTooLarge,
    StateConflict,
    WalletError,
)
from domain.identity import OPERATOR, HolderId, ItemId, TransactionId, is_consumer
from domain.limits import DAILY_LIMIT_MICROS, current_usage, reset_time
from domain.money import MAX_MICROS, Asset
from domain.settlement import AttemptState, ItemState, Rail


class AccountKind(StrEnum):
    """Consumers own `available` and `held`; the rest are the operator's."""

    AVAILABLE = "available"
    HELD = "held"
    FEES = "fees"
    TREASURY = "treasury"
    NETWORK_FEES = "network_fees"
    LOSSES = "losses"
    SUSPENSE = "suspense"
    ESCROW = "escrow"
    EXTERNAL_TEMPO = "external:tempo"
    EXTERNAL_CIRCLE = "external:circle"
    EXTERNAL_MINT = "external:mint"
    EXTERNAL_DEX = "external:dex"


class TransactionKind(StrEnum):
    """What a transaction was for."""

    TRANSFER = "transfer"
    BATCH_TRANSFER = "batch_transfer"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    WITHDRAWAL_POSTED = "withdrawal_posted"
    WITHDRAWAL_RELEASED = "withdrawal_released"
    SWAP = "swap"
    REFUND = "refund"
    FEE_SWEEP = "fee_sweep"
    NETWORK_FEE = "network_fee"
    FLOAT = "float"
    SUSPENSE = "suspense"
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True)
class Account:
    """One ledger account: who owns it and what it is for. The asset comes with the posting."""

    owner: HolderId
    kind: AccountKind


def available(consumer: HolderId) -> Account:
    """What a consumer can spend."""
    return Account(consumer, AccountKind.AVAILABLE)


def held(consumer: HolderId) -> Account:
    """What a consumer has reserved for something under way."""
    return Account(consumer, AccountKind.HELD)


def operator_account(kind: AccountKind) -> Account:
    """One of the operator's accounts."""
    return Account(OPERATOR, kind)


@dataclass(frozen=True, slots=True)
class Posting:
    """Move `micros` of `asset` from `source` to `target`. Always positive."""

    source: Account
    target: Account
    asset: Asset
    micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The header of an immutable, balanced set of postings: what a history shows."""

    id: TransactionId
    kind: TransactionKind
    consumer_id: HolderId
    counterparty_id: HolderId | None
    asset: Asset
    micros: int
    fee_micros: int = 0
    memo: str = ""
    caller: str = ""
    request_id: str = ""
    batch_id: UUID | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """The caller's idempotency key: `key` is unique for `owner` for ever, `body_hash` says what it was used for."""

    owner: HolderId
    key: UUID
    body_hash: bytes
    sent_as: str = ""
    """The id as the caller wrote it, for an answer that the caller recognises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
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


@dataclass(frozen=True, slots=True)
class Entry:
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


def decide(state: LedgerState, commands: Sequence[Command]) -> tuple[list[Outcome], Writes]:
    """Decide each command in order against the state as the ones before it left it."""
    writes = Writes()
    return [_decide_one(state, command, writes) for command in commands], writes


def _decide_one(state: LedgerState, command: Command, writes: Writes) -> Outcome:
    request = command.request
    if request is not None:
        stored = state.requests.get((request.owner, request.key))
        if stored is not None:
            return _replay(command, request, stored)
    try:
        outcome: Outcome = _apply(state, command, writes)
    except WalletError as error:
        outcome = Refused(error)
        if not error.remembered:
            return outcome
    if request is not None:
        state.requests[request.owner, request.key] = _remember(request, outcome, state.now)
        writes.requests.append((request, outcome))
    return outcome


def _replay(command: Command, request: Request, stored: StoredRequest) -> Outcome:
    """The stored answer. After a lost commit the same batch is sent again and finds itself: that is no replay."""
    if stored.body_hash != request.body_hash:
        return Refused(IdempotencyKeyReused(request_id=request.sent_as))
    if stored.rejection is not None:
        return Refused(stored.rejection, replayed=True)
    own = bool(command.transactions) and command.transactions[0].id == stored.transaction_id
    after = (stored.available_after, stored.held_after, stored.version_after)
    return Applied(stored.transaction_id, stored.at, *after, replayed=not own)


def _remember(request: Request, outcome: Outcome, now: datetime) -> StoredRequest:
    if isinstance(outcome, Refused):
        return StoredRequest(request.body_hash, None, outcome.error, 0, 0, 0, now)
    after = (outcome.available_after, outcome.held_after, outcome.version_after)
    return StoredRequest(request.body_hash, outcome.transaction_id, None, *after, outcome.at)


def _apply(state: LedgerState, command: Command, writes: Writes) -> Applied:
    """Check everything first, on copies; change the state only when nothing can be refused any more."""
    if command.doom is not None:
        raise command.doom
    _check_expectations(state, command)
    wallet = _check_parties(state, command)
    usage = _check_limit(state, command, wallet)
    balances = _check_funds(state, command)

    if usage is not None and wallet is not None:
        wallet.usage_day, wallet.usage_usd_micros = usage
        wallet.dirty = True
    if command.limit_return is not None:
        _give_back(state, command.limit_return)
    _write_ledger(state, command, balances, writes)
    _write_settlement(state, command, writes)
    return _answer(state, command)


def _check_expectations(state: LedgerState, command: Command) -> None:
    cursor = command.cursor
    if cursor is not None:
        found = state.cursors.get(cursor.chain)
        if found != (cursor.expected_number, cursor.expected_hash):
            raise StateConflict(f"cursor {cursor.chain}", str(cursor.expected_number), str(found))
    for transition in command.transitions:
        row = state.items.get(transition.item_id)
        if row is None or row.state not in transition.expected:
            found_state = row.state if row else "missing"
            raise StateConflict(f"item {transition.item_id}", "|".join(sorted(transition.expected)), found_state)
        if transition.lease_token not in (None, row.lease_token):
            raise StateConflict(f"item {transition.item_id}", f"lease {transition.lease_token}", f"{row.lease_token}")
    for address in command.tainted:
        found_address = state.addresses.get(address, "missing")
        if found_address not in ("free", "tainted"):
            # It was given to a consumer since the command was built: what arrived there is a deposit.
            raise StateConflict(f"address {address}", "free|tainted", found_address)
    for change in command.record_transitions:
        found_record = state.records.get((change.kind, change.id), "missing")
        if change.expires_at is not None and state.now >= change.expires_at and found_record in change.expected:
            found_record = EXPIRED
        if found_record not in change.expected:
            conflict = StateConflict(f"{change.kind} {change.id}", "|".join(sorted(change.expected)), found_record)
            raise change.refusals.get(found_record, conflict)
    for sweep in command.fee_sweeps:
        balance = state.balances.get((sweep.consumer, sweep.asset))
        if balance is None or balance.unswept_fees < sweep.micros:
            unswept = balance.unswept_fees if balance else 0
            raise StateConflict(f"unswept fees of {sweep.consumer}", str(sweep.micros), str(unswept))
    if command.refund is not None:
        _check_refund(state, command.refund)


def _check_refund(state: LedgerState, refund: Refund) -> None:
    left = refund.received_micros - state.refunded.get(refund.transaction_id, 0)
    if refund.all_that_is_left and refund.micros != left:
        raise StateConflict(f"refunds of {refund.transaction_id}", str(refund.micros), str(left))
    if refund.micros > left:
        raise RefundTooLarge(left)


def _check_parties(state: LedgerState, command: Command) -> Wallet | None:
    """The sender may act, and everybody who is paid exists and may be paid."""
    sender = command.sender
    if sender is None:
        return None
    wallet = state.wallets.get(sender)
    if wallet is None:
        raise ConsumerNotFound(sender)
    if wallet.erased:
        raise ConsumerErased()
    if wallet.frozen:
        raise ConsumerFrozen(sender)
    for owner, _ in command.balance_keys:
        recipient = state.wallets.get(owner)
        if recipient is None or recipient.erased:
            raise RecipientNotFound(command.places.get(owner))
        if recipient.frozen and owner != sender:
            raise RecipientFrozen(command.places.get(owner))
    return wallet


def _check_limit(state: LedgerState, command: Command, wallet: Wallet | None) -> tuple[date, int] | None:
    """The day's counter after this command, or the refusal that tells what is left."""
    requested = command.limit_usd_micros
    if wallet is None or requested == 0:
        return None
    day, used = current_usage(usage_day=wallet.usage_day, usage_micros=wallet.usage_usd_micros, today=state.now.date())
    limit = DAILY_LIMIT_MICROS[wallet.kyc_level]
    if used + requested > limit:
        raise LimitExceeded(
            kyc_level=wallet.kyc_level,
            daily_limit_usd_micros=limit,
            used_usd_micros=used,
            remaining_usd_micros=max(0, limit - used),
            requested_usd_micros=requested,
            reset_time=reset_time(day),
        )
    return day, used + requested


@dataclass(slots=True)
class _Draft:
    """A balance as it would stand after the command, before anything is changed."""

    available: int
    held: int
    unswept_fees: int


def _check_funds(state: LedgerState, command: Command) -> list[dict[BalanceKey, _Draft]]:
    """The balances after each of the command's transactions; refused if one would be negative or too large."""
    drafts: dict[BalanceKey, _Draft] = {}
    stages = []
    for postings in command.postings:
        touched: dict[BalanceKey, _Draft] = {}
        for posting in postings:
            _move(state, drafts, posting, touched)
        for key, draft in touched.items():
            _check_draft(state, command, key, draft)
        stages.append({key: _Draft(d.available, d.held, d.unswept_fees) for key, d in touched.items()})
    return stages


def _move(
    state: LedgerState, drafts: dict[BalanceKey, _Draft], posting: Posting, touched: dict[BalanceKey, _Draft]
) -> None:
    if posting.micros <= 0:
        raise ValueError(f"a posting of {posting.micros} micros moves nothing")
    for account, sign in ((posting.source, -1), (posting.target, 1)):
        if not is_consumer(account.owner):
            continue
        key = (account.owner, posting.asset)
        draft = touched[key] = _draft_of(state, drafts, key)
        if account.kind is AccountKind.AVAILABLE:
            draft.available += sign * posting.micros
        else:
            draft.held += sign * posting.micros
    if posting.target.kind is AccountKind.FEES and is_consumer(posting.source.owner):
        # The fee stays in the consumer's position on the rail until it is swept in aggregate (rule 16).
        touched[posting.source.owner, posting.asset].unswept_fees += posting.micros


def _draft_of(state: LedgerState, drafts: dict[BalanceKey, _Draft], key: BalanceKey) -> _Draft:
    draft = drafts.get(key)
    if draft is None:
        balance = state.balances.get(key)
        if balance is None:
            raise ConsumerNotFound(key[0])
        draft = drafts[key] = _Draft(balance.available, balance.held, balance.unswept_fees)
    return draft


def _check_draft(state: LedgerState, command: Command, key: BalanceKey, draft: _Draft) -> None:
    if draft.available < 0 or draft.held < 0:
        raise InsufficientFunds(key[1], state.balances[key].available, _spending(command, key))
    if draft.available + draft.held > MAX_MICROS:
        raise BalanceOverflow(key[1])


def _spending(command: Command, key: BalanceKey) -> int:
    """What the whole command takes out of a balance, not only its transactions up to the one that failed."""
    source, asset = available(key[0]), key[1]
    taken = (p.micros for postings in command.postings for p in postings if (p.source, p.asset) == (source, asset))
    return sum(taken)


def _give_back(state: LedgerState, back: LimitReturn) -> None:
    wallet = state.wallets[back.consumer]
    if wallet.usage_day == back.day:
        wallet.usage_usd_micros = max(0, wallet.usage_usd_micros - back.usd_micros)
        wallet.dirty = True


def _write_ledger(state: LedgerState, command: Command, stages: list[dict[BalanceKey, _Draft]], writes: Writes) -> None:
    for transaction, postings, stage in zip(command.transactions, command.postings, stages, strict=True):
        # Never before the last one of any balance it touches, so that in every history time follows version.
        created_at = max([state.now, *(state.balances[key].changed_at for key in stage)])
        for key, draft in stage.items():
            entry = _store_balance(state.balances[key], draft, transaction, created_at)
            writes.entries.append(entry)
        writes.transactions.append((transaction, created_at))
        for position, posting in enumerate(postings):
            writes.postings.append((transaction.id, position, posting))
            _add_system(writes, posting)


def _store_balance(balance: Balance, draft: _Draft, transaction: Transaction, created_at: datetime) -> Entry:
    """Bring the draft into the row."""
    available_delta, held_delta = draft.available - balance.available, draft.held - balance.held
    balance.available, balance.held, balance.unswept_fees = draft.available, draft.held, draft.unswept_fees
    balance.version += 1
    balance.changed_at = created_at
    balance.dirty = True
    other = transaction.counterparty_id if balance.consumer_id == transaction.consumer_id else transaction.consumer_id
    return Entry(
        balance.consumer_id,
        balance.asset,
        balance.version,
        transaction.id,
        transaction.kind,
        other,
        available_delta,
        held_delta,
        balance.available,
        balance.held,
        balance.changed_at,
    )


def _add_system(writes: Writes, posting: Posting) -> None:
    for account, sign in ((posting.source, -1), (posting.target, 1)):
        if not is_consumer(account.owner):
            key = (account.kind, posting.asset)
            writes.system[key] = writes.system.get(key, 0) + sign * posting.micros


def _write_settlement(state: LedgerState, command: Command, writes: Writes) -> None:
    for sweep in command.fee_sweeps:
        balance = state.balances[sweep.consumer, sweep.asset]
        balance.unswept_fees -= sweep.micros
        balance.dirty = True
    own_transaction = command.transactions[0].id if command.transactions else None
    for position, item in enumerate(command.items, start=_first_position(command)):
        sender = state.balances.get((item.sender, item.asset))
        # A sender's items settle in the order of its balance's versions, taken here under the lock (money rule 7).
        sequence = sender.version if sender else 0
        writes.items.append((item, item.transaction_id or own_transaction, sequence, position, state.now))
    for transition in command.transitions:
        state.items[transition.item_id].state = transition.state
    writes.transitions.extend(command.transitions)
    writes.custody.extend(command.custody)
    writes.attempts.extend(command.attempts)
    writes.logs.extend(command.logs)
    writes.tainted.extend(command.tainted)
    writes.breaks.extend(command.breaks)
    _write_records(state, command, writes)
    if command.refund is not None:
        given_back = state.refunded.get(command.refund.transaction_id, 0) + command.refund.micros
        state.refunded[command.refund.transaction_id] = given_back
        writes.refunds[command.refund.transaction_id] = command.refund
    if command.cursor is not None:
        state.cursors[command.cursor.chain] = (command.cursor.number, command.cursor.hash)
        writes.cursors.append(command.cursor)


def _first_position(command: Command) -> int:
    """Items of no transaction of the ledger settle after all those of the version at which they came into being."""
    if command.transactions:
        return 0
    return 32_000 if command.fee_sweeps else 30_000


def _write_records(state: LedgerState, command: Command, writes: Writes) -> None:
    for record in command.new_records:
        state.records[record.kind, record.id] = record.values.get("state", "")
    for transition in command.record_transitions:
        state.records[transition.kind, transition.id] = transition.state
    writes.new_records.extend(_dated(state, command, record) for record in command.new_records)
    writes.record_transitions.extend(command.record_transitions)
    writes.audits.extend(command.audits)


def _dated(state: LedgerState, command: Command, record: NewRecord) -> NewRecord:
    """The record with the day that only the locked counter knows."""
    if record.limit_day_column is None:
        return record
    assert command.sender is not None, "only a sender's limit is used"
    day = state.wallets[command.sender].usage_day
    return replace(record, values={**record.values, record.limit_day_column: day})


def _answer(state: LedgerState, command: Command) -> Applied:
    """The first transaction, and the balance of its consumer: what the caller is told, now and at every replay."""
    if not command.transactions:
        return Applied(None, state.now)
    transaction = command.transactions[0]
    balance = state.balances.get((transaction.consumer_id, transaction.asset))
    if balance is None:
        return Applied(transaction.id, state.now)
    return Applied(transaction.id, balance.changed_at, balance.available, balance.held, balance.version)
