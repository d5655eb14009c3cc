"""Pages of a list: their size, and the token that says where the next one begins.

A token is bound to the wallet and the filters it was made for, because a place in one list means nothing in another.
It holds no secret and needs no signature: whatever it says, only the caller's own rows are read.
"""

from __future__ import annotations

import base64
import binascii
import json
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain.errors import PageTokenInvalid

DEFAULT_SIZE = 50
LARGEST_SIZE = 500


def size(asked: int) -> int:
    """How many lines a page has. Too many is not an error (AIP-158)."""
    return min(asked, LARGEST_SIZE) if asked else DEFAULT_SIZE


def binding(request: Any, wallet: object) -> str:
    """What a token belongs to: the wallet, and everything in the request but the page itself."""
    filters = type(request)()
    filters.CopyFrom(request)
    for field in {"consumer_id", "page_size", "page_token"}.intersection(type(request).DESCRIPTOR.fields_by_name):
        filters.ClearField(field)
    said = f"{wallet}/{type(request).__name__}/".encode() + filters.SerializeToString(deterministic=True)
    return sha256(said).hexdigest()[:16]


def id_behind(request: Any, bound_to: str) -> UUID | None:
    """The id that a list of ids goes on behind; None at its beginning."""
    if not request.page_token:
        return None
    try:
        return UUID(decode(request.page_token, bound_to))
    except (AttributeError, TypeError, ValueError):
        raise PageTokenInvalid() from None


def encode(place: object, bound_to: str) -> str:
    """The token of a place; `place` is whatever JSON can say."""
    text = json.dumps([bound_to, place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(token: str, bound_to: str) -> Any:
    """The place a token names; raises `PageTokenInvalid`."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        found, place = json.loads(text)
    except (binascii.Error, ValueError, TypeError):
        raise PageTokenInvalid() from None
    if found != bound_to:
        raise PageTokenInvalid()
    return place
