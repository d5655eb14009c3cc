"""What stands in the way now: nothing of it is stored, and the same request id may be tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.errors.base import WalletError
from domain.money import Asset


@dataclass(eq=False)
class IdempotencyKeyReused(WalletError):
    """The request id was used before, for something else."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    request_id: str


@dataclass(eq=False)
class RecipientNotFound(WalletError):
    """No consumer has this id, email, phone or handle."""

    reason = "RECIPIENT_NOT_FOUND"
    field: str | None = None


@dataclass(eq=False)
class SelfTransfer(WalletError):
    """Sender and recipient are the same consumer."""

    reason = "SELF_TRANSFER"
    field: str | None = None


@dataclass(eq=False)
class AssetUnsupported(WalletError):
    """The asset is none of the five, or is not carried here."""

    reason = "ASSET_UNSUPPORTED"
    asset: str


@dataclass(eq=False)
class RateTooOld(WalletError):
    """The reference rate between euro and dollar is missing or too old to decide on."""

    reason = "RATE_TOO_OLD"
    rate_time: datetime | None = None


@dataclass(eq=False)
class QuoteNotFound(WalletError):
    """The wallet has no such quote."""

    reason = "QUOTE_NOT_FOUND"


@dataclass(eq=False)
class NoLiquidity(WalletError):
    """There is too little of the asset at any price we would quote. Try a smaller amount, or later."""

    reason = "NO_LIQUIDITY"
    sell_asset: Asset
    buy_asset: Asset


@dataclass(eq=False)
class SwapsSuspended(WalletError):
    """The operator has as much open swap business as it allows itself. It passes as swaps settle."""

    reason = "SWAPS_SUSPENDED"


@dataclass(eq=False)
class NoRoute(WalletError):
    """No provider can carry this now: each is down, paused or short of float. Nothing was held."""

    reason = "NO_ROUTE"
    asset: Asset


@dataclass(eq=False)
class CursorInvalid(WalletError):
    """The resume cursor is none of ours, or belongs to another wallet."""

    reason = "CURSOR_INVALID"


@dataclass(eq=False)
class CursorTooOld(WalletError):
    """The wallet was restored to a time before the cursor's: the stream cannot go on from it."""

    reason = "CURSOR_TOO_OLD"
    oldest_cursor: str


@dataclass(eq=False)
class TransactionNotFound(WalletError):
    """The wallet has no such transaction."""

    reason = "TRANSACTION_NOT_FOUND"


@dataclass(eq=False)
class PageTokenInvalid(WalletError):
    """The page token is none of ours, or belongs to other filters."""

    reason = "PAGE_TOKEN_INVALID"


@dataclass(eq=False)
class PaymentRequestNotFound(WalletError):
    """The wallet neither made nor got such a payment request."""

    reason = "PAYMENT_REQUEST_NOT_FOUND"


@dataclass(eq=False)
class NotThePayer(WalletError):
    """Only who was asked can pay a payment request."""

    reason = "NOT_THE_PAYER"


@dataclass(eq=False)
class ScheduledTransferNotFound(WalletError):
    """The wallet has no such scheduled transfer."""

    reason = "SCHEDULED_TRANSFER_NOT_FOUND"


@dataclass(eq=False)
class ScheduledTransferCompleted(WalletError):
    """Every run has been made; there is nothing left to cancel."""

    reason = "SCHEDULED_TRANSFER_COMPLETED"


@dataclass(eq=False)
class ScheduleInvalid(WalletError):
    """The first run is not in the future, or the recurrence is no RFC 5545 rule that this wallet runs."""

    reason = "SCHEDULE_INVALID"
    cause: str


@dataclass(eq=False)
class ConsumerNotFound(WalletError):
    """No consumer has this id."""

    reason = "CONSUMER_NOT_FOUND"
    consumer_id: UUID | None = None


@dataclass(eq=False)
class Overloaded(WalletError):
    """The queue is full; nothing was applied. Try again after the pause."""

    reason = "OVERLOADED"
    retry_after_ms: int


@dataclass(eq=False)
class RateLimited(WalletError):
    """Too many calls within a minute; nothing was applied. Try again after the pause."""

    reason = "RATE_LIMITED"
    limit: int
    remaining: int
    reset_time: datetime
    retry_after_ms: int


@dataclass(eq=False)
class DatabaseUnavailable(WalletError):
    """The ledger cannot be reached. Nothing is known to have been applied: ask again with the same request id."""

    reason = "STORAGE_UNAVAILABLE"


@dataclass(eq=False)
class DeadlinePassed(WalletError):
    """The caller's deadline passed before the command was decided; nothing was applied."""

    reason = "DEADLINE_PASSED"


@dataclass(eq=False)
class BalanceOverflow(WalletError):
    """The recipient's balance would not fit in 64 bits."""

    reason = "BALANCE_OVERFLOW"
    asset: Asset


@dataclass(eq=False)
class StateConflict(WalletError):
    """Something the command was built on has changed since; read again and decide anew."""

    reason = "STATE_CONFLICT"
    subject: str
    expected: str
    found: str
