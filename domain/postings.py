"""Accounts, and the transactions that move money between them.

A *posting* moves money from one account to another, so every transaction balances by construction. Consumers own two
accounts of each asset, available and held; all others are the operator's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from domain.identity import OPERATOR, HolderId, TransactionId
from domain.money import Asset


class AccountKind(StrEnum):
    """Consumers own `available` and `held`; the rest are the operator's."""

    AVAILABLE = "available"
    HELD = "held"
    FEES = "fees"
    TREASURY = "treasury"
    NETWORK_FEES = "network_fees"
    LOSSES = "losses"
    SUSPENSE = "suspense"
    ESCROW = "escrow"
    EXTERNAL_TEMPO = "external:tempo"
    EXTERNAL_CIRCLE = "external:circle"
    EXTERNAL_MINT = "external:mint"
    EXTERNAL_DEX = "external:dex"


class TransactionKind(StrEnum):
    """What a transaction was for."""

    TRANSFER = "transfer"
    BATCH_TRANSFER = "batch_transfer"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    WITHDRAWAL_POSTED = "withdrawal_posted"
    WITHDRAWAL_RELEASED = "withdrawal_released"
    SWAP = "swap"
    REFUND = "refund"
    REVERSAL = "reversal"
    FEE_SWEEP = "fee_sweep"
    NETWORK_FEE = "network_fee"
    FLOAT = "float"
    EXCHANGE = "exchange"
    SUSPENSE = "suspense"
    ADJUSTMENT = "adjustment"


class Account(NamedTuple):
    """One ledger account: who owns it and what it is for. The asset comes with the posting."""

    owner: HolderId
    kind: AccountKind


def available(consumer: HolderId) -> Account:
    """What a consumer can spend."""
    return Account(consumer, AccountKind.AVAILABLE)


def held(consumer: HolderId) -> Account:
    """What a consumer has reserved for something under way."""
    return Account(consumer, AccountKind.HELD)


def operator_account(kind: AccountKind) -> Account:
    """One of the operator's accounts."""
    return Account(OPERATOR, kind)


class Posting(NamedTuple):
    """Move `micros` of `asset` from `source` to `target`. Always positive."""

    source: Account
    target: Account
    asset: Asset
    micros: int


class Transaction(NamedTuple):
    """The header of an immutable, balanced set of postings: what a history shows."""

    id: TransactionId
    kind: TransactionKind
    consumer_id: HolderId
    counterparty_id: HolderId | None
    asset: Asset
    micros: int
    fee_micros: int = 0
    memo: str = ""
    caller: str = ""
    request_id: str = ""
    batch_id: UUID | None = None
    reference: str = ""
