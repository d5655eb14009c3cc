"""Why the wallet says no: one class for each reason a caller could act on, holding facts, never prose or status codes.

`server/api/errors.py` maps each class once to a gRPC status with its `ErrorInfo`. A class marked `remembered` is a
definite business decision: it is stored under the caller's request id, so that the same id answers the same for ever
(money rule 22). Everything else (validation, access, overload) is not stored and may be tried again with the same id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from domain.money import Asset

_BY_REASON: dict[str, type[WalletError]] = {}


class WalletError(Exception):
    """The base of every expected refusal."""

    reason: ClassVar[str] = ""
    remembered: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if cls.reason:
            _BY_REASON[cls.reason] = cls

    def facts(self) -> dict[str, str]:
        """The facts as text, for an error's metadata and for storage."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: _as_text(getattr(self, name)) for name in names if getattr(self, name) is not None}

    def __str__(self) -> str:
        return f"{self.reason} {self.facts()}"


def stored_error(reason: str, facts: dict[str, str]) -> WalletError:
    """Rebuild a remembered refusal from what `reason` and `facts()` stored."""
    error = _BY_REASON[reason]
    values = {field.name: _from_text(field.type, facts.get(field.name)) for field in fields(error)}  # type: ignore[arg-type]
    return error(**values)


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _from_text(kind: Any, text: str | None) -> Any:
    if text is None:
        return None
    name = str(kind).split(" | ")[0]
    readers: dict[str, Callable[[str], Any]] = {"int": int, "UUID": UUID, "Asset": Asset}
    readers["datetime"] = datetime.fromisoformat
    return readers.get(name, str)(text)


# --- remembered: definite business decisions ------------------------------------------------------------------------


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


# --- not remembered -------------------------------------------------------------------------------------------------


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


# --- who is calling -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class TokenMissing(WalletError):
    """The call carries no token."""

    reason = "TOKEN_MISSING"


@dataclass(eq=False)
class TokenInvalid(WalletError):
    """The token's signature, issuer, audience, form or key is not accepted."""

    reason = "TOKEN_INVALID"


@dataclass(eq=False)
class TokenExpired(WalletError):
    """The token's time is over."""

    reason = "TOKEN_EXPIRED"
    expire_time: datetime


@dataclass(eq=False)
class ScopeMissing(WalletError):
    """The token lacks a scope that the rpc declares."""

    reason = "SCOPE_MISSING"
    scope: str


@dataclass(eq=False)
class CallerNotAllowed(WalletError):
    """This kind of token may not call the rpc."""

    reason = "CALLER_NOT_ALLOWED"
    token_use: str


@dataclass(eq=False)
class AddressNotAllowed(WalletError):
    """Calls from this network address are not served."""

    reason = "ADDRESS_NOT_ALLOWED"


@dataclass(eq=False)
class CertificateRequired(WalletError):
    """A service's token counts only together with the service's client certificate."""

    reason = "CERTIFICATE_REQUIRED"


@dataclass(eq=False)
class NotYourWallet(WalletError):
    """A consumer's token reaches that consumer's own wallet only."""

    reason = "NOT_YOUR_WALLET"


# --- what was sent --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks a rule: its path, the rule's name, and what the rule says."""

    field: str
    rule: str
    description: str


@dataclass(eq=False)
class ValidationFailed(WalletError):
    """A field breaks a rule of the contract."""

    reason = "VALIDATION_FAILED"
    violations: tuple[FieldViolation, ...]

    def facts(self) -> dict[str, str]:
        """None: the violations go out in a form of their own."""
        return {}


@dataclass(eq=False)
class BatchTooLarge(WalletError):
    """More items than this deployment takes in one batch."""

    reason = "BATCH_TOO_LARGE"
    count: int
    max_count: int


@dataclass(eq=False)
class ConsumerIdRequired(WalletError):
    """A service has to say for whom it calls."""

    reason = "CONSUMER_ID_REQUIRED"


@dataclass(eq=False)
class KycLevelNotAllowed(WalletError):
    """The KYC level is not the next one."""

    reason = "KYC_LEVEL_NOT_ALLOWED"
    kyc_level: int
    allowed_kyc_level: int | None
    """None: there is no higher one."""


