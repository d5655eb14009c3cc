"""Request ids as they are looked up outside the ledger's commits: only whether one was ever used."""

from __future__ import annotations

from sqlalchemy import literal, select

from domain.commands import Request
from storage.database import Tx
from storage.schema import requests

_r = requests.c


async def is_known(tx: Tx, request: Request) -> bool:
    """Whether the id was used before, so that its stored answer is all that is needed (money rule 22)."""
    used = select(literal(1)).where(_r.owner_id == request.owner, _r.key == request.key)
    return (await tx.execute(used)).first() is not None
