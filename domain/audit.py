"""The audit log: who did what, and the hash chain that shows whether the record is still what was written.

What operators do is written down in the commit that does it. Movements of money need no second record: the journal is
one already. A worker chains both, off the hot path: each record gets a number and a hash over its content and the hash
before it, so that nobody can alter, remove or move one without every later hash being wrong. The head of the chain,
kept elsewhere, protects the rest from whoever could rewrite all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from uuid import UUID


class Role(StrEnum):
    """As what somebody acts."""

    CONSUMER = "consumer"
    SERVICE = "service"
    OPERATOR = "operator"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from which network address, and under which request id."""

    name: str
    role: Role
    peer: str = ""
    request_id: str = ""

    @property
    def caller(self) -> str:
        """As request keys and the journal name a caller."""
        return f"{self.role}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFact:
    """One act, for the audit log, in the same commit as its effect. `facts` hold no personal data."""

    id: UUID
    actor: Actor
    action: str
    subject: str
    consumer_id: UUID | None = None
    """Whose wallet it touched."""
    facts: Mapping[str, str] = field(default_factory=dict)


# --- the chain --------------------------------------------------------------------------------------------------------

GENESIS = bytes(32)
"""What the first record's hash is made over, in place of a predecessor's."""

_VERSION = 1


def content_hash(origin: str, *content: object) -> bytes:
    """The hash of one record, made of what it says and not of how a library encodes it; compared for ever."""
    said = json.dumps([_VERSION, origin, *content], separators=(",", ":"), sort_keys=True)
    return sha256(said.encode()).digest()


def chain_hash(previous: bytes, sequence: int, content: bytes) -> bytes:
    """The hash that ties a record to its number and to everything before it."""
    return sha256(previous + sequence.to_bytes(8) + content).digest()


class FaultKind(StrEnum):
    """What is wrong with a place in the chain."""

    ALTERED = "ALTERED"
    MISSING = "MISSING"
    REORDERED = "REORDERED"


@dataclass(frozen=True, slots=True)
class Fault:
    """A place where the chain does not fit together."""

    sequence: int
    kind: FaultKind


@dataclass(frozen=True, slots=True)
class Link:
    """A chained record as it is found: what was written about it, and what its content hashes to now."""

    sequence: int
    content_hash: bytes
    hash: bytes
    found_hash: bytes | None
    """None: the record itself is gone."""


MOST_FAULTS = 1_000


@dataclass(slots=True)
class Verification:
    """Walks over links in the order of their numbers and notes the first things that do not fit."""

    next_sequence: int
    previous: bytes | None
    """The hash before the first link; None if it is not known, so that the first cannot be tied to it."""
    checked: int = 0
    faults: list[Fault] = field(default_factory=list)

    def walk(self, links: Iterable[Link]) -> None:
        """Check the next links."""
        for link in links:
            self._pass_over(link.sequence)
            kind = self._fault(link)
            if kind is not None:
                self._note(link.sequence, kind)
            self.checked += 1
            self.previous, self.next_sequence = link.hash, link.sequence + 1

    def end(self, last: int, *, head_hash: bytes | None) -> None:
        """Every number up to `last` should have been there; `head_hash` is the chain's, if it ends there."""
        self._pass_over(last + 1)
        if None not in (head_hash, self.previous) and head_hash != self.previous:
            self._note(last, FaultKind.REORDERED)

    def _pass_over(self, sequence: int) -> None:
        if sequence <= self.next_sequence:
            return
        room = MOST_FAULTS - len(self.faults)
        for missing in range(self.next_sequence, min(sequence, self.next_sequence + room)):
            self._note(missing, FaultKind.MISSING)
        self.previous, self.next_sequence = None, sequence

    def _note(self, sequence: int, kind: FaultKind) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(sequence, kind))

    def _fault(self, link: Link) -> FaultKind | None:
        if link.found_hash is None:
            return FaultKind.MISSING
        if link.found_hash != link.content_hash:
            return FaultKind.ALTERED
        if self.previous is not None and chain_hash(self.previous, link.sequence, link.content_hash) != link.hash:
            return FaultKind.REORDERED
        return None