@dataclass(eq=False)
class KycEvidenceMissing(WalletError):
    """The case lacks evidence that its level requires."""

    reason = "KYC_EVIDENCE_MISSING"
    required_evidence: str
    """The kinds that are missing, separated by spaces."""


@dataclass(eq=False)
class RailUnsupported(WalletError):
    """No provider carries this way of moving money."""

    reason = "RAIL_UNSUPPORTED"
    rail: str


@dataclass(eq=False)
class EtagMismatch(WalletError):
    """Somebody else changed it since it was read; `etag` is what stands there now."""

    reason = "ETAG_MISMATCH"
    etag: str


@dataclass(eq=False)
class EmailTaken(WalletError):
    """A consumer with this email exists."""

    reason = "EMAIL_TAKEN"


@dataclass(eq=False)
class PhoneTaken(WalletError):
    """A consumer with this phone exists."""

    reason = "PHONE_TAKEN"


@dataclass(eq=False)
class HandleTaken(WalletError):
    """Another consumer has the handle, or it is reserved."""

    reason = "HANDLE_TAKEN"


@dataclass(eq=False)
class ConsumerErased(WalletError):
    """The consumer's personal data was erased and the wallet is closed for good."""

    reason = "CONSUMER_ERASED"


@dataclass(eq=False)
class WalletNotEmpty(WalletError):
    """The wallet still holds money, or something of it has not settled."""

    reason = "WALLET_NOT_EMPTY"
    asset: Asset
    micros: int


@dataclass(eq=False)
class BankAccountNotFound(WalletError):
    """The wallet has no such bank account."""

    reason = "BANK_ACCOUNT_NOT_FOUND"


@dataclass(eq=False)
class BankAccountNotActive(WalletError):
    """The bank account is still being looked at, or was refused."""

    reason = "BANK_ACCOUNT_NOT_ACTIVE"
    state: str


# --- operations -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class KycCaseNotFound(WalletError):
    """There is no such case."""

    reason = "KYC_CASE_NOT_FOUND"


@dataclass(eq=False)
class KycCaseDecided(WalletError):
    """The case was decided before, the other way."""

    reason = "KYC_CASE_DECIDED"
    state: str


@dataclass(eq=False)
class SettlementNotFound(WalletError):
    """There is no such settlement item."""

    reason = "SETTLEMENT_NOT_FOUND"


@dataclass(eq=False)
class SettlementNotRetryable(WalletError):
    """The item is done, or an earlier attempt of it is not proven dead: trying again could pay twice."""

    reason = "SETTLEMENT_NOT_RETRYABLE"
    state: str
    cause: str


@dataclass(eq=False)
class ProviderNotFound(WalletError):
    """This deployment has no such provider."""

    reason = "PROVIDER_NOT_FOUND"
    provider: str


@dataclass(eq=False)
class AdjustmentNotFound(WalletError):
    """There is no such adjustment."""

    reason = "ADJUSTMENT_NOT_FOUND"


@dataclass(eq=False)
class AdjustmentClosed(WalletError):
    """The adjustment was approved before, or has expired."""

    reason = "ADJUSTMENT_CLOSED"
    state: str


@dataclass(eq=False)
class SameOperator(WalletError):
    """Who proposed an adjustment cannot approve it: it takes two."""

    reason = "SAME_OPERATOR"


# --- the service itself ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class WalletDisabled(WalletError):
    """The consumer wallet is switched off here."""

    reason = "WALLET_DISABLED"


@dataclass(eq=False)
class AddressPoolEmpty(WalletError):
    """No prepared address is left for a new consumer; workers make more within seconds."""

    reason = "ADDRESS_POOL_EMPTY"


@dataclass(eq=False)
class ProviderUnavailable(WalletError):
    """What a provider was to supply for the answer is not there or too old."""

    reason = "PROVIDER_UNAVAILABLE"
    provider: str


@dataclass(eq=False)
class ProofTooOld(WalletError):
    """No proof of the books was made lately."""

    reason = "PROOF_TOO_OLD"
    proof_time: datetime | None = None


@dataclass(eq=False)
class NotImplementedHere(WalletError):
    """The contract has this rpc and this version of the server does not."""

    reason = "NOT_IMPLEMENTED"


@dataclass(eq=False)
class ShuttingDown(WalletError):
    """This server is being replaced; another one answers."""

    reason = "SHUTTING_DOWN"
