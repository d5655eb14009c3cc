"""What a finalized chain event means for the books: pure, one log at a time (money rules 12 and 13).

A log settles exactly one item when transaction hash, token, sender, recipient, amount and memo all match. Any other log
into an address of ours is a deposit if it comes from outside, and a break if it comes from one of ours: money that
moves without an item of ours is never called a deposit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from domain.identity import OPERATOR, OPERATOR_HOLDERS, HolderId, is_consumer
from domain.money import MAX_MICROS, Asset
from domain.postings import Transaction, TransactionKind
from domain.settlement import IN_FLIGHT, Candidate, ItemState
from domain.treasury import StoredSale


class Meaning(StrEnum):
    """What a transfer log stands for."""

    SETTLEMENT = "settlement"
    DEPOSIT = "deposit"
    SUSPENSE = "suspense"
    """Money for an address that is ours and nobody's yet."""
    FLOAT_IN = "float_in"
    FLOAT_OUT = "float_out"
    EXCHANGE = "exchange"
    """One side of a sale of the treasury's on the exchange."""
    BREAK = "break"
    FOREIGN = "foreign"
    """None of our business: between addresses that are none of ours, or of nothing."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer log with its ends resolved to holders; None is an address that is none of ours."""

    asset: Asset
    micros: int
    transaction_hash: str
    sender: HolderId | None
    recipient: HolderId | None
    recipient_address: str
    recipient_assigned: bool


class LogOrigin(NamedTuple):
    """The log that a transaction goes back to, and the address it came from."""

    transaction_hash: str
    log_index: int
    sender: str

    def __str__(self) -> str:
        """As the transaction's header refers to it."""
        return f"{self.transaction_hash}:{self.log_index}:{self.sender}"


def log_origin_of(header: Transaction) -> LogOrigin | None:
    """The log behind a deposit from the chain. Other deposits come from elsewhere."""
    transaction_hash, _, rest = header.reference.partition(":")
    log_index, _, sender = rest.partition(":")
    if header.kind is not TransactionKind.DEPOSIT or not sender.startswith("0x"):
        return None
    return LogOrigin(transaction_hash, int(log_index), sender)


@dataclass(frozen=True, slots=True)
class Expected:
    """The item a log's memo names, and the chain transactions that were signed for it."""

    candidate: Candidate
    state: ItemState
    references: frozenset[str]
    adopted: bool = False
    """Found by its memo alone: after a restore the attempt that carried it may be lost (rule 15)."""


def meaning(transfer: Transfer, expected: Expected | None, sale: StoredSale | None = None) -> Meaning:
    """Judge one log. `sale` is what its chain transaction was signed for, if that is a sale of the treasury's."""
    if transfer.micros == 0:
        return Meaning.FOREIGN  # Anybody may move nothing from and to anybody, for the price of the gas.
    if sale is not None and _trades(transfer, sale):
        return Meaning.EXCHANGE
    if expected is not None and _settles(transfer, expected):
        return Meaning.SETTLEMENT
    if transfer.sender is not None:
        return Meaning.FLOAT_OUT if _leaves_float(transfer) else Meaning.BREAK
    if transfer.recipient is None:
        return Meaning.FOREIGN
    if transfer.micros > MAX_MICROS // 4:
        return Meaning.BREAK  # More than all the dollars there are: no balance could hold it.
    if transfer.recipient in OPERATOR_HOLDERS:
        return Meaning.FLOAT_IN
    return Meaning.DEPOSIT if transfer.recipient_assigned else Meaning.SUSPENSE


_ADOPTABLE = {ItemState.PENDING, ItemState.CLAIMED}


def _settles(transfer: Transfer, expected: Expected) -> bool:
    item = expected.candidate
    same_ends = transfer.sender == item.sender and (
        transfer.recipient == item.recipient
        if item.destination is None
        else transfer.recipient_address == item.destination
    )
    same_money = transfer.asset is item.asset and transfer.micros == item.micros
    awaited = expected.state in (IN_FLIGHT | _ADOPTABLE if expected.adopted else IN_FLIGHT)
    return same_ends and same_money and transfer.transaction_hash in expected.references and awaited


def _trades(transfer: Transfer, sale: StoredSale) -> bool:
    """One of the two sides, to the micro where it was said to the micro: anything else is no part of the sale."""
    sold = transfer.asset is sale.sell.asset and transfer.micros == sale.sell.micros
    bought = transfer.asset is sale.buy_asset and transfer.micros >= sale.least_micros
    out = transfer.sender == OPERATOR and transfer.recipient is None
    into = transfer.sender is None and transfer.recipient == OPERATOR
    return (sold and out) or (bought and into)


def _leaves_float(transfer: Transfer) -> bool:
    """Somebody with the operator's key moved its float by hand: booked as it is on the chain, and reported."""
    if transfer.sender is None or is_consumer(transfer.sender):
        return False
    return transfer.recipient is None or transfer.recipient in OPERATOR_HOLDERS
