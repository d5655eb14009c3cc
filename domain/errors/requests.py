"""What was sent, and to whom it belongs."""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors.base import WalletError
from domain.money import Asset


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
