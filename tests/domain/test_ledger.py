"""The ledger's decisions, pure: what may become true, in which order, and what is left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import Command, CursorMove, FeeSweep, ItemTransition, NewItem, Request
from domain.errors import (
    BalanceOverflow,
    ConsumerFrozen,
    ConsumerNotFound,
    InsufficientFunds,
    LimitExceeded,
    StateConflict,
    WalletError,
)
from domain.identity import ItemId, TransactionId
from domain.ledger import decide
from domain.ledger_state import Applied, Balance, ItemRow, LedgerState, Outcome, Refused, Wallet, Writes
from domain.limits import DAILY_LIMIT_MICROS
from domain.money import MAX_MICROS, Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, available, held, operator_account
from domain.settlement import ItemState

NOW = datetime(2027, 3, 10, 12, tzinfo=UTC)
ANN, BOB, EVE = (UUID(int=number) for number in (101, 102, 103))
FEES = operator_account(AccountKind.FEES)
EXTERNAL = operator_account(AccountKind.EXTERNAL_TEMPO)


def state_of(*, micros: int = 1_000, kyc_level: int = 1, now: datetime = NOW) -> LedgerState:
    """Three wallets with that much of two assets."""
    state = LedgerState(now=now)
    for consumer in (ANN, BOB, EVE):
        state.wallets[consumer] = Wallet(consumer, kyc_level, False, NOW.date(), 0)
        for asset in (Asset.USDC, Asset.EURC):
            state.balances[consumer, asset] = Balance(consumer, asset, micros, 0, 0, 1, NOW - timedelta(days=1))
    return state


def transaction(consumer: UUID, other: UUID | None, micros: int, number: int) -> Transaction:
    return Transaction(
        id=TransactionId(UUID(int=number)),
        kind=TransactionKind.TRANSFER,
        consumer_id=consumer,
        counterparty_id=other,
        asset=Asset.USDC,
        micros=micros,
    )


def pay(sender: UUID, recipient: UUID, micros: int, *, fee: int = 0, number: int = 1, limit: int = 0) -> Command:
    postings = [Posting(available(sender), available(recipient), Asset.USDC, micros)]
    if fee:
        postings.append(Posting(available(sender), FEES, Asset.USDC, fee))
    item = NewItem(id=ItemId(UUID(int=number)), sender=sender, recipient=recipient, asset=Asset.USDC, micros=micros)
    return Command(
        transactions=(transaction(sender, recipient, micros, number),),
        postings=(tuple(postings),),
        sender=sender,
        limit_usd_micros=limit,
        items=(item,),
    )


def decide_one(state: LedgerState, command: Command) -> tuple[Outcome, Writes]:
    (outcome,), writes = decide(state, [command])
    return outcome, writes


def refusal(state: LedgerState, command: Command) -> WalletError:
    outcome, writes = decide_one(state, command)
    assert isinstance(outcome, Refused)
    assert not writes.entries
    return outcome.error


def test_a_transfer_leaves_one_entry_on_each_side_and_one_posting_for_each_movement() -> None:
    """The history of each side is complete by itself, and the postings say what moved between whom."""
    state = state_of()
    outcome, writes = decide_one(state, pay(ANN, BOB, 300, fee=10))
    assert outcome == Applied(TransactionId(UUID(int=1)), NOW, 690, 0, 2)
    assert [(e.consumer_id, e.available_delta, e.available_after, e.version) for e in writes.entries] == [
        (ANN, -310, 690, 2),
        (BOB, 300, 1_300, 2),
    ]
    assert [(e.counterparty_id) for e in writes.entries] == [BOB, ANN]
    assert [(position, posting.micros) for _, position, posting in writes.postings] == [(0, 300), (1, 10)]
    assert writes.system == {(AccountKind.FEES, Asset.USDC): 10}


def test_a_fee_stays_in_the_consumers_position_until_it_is_swept() -> None:
    """Rule 16 counts it there: a chain transaction for each fee would cost more than the fee."""
    state = state_of()
    decide_one(state, pay(ANN, BOB, 300, fee=10))
    assert state.balances[ANN, Asset.USDC].unswept_fees == 10
    sweep = Command(fee_sweeps=(FeeSweep(ANN, Asset.USDC, 10),))
    decide_one(state, sweep)
    assert state.balances[ANN, Asset.USDC].unswept_fees == 0
    assert isinstance(refusal(state, sweep), StateConflict)


def test_a_refused_command_changes_nothing_of_what_the_next_one_is_decided_on() -> None:
    """Whatever is found wrong is found before the first change: state and counter stay as they were."""
    state = state_of(micros=500)
    too_much = pay(ANN, BOB, 500, fee=1, limit=500)
    assert isinstance(refusal(state, too_much), InsufficientFunds)
    assert state == state_of(micros=500)


def test_funds_are_judged_after_the_whole_transaction() -> None:
    """What comes in by the same transaction may pay for what goes out by it, whatever the order of the postings."""
    state = state_of(micros=0)
    back_and_forth = (
        Posting(available(ANN), available(BOB), Asset.USDC, 70),
        Posting(EXTERNAL, available(ANN), Asset.USDC, 100),
    )
    command = Command(transactions=(transaction(ANN, BOB, 70, 1),), postings=(back_and_forth,))
    outcome, _ = decide_one(state, command)
    assert isinstance(outcome, Applied)
    assert state.balances[ANN, Asset.USDC].available == 30


def test_held_money_cannot_be_spent() -> None:
    """A withdrawal on its way has its money reserved; only posting or releasing it moves it on."""
    state = state_of()
    hold = (Posting(available(ANN), held(ANN), Asset.USDC, 800),)
    decide_one(state, Command(transactions=(transaction(ANN, None, 800, 1),), postings=(hold,)))
    error = refusal(state, pay(ANN, BOB, 300, number=2))
    assert error.facts() == {"asset": "USDC", "available_micros": "200", "required_micros": "300"}


def test_all_transactions_of_a_command_apply_or_none() -> None:
    """A batch transfer is atomic: its last recipient can refuse the first one's money."""
    state = state_of(micros=500)
    parts = [pay(ANN, BOB, 300, number=1), pay(ANN, EVE, 300, number=2)]
    batch = Command(
        transactions=tuple(part.transactions[0] for part in parts),
        postings=tuple(part.postings[0] for part in parts),
        sender=ANN,
    )
    assert isinstance(refusal(state, batch), InsufficientFunds)
    assert state == state_of(micros=500)


