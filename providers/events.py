"""Events that providers send us: who may say so, and what an event is to us.

A verifier is given the headers and the very bytes of a request. It answers with an event, or says why there is none. An
event names a resource that may have changed; what it says of the resource itself is left aside, because the worker that
looks into it reads the resource anew. So a verified event can at most make us look once too often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class RefusalCause(StrEnum):
    """Why what came is no event."""

    FORGED = "forged"
    """Not signed by the provider, or not for us."""
    STALE = "stale"
    """Signed, and too old to be a delivery that is still being tried."""
    MALFORMED = "malformed"


class EventRefused(Exception):
    """It is answered with an error, counted, and changes nothing."""

    def __init__(self, cause: RefusalCause, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """Something may have changed. `id` is the same however often it is delivered.

    Without a subject it is about nothing that we keep: worth an answer and no look.
    """

    id: str
    source: str
    subject: str
    reference: str
    occurred_at: datetime


class EventVerifier(Protocol):
    """One kind of events of one provider."""

    async def verify(self, headers: Mapping[str, str], body: bytes) -> ProviderEvent:
        """The event, or `EventRefused`; `ProviderUnavailable` where the key to judge by cannot be had now."""
        ...
