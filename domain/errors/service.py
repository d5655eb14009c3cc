"""The service itself cannot answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.errors.base import WalletError


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
