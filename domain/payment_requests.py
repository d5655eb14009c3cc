"""Payment requests: somebody asks somebody for money. Each ends once: paid, declined, cancelled or expired.

It is paid in the commit that moves the money, so however many try, one pays. Nobody has to be there for it to expire:
an open one is over when its time is, whatever its row says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.commands import EXPIRED, RecordKind, RecordTransition
from domain.errors import (
    FieldViolation,
    NotThePayer,
    PaymentRequestClosed,
    PaymentRequestNotFound,
    ValidationFailed,
)
from domain.identity import ConsumerId, TransactionId
from domain.money import Money

LASTS = timedelta(days=7)
LASTS_AT_MOST = timedelta(days=90)


class PaymentRequestState(StrEnum):
    """Where a payment request stands."""

    OPEN = "OPEN"
    PAID = "PAID"
    DECLINED = "DECLINED"
    CANCELLED = "CANCELLED"
    EXPIRED = EXPIRED


class Side(StrEnum):
    """Which part a consumer has in a payment request."""

    PAYEE = "payee"
    """Who asks."""
    PAYER = "payer"
    """Who is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """A payment request as it is kept."""

    id: UUID
    payee: ConsumerId
    payer: ConsumerId
    amount: Money
    memo: str
    created_at: datetime
    expires_at: datetime
    state: PaymentRequestState = PaymentRequestState.OPEN
    transaction_id: TransactionId | None = None
    closed_at: datetime | None = None

    def state_at(self, now: datetime) -> PaymentRequestState:
        """Its state at a time, which its row does not say of one that has expired."""
        over = self.state is PaymentRequestState.OPEN and now >= self.expires_at
        return PaymentRequestState.EXPIRED if over else self.state

    def closed_by(self, party: ConsumerId) -> PaymentRequestState:
        """What it becomes when that party wants no more of it; raises `PaymentRequestNotFound` for a stranger."""
        if party == self.payer:
            return PaymentRequestState.DECLINED
        if party == self.payee:
            return PaymentRequestState.CANCELLED
        raise PaymentRequestNotFound()


def expiry(asked: datetime | None, *, now: datetime) -> datetime:
    """When a request made now expires; raises what is wrong with the time that was asked for."""
    if asked is None:
        return now + LASTS
    if not now < asked <= now + LASTS_AT_MOST:
        text = f"must be in the future, and at most {LASTS_AT_MOST.days} days ahead"
        raise ValidationFailed((FieldViolation("expire_time", "expire_time.range", text),))
    return asked


def check_payer(request: PaymentRequest, payer: ConsumerId) -> None:
    """Only who was asked can pay; a stranger does not learn that there is such a request."""
    if payer == request.payee:
        raise NotThePayer()
    if payer != request.payer:
        raise PaymentRequestNotFound()


def paid(request: PaymentRequest, transaction_id: TransactionId, *, at: datetime) -> RecordTransition:
    """The end of a request, for the command that pays it."""
    return RecordTransition(
        kind=RecordKind.PAYMENT_REQUEST,
        id=request.id,
        expected=frozenset({PaymentRequestState.OPEN}),
        state=PaymentRequestState.PAID,
        values={"transaction_id": transaction_id, "closed_at": at},
        refusals={state: PaymentRequestClosed(state) for state in PaymentRequestState},
        expires_at=request.expires_at,
    )