def test_a_sender_who_does_not_exist_or_is_frozen_sends_nothing() -> None:
    """The flags are read from the locked row, so freezing holds from its commit on."""
    state = state_of()
    nobody = UUID(int=999)
    assert isinstance(refusal(state, pay(nobody, BOB, 1)), ConsumerNotFound)
    state.wallets[ANN].frozen = True
    assert isinstance(refusal(state, pay(ANN, BOB, 1)), ConsumerFrozen)


@pytest.mark.parametrize(("used", "requested", "allowed"), [(0, 1_000, True), (400, 600, True), (400, 601, False)])
def test_rule_24_the_limit_is_met_exactly(used: int, requested: int, allowed: bool) -> None:
    """One micro more is too much, and the last one allowed is allowed."""
    state = state_of(micros=10**12)
    unit = DAILY_LIMIT_MICROS[1] // 1_000
    state.wallets[ANN].usage_usd_micros = used * unit
    outcome, _ = decide_one(state, pay(ANN, BOB, 1, limit=requested * unit))
    assert isinstance(outcome, Applied) is allowed
    if not allowed:
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, LimitExceeded)
        assert outcome.error.remaining_usd_micros == 600 * unit


def test_rule_24_a_day_never_goes_back() -> None:
    """Usage counted on the tenth is not forgotten by a database that thinks it is the ninth."""
    state = state_of(micros=10**12, now=NOW - timedelta(days=1))
    state.wallets[ANN].usage_usd_micros = DAILY_LIMIT_MICROS[1]
    assert isinstance(refusal(state, pay(ANN, BOB, 1, limit=1)), LimitExceeded)
    assert state.wallets[ANN].usage_day == date(2027, 3, 10)


