"""Definite business decisions: stored under the caller's request id, and answered again for ever (money rule 22)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.errors.base import WalletError
from domain.money import Asset


@dataclass(eq=False)
class InsufficientFunds(WalletError):
    """The account cannot pay the amount and its fee."""

    reason = "INSUFFICIENT_FUNDS"
    remembered = True
    asset: Asset
    available_micros: int
    required_micros: int


@dataclass(eq=False)
class LimitExceeded(WalletError):
    """The day's outgoing limit of the consumer's KYC level would be passed."""

    reason = "LIMIT_EXCEEDED"
    remembered = True
    kyc_level: int
    daily_limit_usd_micros: int
    used_usd_micros: int
    remaining_usd_micros: int
    requested_usd_micros: int
    reset_time: datetime


@dataclass(eq=False)
class ConsumerFrozen(WalletError):
    """The consumer's wallet is frozen: nothing leaves it."""

    reason = "CONSUMER_FROZEN"
    remembered = True
    consumer_id: UUID


@dataclass(eq=False)
class RecipientFrozen(WalletError):
    """The recipient's wallet is frozen: nothing is paid to it by other consumers."""

    reason = "RECIPIENT_FROZEN"
    remembered = True
    field: str | None = None


@dataclass(eq=False)
class DestinationRefused(WalletError):
    """Money must not go to this address."""

    reason = "DESTINATION_REFUSED"
    remembered = True
    cause: str


@dataclass(eq=False)
class NotRefundable(WalletError):
    """Only a completed transfer that this wallet received can be refunded by it."""

    reason = "NOT_REFUNDABLE"
    remembered = True
    kind: str
    state: str | None = None


@dataclass(eq=False)
class RefundTooLarge(WalletError):
    """More than what is left of the transfer after earlier refunds."""

    reason = "REFUND_TOO_LARGE"
    remembered = True
    refundable_micros: int


@dataclass(eq=False)
class PaymentRequestClosed(WalletError):
    """The payment request is no longer open."""

    reason = "PAYMENT_REQUEST_CLOSED"
    remembered = True
    state: str


@dataclass(eq=False)
class QuoteExpired(WalletError):
    """The quote's time is over. Ask for a new one."""

    reason = "QUOTE_EXPIRED"
    remembered = True
    expire_time: datetime


@dataclass(eq=False)
class QuoteUsed(WalletError):
    """The quote was swapped before, under another request id."""

    reason = "QUOTE_USED"
    remembered = True
    transaction_id: UUID


@dataclass(eq=False)
class PriceMoved(WalletError):
    """The market moved further since the quote than the operator takes upon itself. Ask for a new quote."""

    reason = "PRICE_MOVED"
    remembered = True
    bound_micros: int
    moved_micros: int
