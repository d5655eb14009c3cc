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
    """The day's outgoing limit of the consumer's KYC level would be passed. Amounts in US dollar micros."""

    reason = "LIMIT_EXCEEDED"
    remembered = True
    kyc_level: int
    limit_micros: int
    used_micros: int
    remaining_micros: int
    requested_micros: int
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


@dataclass(eq=False)
class SelfTransfer(WalletError):
    """Sender and recipient are the same consumer."""

    reason = "SELF_TRANSFER"


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
class DatabaseUnavailable(WalletError):
    """The ledger cannot be reached. Nothing is known to have been applied: ask again with the same request id."""

    reason = "DATABASE_UNAVAILABLE"


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
