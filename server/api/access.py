"""Who is calling, what an rpc demands of its callers, and whose wallet a call is about.

What each rpc demands stands beside it in the contract (`access.proto`) and is read from there once, at start. There is
no second list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import MethodDescriptor

from domain.audit import Actor, Role
from domain.errors import CallerNotAllowed, ConsumerIdRequired, ConsumerNotFound, NotYourWallet, ScopeMissing
from domain.identity import ConsumerId, is_consumer
from monay.wallet.v1 import access_pb2


class CallerKind(StrEnum):
    """Whom a token speaks for: its `token_use` claim."""

    CONSUMER = "consumer"
    SERVICE = "service"
    OPERATOR = "operator"
    NOBODY = "nobody"
    """Of a call that needs no token."""


_KINDS = {
    access_pb2.TOKEN_USE_CONSUMER: CallerKind.CONSUMER,
    access_pb2.TOKEN_USE_SERVICE: CallerKind.SERVICE,
    access_pb2.TOKEN_USE_OPERATOR: CallerKind.OPERATOR,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated party of one call."""

    kind: CallerKind
    subject: str
    scopes: frozenset[str]
    expires_at: float
    """When the token runs out, in Unix seconds."""
    consumer_id: ConsumerId | None = None
    """The wallet of a consumer's token."""
    key: str = field(init=False, compare=False)
    """Names the party among all of them, whichever token it shows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.kind}:{self.subject}")

    @property
    def name(self) -> str:
        """As request keys and the journal name a caller: a consumer is always the wallet's own."""
        return "consumer" if self.kind is CallerKind.CONSUMER else self.key


NOBODY = Caller(CallerKind.NOBODY, "", frozenset(), float("inf"))


@dataclass(slots=True)
class Call:
    """What a handler knows about the call it serves, beside the message."""

    id: str
    """Echoed to the client as the trailer `request-id`, and in every log line about the call."""
    deadline: float
    """On the monotonic clock; nobody waits for the answer after it."""
    deadline_is_ours: bool = False
    """The client named none, so the server keeps it."""
    caller: Caller = NOBODY
    wallet: ConsumerId | None = None
    peer: str = ""
    """The network address that the call came from; behind a proxy that we trust, the one that the proxy names."""

    @property
    def actor(self) -> Actor:
        """The caller as the audit log names them."""
        return Actor(self.caller.subject, Role(self.caller.kind), self.peer, self.id)

    @property
    def consumer_id(self) -> ConsumerId:
        """The wallet the call acts on, which the caller may act on."""
        assert self.wallet is not None, "the rpc's request has no consumer_id"
        return self.wallet


@dataclass(frozen=True, slots=True)
class Access:
    """What one rpc demands of its callers."""

    public: bool
    kinds: frozenset[CallerKind]
    scopes: frozenset[str]
    names_wallet: bool
    """The request begins with the consumer_id of the wallet that the call is about."""

    @classmethod
    def declared(cls, method: MethodDescriptor) -> Access:
        """What the contract says beside the rpc. An rpc that says nothing would be open or closed by accident."""
        options = method.GetOptions()
        if not options.HasExtension(access_pb2.access):
            raise ValueError(f"{method.full_name} does not declare who may call it")
        declared = options.Extensions[access_pb2.access]
        kinds = frozenset(_KINDS[kind] for kind in declared.callers)
        if declared.public == bool(kinds):
            raise ValueError(f"{method.full_name} must be either public or name its callers")
        return cls(
            public=declared.public,
            kinds=kinds,
            scopes=frozenset(declared.scopes),
            # Operators name consumers as the subject of an act, not as the wallet they act for.
            names_wallet="consumer_id" in method.input_type.fields_by_name and CallerKind.OPERATOR not in kinds,
        )

    def admit(self, caller: Caller) -> None:
        """Refuse a caller of the wrong kind or without a scope."""
        if caller.kind not in self.kinds:
            raise CallerNotAllowed(caller.kind)
        if not self.scopes <= caller.scopes:
            raise ScopeMissing(" ".join(sorted(self.scopes - caller.scopes)))

    def wallet(self, caller: Caller, request: Any) -> ConsumerId | None:
        """Whose wallet the call is about. A consumer learns nothing about others, not even whether they exist."""
        if not self.names_wallet:
            return None
        text: str = request.consumer_id
        if caller.kind is CallerKind.CONSUMER:
            if text and text != caller.subject and _identifier(text) != caller.consumer_id:
                raise NotYourWallet()
            return caller.consumer_id
        if not text:
            raise ConsumerIdRequired()
        named = _identifier(text)
        if named is not None and not is_consumer(named):
            # The operator has fixed ids in the same column. They are no wallets, whoever names them.
            raise ConsumerNotFound()
        return named


def _identifier(text: str) -> ConsumerId | None:
    """The id, or None for what is none; the contract's rules say so to the caller."""
    try:
        return ConsumerId(UUID(text))
    except ValueError:
        return None
