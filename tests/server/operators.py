"""Operators, and what the audit log says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .conftest import operator
from .people import Town

MAKER = operator("maria")
CHECKER = operator("chris")


@dataclass(frozen=True)
class Written:
    """One act as it stands in the audit log."""

    action: str
    actor: str
    role: str
    peer: str
    request_id: str
    consumer_id: Any
    facts: dict[str, str]


async def acts_on(town: Town, subject: object) -> list[Written]:
    """What was written down about a subject, oldest first."""
    rows = await town.books.execute(
        "SELECT action, actor, role, peer, request_id, consumer_id, facts FROM audit_log"
        " WHERE subject = :subject ORDER BY id",
        subject=str(subject),
    )
    return [Written(*row) for row in rows]


async def actions_on(town: Town, subject: object) -> list[str]:
    """Only what was done."""
    return [act.action for act in await acts_on(town, subject)]
