"""Who is calling, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.errors.base import WalletError


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
