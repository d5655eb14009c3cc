"""Who can own money, and the identifiers that name things.

Every identifier is a UUID made by the application. A *holder* is whoever a position on a rail belongs to: a consumer,
the operator (who has two addresses), or nobody we keep books for (outside).
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import NewType
from uuid import UUID, uuid5

ConsumerId = NewType("ConsumerId", UUID)
HolderId = UUID
TransactionId = NewType("TransactionId", UUID)
ItemId = NewType("ItemId", UUID)
AttemptId = NewType("AttemptId", UUID)

# Fixed identifiers, so that system accounts and positions have an owner in the same column as everybody else.
OPERATOR = UUID(int=0)
OUTSIDE = UUID(int=1)
FEE_PAYER = UUID(int=2)
"""The operator's second address: it pays network fees, so that gas reservations never touch the float (rule 19)."""

OPERATOR_HOLDERS = (OPERATOR, FEE_PAYER)

_REQUEST_KEYS = UUID("5a8b6f0e-3c0f-5b8e-9d1c-6d6f6e617900")
_BODY_HASH_VERSION = 1


def is_consumer(holder: HolderId) -> bool:
    """Whether the holder is a person with a wallet (neither the operator nor outside)."""
    return holder.int > FEE_PAYER.int


def request_key(*, caller: str, request_id: str) -> UUID:
    """The ledger's key for a caller's request id.

    `caller` is "consumer", "service:<name>", "operator:<name>" or "worker:<name>". Deriving the key from both keeps a
    service's ids apart from the consumer's own (money rule 22) in one column that is unique for ever. A UUID is a
    number, so whether its digits are written large or small makes no other id.
    """
    return uuid5(_REQUEST_KEYS, f"{caller}/{request_id.lower()}")


def body_hash(method: str, *fields: str | int) -> bytes:
    """What a request id was used for: the method and its fields as the caller sent them (money rule 22).

    It is compared for ever, so it is made from this list and not from the bytes of a message, whose encoding may change
    with a library. The version says which list it was.
    """
    said = json.dumps([_BODY_HASH_VERSION, method, *fields], separators=(",", ":"))
    return sha256(said.encode()).digest()
