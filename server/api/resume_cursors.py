"""Resume cursors: a place in a wallet's stream of transactions, as text that only this module reads.

A cursor is bound to its wallet and to the ledger's epoch. It holds no secret and needs no signature: whatever it says,
only the caller's own entries are read. It stays below the contract's 1,024 characters, whatever the versions.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain.errors import CursorInvalid, CursorTooOld
from domain.identity import ConsumerId
from domain.money import MAX_MICROS, Asset
from domain.streams import NAMED_LIMIT, Mark

_ASSETS = tuple(Asset)


def encode(mark: Mark, *, wallet: ConsumerId, epoch: UUID) -> str:
    """The cursor of a place."""
    told, settled = ([versions.get(asset, 0) for asset in _ASSETS] for versions in (mark.told, mark.settled))
    named = [[_ASSETS.index(asset), version] for asset, version in mark.named]
    text = json.dumps([_binding(wallet), epoch.hex, told, settled, named], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, *, wallet: ConsumerId, epoch: UUID) -> Mark:
    """The place of a cursor; raises `CursorInvalid`, or `CursorTooOld` when the ledger has begun anew since."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        binding, of_epoch, told, settled, named = json.loads(text)
        mark = Mark(_versions(told), _versions(settled), tuple((_ASSETS[place], version) for place, version in named))
    except (binascii.Error, ValueError, TypeError, IndexError):
        raise CursorInvalid() from None
    if binding != _binding(wallet) or not _is_sound(mark):
        raise CursorInvalid()
    if of_epoch != epoch.hex:
        raise too_old(wallet=wallet, epoch=epoch)
    return mark


def too_old(*, wallet: ConsumerId, epoch: UUID) -> CursorTooOld:
    """The refusal of a cursor from another time line. The history is kept, so a stream can begin with all of it."""
    return CursorTooOld(encode(Mark.at({}), wallet=wallet, epoch=epoch))


def _binding(wallet: ConsumerId) -> str:
    return sha256(wallet.bytes).hexdigest()[:12]


def _versions(said: Sequence[Any]) -> dict[Asset, int]:
    return dict(zip(_ASSETS, said, strict=True))


def _is_sound(mark: Mark) -> bool:
    """Whether this module could have written it: text that decodes may still say nonsense."""
    versions = [*mark.told.values(), *mark.settled.values(), *(version for _, version in mark.named)]
    if not all(type(version) is int and 0 <= version <= MAX_MICROS for version in versions):
        return False
    backwards = all(mark.settled[asset] <= mark.told[asset] for asset in _ASSETS)
    return backwards and len(mark.named) <= NAMED_LIMIT
