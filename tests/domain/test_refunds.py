"""Refunds, pure: what may be given back of a transfer, by whom, and that it is never more than was received."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commands import Command, Refund
from domain.errors import NotRefundable, RefundTooLarge, StateConflict, TransactionNotFound, ValidationFailed
from domain.identity import ConsumerId, TransactionId
from domain.ledger import decide
from domain.ledger_state import Applied, Balance, LedgerState, Refused, Wallet
from domain.money import Asset, Money
from domain.postings import Posting, Transaction, TransactionKind, available
from domain.refunds import check_refundable, refund_of

NOW = datetime(2027, 3, 10, 12, tzinfo=UTC)
ANN, BOB, EVE = (ConsumerId(UUID(int=number)) for number in (101, 102, 103))
BOUGHT = TransactionId(UUID(int=7))


def bought(kind: TransactionKind = TransactionKind.TRANSFER, micros: int = 100) -> Transaction:
    """Ann paid Bob."""
    return Transaction(id=BOUGHT, kind=kind, consumer_id=ANN, counterparty_id=BOB, asset=Asset.USDC, micros=micros)


def test_only_who_received_a_transfer_may_give_it_back() -> None:
    """The sender cannot take it back that way, and a stranger does not learn that it exists."""
    check_refundable(bought(), refunder=BOB)
    check_refundable(bought(TransactionKind.BATCH_TRANSFER), refunder=BOB)
    with pytest.raises(NotRefundable):
        check_refundable(bought(), refunder=ANN)
    with pytest.raises(TransactionNotFound):
        check_refundable(bought(), refunder=EVE)


@pytest.mark.parametrize(
    "kind", sorted(set(TransactionKind) - {TransactionKind.TRANSFER, TransactionKind.BATCH_TRANSFER})
)
def test_nothing_but_a_transfer_is_given_back(kind: TransactionKind) -> None:
    """Not a refund, or money would go to and fro without a fee; not what only an operator undoes."""
    with pytest.raises(NotRefundable) as refusal:
        check_refundable(bought(kind), refunder=BOB)
    assert refusal.value.kind == kind.upper()


def test_what_is_not_named_is_all_that_is_left() -> None:
    """And nothing left is told at once, without a question to the ledger."""
    assert refund_of(bought(), refunded_micros=30, asked=None).micros == 70
    with pytest.raises(RefundTooLarge):
        refund_of(bought(), refunded_micros=100, asked=None)
    with pytest.raises(ValidationFailed):
        refund_of(bought(), refunded_micros=0, asked=Money(Asset.USDT, 1))


def _state(micros: int) -> LedgerState:
    state = LedgerState(now=NOW)
    for consumer in (ANN, BOB):
        state.wallets[consumer] = Wallet(consumer, 1, False, NOW.date(), 0)
        state.balances[consumer, Asset.USDC] = Balance(consumer, Asset.USDC, micros, 0, 0, 0, NOW)
    return state


def _command(refund: Refund, number: int) -> Command:
    transaction = Transaction(
        id=TransactionId(UUID(int=1_000 + number)),
        kind=TransactionKind.REFUND,
        consumer_id=BOB,
        counterparty_id=ANN,
        asset=Asset.USDC,
        micros=refund.micros,
    )
    posting = Posting(available(BOB), available(ANN), Asset.USDC, refund.micros)
    return Command(transactions=(transaction,), postings=((posting,),), sender=BOB, refund=refund)


@given(st.lists(st.integers(1, 60), max_size=12), st.integers(0, 100), st.integers(0, 300))
def test_refunds_in_one_batch_or_in_many_stop_at_what_was_received(parts: list[int], before: int, funds: int) -> None:
    """Each sees those before it; one that is refused for want of funds takes nothing of what is left."""
    state = _state(funds)
    state.refunded[BOUGHT] = before
    refunds = [Refund(transaction_id=BOUGHT, received_micros=100, micros=micros) for micros in parts]
    outcomes, writes = decide(state, [_command(refund, n) for n, refund in enumerate(refunds)])
    given_back = before
    for micros, outcome in zip(parts, outcomes, strict=True):
        fits = micros <= 100 - given_back
        assert isinstance(outcome, Applied) == (fits and micros <= funds)
        assert fits or (isinstance(outcome, Refused) and isinstance(outcome.error, RefundTooLarge))
        if isinstance(outcome, Applied):
            given_back, funds = given_back + micros, funds - micros
    assert state.refunded[BOUGHT] == given_back <= 100
    assert bool(writes.refunds) == (given_back > before)


def test_a_refund_of_the_rest_is_built_anew_when_the_rest_has_changed() -> None:
    """It would give back less than was meant, or leave something: nobody decides that for the caller."""
    state = _state(1_000)
    state.refunded[BOUGHT] = 40
    rest = refund_of(bought(), refunded_micros=30, asked=None)
    (outcome,), _ = decide(state, [_command(rest, 0)])
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StateConflict)
    assert not outcome.error.remembered
