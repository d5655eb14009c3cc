"""What operators ask for and cannot have."""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors.base import WalletError


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
class PayoutNotFound(WalletError):
    """There is no such payout."""

    reason = "PAYOUT_NOT_FOUND"


@dataclass(eq=False)
class PayoutNotResolvable(WalletError):
    """Its outcome is known, or has not been unknown for long enough to be a person's to decide."""

    reason = "PAYOUT_NOT_RESOLVABLE"
    state: str


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
