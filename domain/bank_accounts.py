"""Bank accounts that money can be paid out to: what is known of one, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BankAccountState(StrEnum):
    """Whether a bank account can be paid."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDetails:
    """Everything about the account that the bank and its holder know. Personal, all of it."""

    holder_name: str
    bank_name: str
    line1: str
    line2: str
    city: str
    district: str
    postal_code: str
    country: str
    iban: str = ""
    account_number: str = ""
    routing_number: str = ""
    """Of an account in the United States, in place of an IBAN."""

    @property
    def last_four(self) -> str:
        """What of the number is ever shown again."""
        return (self.iban or self.account_number)[-4:]

    def __repr__(self) -> str:
        return "BankDetails(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankInstructions:
    """Where a wire is to be sent, and the reference by which it will be known."""

    beneficiary_name: str
    bank_name: str
    account_number: str
    routing_number: str
    """Or SWIFT code."""
    reference: str
