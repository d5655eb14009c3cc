"""The ledger's decisions: pure, in order, command by command.

The ledger writer reads and locks the rows a batch of commands involves into a `LedgerState`; `decide` then takes the
commands one after another, each seeing the effects of those before it, and collects what is to be written. Nothing here
does I/O, so the same code runs in a request, in `validate_only`, in a simulation and in a property test.

Accounts of the operator are append-only: no request ever locks a system row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import NamedTuple

from domain.commands import EXPIRED, BalanceKey, Command, LimitReturn, NewRecord, Refund, Request
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
from domain.identity import is_consumer
from domain.ledger_state import Applied, Balance, Entry, LedgerState, Outcome, Refused, StoredRequest, Wallet, Writes
from domain.limits import DAILY_LIMIT_MICROS, current_usage, reset_time
from domain.money import MAX_MICROS
from domain.postings import AccountKind, Posting, Transaction, available


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


@dataclass(slots=True, eq=False)
class _Draft:
    """A balance as it would stand after the command, before anything is changed."""

    balance: Balance
    available: int
    held: int
    unswept_fees: int


class _After(NamedTuple):
    """A balance as one of the command's transactions leaves it."""

    balance: Balance
    available: int
    held: int
    unswept_fees: int


def _check_funds(state: LedgerState, command: Command) -> list[list[_After]]:
    """The balances after each of the command's transactions; refused if one would be negative or too large."""
    drafts: dict[BalanceKey, _Draft] = {}
    stages = []
    for postings in command.postings:
        touched: list[_Draft] = []
        for posting in postings:
            _move(state, drafts, posting, touched)
        for draft in touched:
            _check_draft(command, draft)
        stages.append([_After(d.balance, d.available, d.held, d.unswept_fees) for d in touched])
    return stages


def _move(state: LedgerState, drafts: dict[BalanceKey, _Draft], posting: Posting, touched: list[_Draft]) -> None:
    if posting.micros <= 0:
        raise ValueError(f"a posting of {posting.micros} micros moves nothing")
    for account, sign in ((posting.source, -1), (posting.target, 1)):
        if not is_consumer(account.owner):
            continue
        draft = _draft_of(state, drafts, (account.owner, posting.asset))
        if draft not in touched:
            touched.append(draft)
        if account.kind is AccountKind.AVAILABLE:
            draft.available += sign * posting.micros
        else:
            draft.held += sign * posting.micros
    if posting.target.kind is AccountKind.FEES and is_consumer(posting.source.owner):
        # The fee stays in the consumer's position on the rail until it is swept in aggregate (rule 16).
        drafts[posting.source.owner, posting.asset].unswept_fees += posting.micros


def _draft_of(state: LedgerState, drafts: dict[BalanceKey, _Draft], key: BalanceKey) -> _Draft:
    draft = drafts.get(key)
    if draft is None:
        balance = state.balances.get(key)
        if balance is None:
            raise ConsumerNotFound(key[0])
        draft = drafts[key] = _Draft(balance, balance.available, balance.held, balance.unswept_fees)
    return draft


def _check_draft(command: Command, draft: _Draft) -> None:
    balance = draft.balance
    if draft.available < 0 or draft.held < 0:
        raise InsufficientFunds(balance.asset, balance.available, _spending(command, balance))
    if draft.available + draft.held > MAX_MICROS:
        raise BalanceOverflow(balance.asset)


def _spending(command: Command, balance: Balance) -> int:
    """What the whole command takes out of a balance, not only its transactions up to the one that failed."""
    source, asset = available(balance.consumer_id), balance.asset
    taken = (p.micros for postings in command.postings for p in postings if (p.source, p.asset) == (source, asset))
    return sum(taken)


def _give_back(state: LedgerState, back: LimitReturn) -> None:
    wallet = state.wallets[back.consumer]
    if wallet.usage_day == back.day:
        wallet.usage_usd_micros = max(0, wallet.usage_usd_micros - back.usd_micros)
        wallet.dirty = True


def _write_ledger(state: LedgerState, command: Command, stages: list[list[_After]], writes: Writes) -> None:
    for transaction, postings, stage in zip(command.transactions, command.postings, stages, strict=True):
        # Never before the last one of any balance it touches, so that in every history time follows version.
        created_at = max([state.now, *[after.balance.changed_at for after in stage]])
        writes.entries.extend([_store_balance(after, transaction, created_at) for after in stage])
        writes.transactions.append((transaction, created_at))
        for position, posting in enumerate(postings):
            writes.postings.append((transaction.id, position, posting))
            _add_system(writes, posting)


def _store_balance(after: _After, transaction: Transaction, created_at: datetime) -> Entry:
    """Bring the balance to where the transaction leaves it."""
    balance = after.balance
    available_delta, held_delta = after.available - balance.available, after.held - balance.held
    balance.available, balance.held, balance.unswept_fees = after.available, after.held, after.unswept_fees
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
