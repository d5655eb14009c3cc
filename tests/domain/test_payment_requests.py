"""Payment requests, pure: when they are over, who may do what with them, and that they end once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.commands import Command, RecordKind
from domain.errors import NotThePayer, PaymentRequestClosed, PaymentRequestNotFound, StateConflict, ValidationFailed
from domain.identity import ConsumerId, TransactionId
from domain.ledger import decide
from domain.ledger_state import Applied, LedgerState, Outcome, Refused
from domain.money import Asset, Money
from domain.payment_requests import PaymentRequest, PaymentRequestState, check_payer, expiry, paid

NOW = datetime(2027, 3, 10, 12, tzinfo=UTC)
ANN, BOB, EVE = (ConsumerId(UUID(int=number)) for number in (101, 102, 103))
MOMENT = timedelta(microseconds=1)
ASKED = PaymentRequest(
    id=UUID(int=7),
    payee=BOB,
    payer=ANN,
    amount=Money(Asset.USDC, 100),
    memo="",
    created_at=NOW,
    expires_at=NOW + timedelta(days=7),
)


def test_an_open_request_is_over_when_its_time_is() -> None:
    """To the microsecond, and only an open one: what was paid in time stays paid."""
    assert ASKED.state_at(ASKED.expires_at - MOMENT) is PaymentRequestState.OPEN
    assert ASKED.state_at(ASKED.expires_at) is PaymentRequestState.EXPIRED
    closed = replace(ASKED, state=PaymentRequestState.PAID)
    assert closed.state_at(ASKED.expires_at) is PaymentRequestState.PAID


def test_a_request_lasts_a_week_or_as_long_as_was_asked_up_to_ninety_days() -> None:
    """In the future, and not further than anybody remembers."""
    assert expiry(None, now=NOW) == NOW + timedelta(days=7)
    for good in (NOW + MOMENT, NOW + timedelta(days=90)):
        assert expiry(good, now=NOW) == good
    for bad in (NOW, NOW + timedelta(days=90) + MOMENT):
        with pytest.raises(ValidationFailed):
            expiry(bad, now=NOW)


def test_each_side_has_its_own_word_for_the_end_and_strangers_none() -> None:
    """The payer declines, the payee cancels; only the payer pays."""
    assert ASKED.closed_by(ANN) is PaymentRequestState.DECLINED
    assert ASKED.closed_by(BOB) is PaymentRequestState.CANCELLED
    check_payer(ASKED, ANN)
    with pytest.raises(NotThePayer):
        check_payer(ASKED, BOB)
    for act in (lambda: ASKED.closed_by(EVE), lambda: check_payer(ASKED, EVE)):
        with pytest.raises(PaymentRequestNotFound):
            act()


def _decide(found: str | None, *, now: datetime = NOW, times: int = 1) -> list[Outcome]:
    """Pay the request, as it stands in the database, that many times."""
    state = LedgerState(now=now)
    if found is not None:
        state.records[RecordKind.PAYMENT_REQUEST, ASKED.id] = found
    command = Command(record_transitions=(paid(ASKED, TransactionId(UUID(int=8)), at=now),))
    return decide(state, [command] * times)[0]


def test_of_several_payments_in_one_batch_the_first_closes_the_request() -> None:
    """The others see it as paid, though nothing is committed yet."""
    first, second, third = _decide("OPEN", times=3)
    assert isinstance(first, Applied)
    for outcome in (second, third):
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, PaymentRequestClosed)
        assert outcome.error.state == "PAID"


@pytest.mark.parametrize(
    ("found", "now", "state"),
    [
        ("PAID", NOW, "PAID"),
        ("DECLINED", NOW, "DECLINED"),
        ("CANCELLED", ASKED.expires_at, "CANCELLED"),
        ("OPEN", ASKED.expires_at, "EXPIRED"),
    ],
)
def test_the_commit_judges_whether_it_is_still_open(found: str, now: datetime, state: str) -> None:
    """At its own time: a payment that waited beyond the end comes too late, whenever it was handed in."""
    (outcome,) = _decide(found, now=now)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, PaymentRequestClosed)
    assert (outcome.error.state, outcome.error.remembered) == (state, True)


def test_a_request_that_is_not_there_is_a_conflict() -> None:
    """Requests are never deleted, so that would be a fault of ours."""
    (outcome,) = _decide(None)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StateConflict)