def test_a_balance_that_would_not_fit_is_refused_and_not_wrapped() -> None:
    """64 bits end; nobody's money wraps around to a debt."""
    state = state_of()
    state.balances[BOB, Asset.USDC].available = MAX_MICROS - 10
    assert isinstance(refusal(state, pay(ANN, BOB, 11)), BalanceOverflow)


def test_time_in_a_history_follows_its_versions_though_clocks_do_not() -> None:
    """Pages and time filters rely on it: a batch decided on a clock that lags is recorded at the balance's time."""
    state = state_of(now=NOW - timedelta(days=2))
    outcome, writes = decide_one(state, pay(ANN, BOB, 1))
    assert isinstance(outcome, Applied)
    latest = NOW - timedelta(days=1)
    assert outcome.at == latest
    assert {entry.created_at for entry in writes.entries} == {latest}
    assert [created_at for _, created_at in writes.transactions] == [latest]


def test_rule_21_a_command_whose_expectation_fails_is_rejected_alone() -> None:
    """A worker's command says what it was built on; sent twice, the second one finds it changed and does nothing."""
    state = state_of()
    item = ItemId(UUID(int=7))
    state.items[item] = ItemRow(item, ItemState.BROADCAST)
    state.cursors["tempo"] = (10, "0xa")
    confirm = Command(
        transitions=(
            ItemTransition(item_id=item, expected=frozenset({ItemState.BROADCAST}), state=ItemState.CONFIRMED),
        ),
        cursor=CursorMove(chain="tempo", expected_number=10, expected_hash="0xa", number=11, hash="0xb", at=NOW),
    )
    outcomes, writes = decide(state, [confirm, confirm, pay(ANN, BOB, 1)])
    assert [type(outcome) for outcome in outcomes] == [Applied, Refused, Applied]
    assert len(writes.transitions) == len(writes.cursors) == 1


def test_rule_7_items_are_numbered_by_their_senders_versions() -> None:
    """A sender's items settle in the order of the ledger's commits, which is the order of versions and nothing else."""
    state = state_of()
    _, writes = decide(state, [pay(ANN, BOB, 1, number=1), pay(BOB, ANN, 1, number=2), pay(ANN, EVE, 1, number=3)])
    assert [(item.sender, sequence) for item, _, sequence, _, _ in writes.items] == [(ANN, 2), (BOB, 3), (ANN, 4)]


def test_rule_22_one_id_twice_in_one_batch_has_one_effect() -> None:
    """The second one finds the first, though nothing is committed yet."""
    state = state_of()
    request = Request(ANN, UUID(int=5), b"body", "as-sent")
    command = replace(pay(ANN, BOB, 300), request=request)
    again = replace(pay(ANN, BOB, 300, number=2), request=request)
    outcomes, writes = decide(state, [command, again])
    assert isinstance(outcomes[0], Applied)
    assert outcomes[1] == replace(outcomes[0], replayed=True)
    assert len(writes.transactions) == len(writes.requests) == 1


@pytest.mark.parametrize("micros", [0, -1])
def test_a_posting_that_moves_nothing_or_backwards_is_a_fault(micros: int) -> None:
    """It would be a hole in "debits equal credits": no use case makes one, so it is not a refusal but an error."""
    with pytest.raises(ValueError, match="moves nothing"):
        decide(state_of(), [pay(ANN, BOB, micros)])


# --- properties -------------------------------------------------------------------------------------------------------

CONSUMERS = (ANN, BOB, EVE)
ACCOUNTS = [available(c) for c in CONSUMERS] + [held(c) for c in CONSUMERS] + [FEES, EXTERNAL]
POSTINGS = st.builds(
    Posting,
    source=st.sampled_from(ACCOUNTS),
    target=st.sampled_from(ACCOUNTS),
    asset=st.sampled_from([Asset.USDC, Asset.EURC]),
    micros=st.integers(1, 600),
)


