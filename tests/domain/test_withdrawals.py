"""Withdrawals and destinations: what ends a hold, and where money is never sent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.commands import LimitReturn
from domain.destinations import RefusedCause, refused_cause
from domain.identity import ConsumerId, TransactionId
from domain.money import Asset, Money
from domain.postings import AccountKind, Posting, TransactionKind
from domain.routing import RouteDecision
from domain.settlement import Rail
from domain.withdrawals import EXTERNAL, Withdrawal, WithdrawalState, hold_posting, posted, released

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ANN = ConsumerId(UUID(int=99))
LAST_STEP = TransactionId(UUID(int=7))

withdrawals = st.builds(
    lambda micros, fee, rail, asset: Withdrawal(
        id=UUID(int=1),
        transaction_id=TransactionId(UUID(int=2)),
        consumer_id=ANN,
        amount=Money(asset, micros),
        fee=Money(asset, fee),
        route=RouteDecision("tempo", rail, Money(asset, fee), timedelta(), ()),
        state=WithdrawalState.HELD,
        address="0x" + "ab" * 20,
        limit_day=date(2026, 1, 1),
        limit_usd_micros=micros,
    ),
    st.integers(1, 10**15),
    st.integers(0, 1_000),
    st.sampled_from(Rail),
    st.sampled_from(Asset),
)


def effect(*postings: Posting) -> dict[tuple[UUID, AccountKind], int]:
    """What each account has gained, without those that came out even."""
    gained: dict[tuple[UUID, AccountKind], int] = {}
    for posting in postings:
        for account, sign in ((posting.source, -1), (posting.target, 1)):
            key = (account.owner, account.kind)
            gained[key] = gained.get(key, 0) + sign * posting.micros
    return {key: micros for key, micros in gained.items() if micros}


@given(withdrawals)
def test_a_posted_hold_leaves_nothing_held(withdrawal: Withdrawal) -> None:
    """The amount is outside, on the rail that carried it, and the fee is the operator's."""
    amount, fee = withdrawal.amount.micros, withdrawal.fee.micros
    end = posted(withdrawal, transaction_id=LAST_STEP, caller="worker:test", at=NOW)
    hold = hold_posting(ANN, withdrawal.amount, withdrawal.fee)
    gained = effect(hold, *end.postings)
    outside = EXTERNAL[withdrawal.route.rail]
    assert gained[ANN, AccountKind.AVAILABLE] == -amount - fee
    assert (ANN, AccountKind.HELD) not in gained
    assert gained[UUID(int=0), outside] == amount
    assert gained.get((UUID(int=0), AccountKind.FEES), 0) == fee
    assert end.transaction.kind is TransactionKind.WITHDRAWAL_POSTED
    assert end.limit_return is None


@given(withdrawals)
def test_a_released_hold_leaves_no_trace(withdrawal: Withdrawal) -> None:
    """Rule 11: fee and limit included, the latter to the day it was taken from."""
    end = released(withdrawal, transaction_id=LAST_STEP, caller="worker:test", reason="PolicyForbids", at=NOW)
    assert effect(hold_posting(ANN, withdrawal.amount, withdrawal.fee), *end.postings) == {}
    assert end.limit_return == LimitReturn(ANN, withdrawal.limit_day, withdrawal.limit_usd_micros)
    assert end.transition.values == {"reason": "PolicyForbids", "closed_at": NOW}


@given(withdrawals)
def test_a_hold_ends_once_and_names_what_it_ends(withdrawal: Withdrawal) -> None:
    """Whoever comes second finds another state; the step's reference leads back to what a history shows."""
    ends = (
        posted(withdrawal, transaction_id=LAST_STEP, caller="", at=NOW),
        released(withdrawal, transaction_id=LAST_STEP, caller="", reason="", at=NOW),
    )
    for end in ends:
        assert end.transition.expected == {WithdrawalState.HELD}
        assert end.transition.state != WithdrawalState.HELD
        assert end.transaction.reference == str(withdrawal.transaction_id)


@given(st.binary(min_size=20, max_size=20))
def test_an_address_with_a_key_is_never_refused_by_its_looks(address: bytes) -> None:
    """Random bytes are somebody's address as far as anybody can tell; what is refused has a mark no key can make."""
    cause = refused_cause("0x" + address.hex())
    token, precompile = b"\x20\xc0" + bytes(10), bytes(14)
    marked = address.startswith((token, precompile)) or address.endswith(precompile) or address[4:14] == b"\xfd" * 10
    assert (cause is not None) == marked


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=6, max_size=6))
def test_every_virtual_address_is_refused(master: bytes, tag: bytes) -> None:
    """Whoever its master may be: the money would be theirs, and nobody here knows them."""
    cause = refused_cause("0x" + (master + b"\xfd" * 10 + tag).hex())
    assert cause is RefusedCause.VIRTUAL_ADDRESS or (master + tag == bytes(10) and cause is not None)