@st.composite
def commands(draw: st.DrawFn, number: int) -> Command:
    """Any balanced movement between any accounts, with any conditions: more than any use case would ask for."""
    parts = draw(st.lists(st.lists(POSTINGS, min_size=1, max_size=3), min_size=1, max_size=2))
    sender = draw(st.sampled_from([None, *CONSUMERS, UUID(int=999)]))
    key = draw(st.sampled_from([None, 1, 2, 3]))
    body = draw(st.sampled_from([b"a", b"b"]))
    return Command(
        transactions=tuple(
            transaction(draw(st.sampled_from(CONSUMERS)), None, 1, 1_000 * number + position)
            for position, _ in enumerate(parts)
        ),
        postings=tuple(tuple(part) for part in parts),
        sender=sender,
        request=Request(draw(st.sampled_from(CONSUMERS)), UUID(int=key), body) if key else None,
        limit_usd_micros=draw(st.sampled_from([0, 100, DAILY_LIMIT_MICROS[1]])),
    )


COMMANDS = st.integers(1, 8).flatmap(lambda count: st.tuples(*(commands(number + 1) for number in range(count))))


def money_in(state: LedgerState) -> dict[Asset, int]:
    total: dict[Asset, int] = {}
    for balance in state.balances.values():
        total[balance.asset] = total.get(balance.asset, 0) + balance.available + balance.held
    return total


@settings(max_examples=200, deadline=None)
@given(COMMANDS, st.sets(st.sampled_from(CONSUMERS)))
def test_whatever_is_asked_money_is_conserved_and_no_balance_goes_below_zero(
    asked: tuple[Command, ...], frozen: set[UUID]
) -> None:
    """Consumers' money and the operator's accounts always add up to what they were: no decision makes money."""
    state = state_of()
    for consumer in frozen:
        state.wallets[consumer].frozen = True
    before = money_in(state)
    versions = {key: balance.version for key, balance in state.balances.items()}
    usage = {wallet.consumer_id: wallet.usage_usd_micros for wallet in state.wallets.values()}
    outcomes, writes = decide(state, asked)

    after = money_in(state)
    for asset, micros in before.items():
        moved_out = sum(delta for (_, of), delta in writes.system.items() if of is asset)
        assert after[asset] + moved_out == micros
    assert all(balance.available >= 0 and balance.held >= 0 for balance in state.balances.values())
    assert all(0 <= wallet.usage_usd_micros <= DAILY_LIMIT_MICROS[1] for wallet in state.wallets.values())
    for key, balance in state.balances.items():
        chain = [entry for entry in writes.entries if (entry.consumer_id, entry.asset) == key]
        assert [entry.version for entry in chain] == list(range(versions[key] + 1, balance.version + 1))
        assert (
            sum(entry.available_delta + entry.held_delta for entry in chain) == balance.available + balance.held - 1_000
        )
    applied = [command for command, outcome in zip(asked, outcomes, strict=True) if _took_effect(outcome)]
    assert len(writes.transactions) == sum(len(command.transactions) for command in applied)
    for consumer in CONSUMERS:
        spent = sum(command.limit_usd_micros for command in applied if command.sender == consumer)
        assert state.wallets[consumer].usage_usd_micros == usage[consumer] + spent
        assert not (consumer in frozen and spent)


def _took_effect(outcome: Outcome) -> bool:
    return isinstance(outcome, Applied) and not outcome.replayed


@settings(max_examples=150, deadline=None)
@given(COMMANDS)
def test_a_batch_is_decided_as_its_commands_would_be_one_by_one(asked: tuple[Command, ...]) -> None:
    """Group commit is an optimisation and nothing else: no command can tell whether it stood in a batch."""
    together, alone = state_of(), state_of()
    outcomes, _ = decide(together, asked)
    one_by_one = [decide(alone, [command])[0][0] for command in asked]
    assert [repr(outcome) for outcome in outcomes] == [repr(outcome) for outcome in one_by_one]
    assert repr(together) == repr(alone)
