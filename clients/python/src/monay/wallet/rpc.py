"""What a typed call needs to know about its rpc, and what it needs from the client beneath it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Request, Response]):
    """One rpc of the contract. Only what is `repeatable` is ever sent a second time."""

    path: str
    request: type[Request]
    response: type[Response]
    repeatable: bool


class AsyncCaller(Protocol):
    """What carries the calls of an asyncio client."""

    async def unary(self, rpc: Rpc[Request, Response], request: Request, timeout: float | None) -> Response: ...

    def stream(
        self, rpc: Rpc[Request, Response], request: Request, timeout: float | None
    ) -> AsyncIterator[Response]: ...


class SyncCaller(Protocol):
    """What carries the calls of a client for threads."""

    def unary(self, rpc: Rpc[Request, Response], request: Request, timeout: float | None) -> Response: ...

    def stream(self, rpc: Rpc[Request, Response], request: Request, timeout: float | None) -> Iterator[Response]: ...


def new_request_id() -> str:
    """A name for one intent. Store it before the first try if the intent has to survive this process."""
    return str(uuid.uuid4())


def name_intent(request: Message) -> str:
    """Give the request its request id, unless it has one, and every transfer within it, too; answer the id.

    It is written into the caller's own object, before anything is sent: whoever sends the same object again, after
    whatever error, means the same intent and cannot pay twice.
    """
    fields = request.DESCRIPTOR.fields_by_name
    if "transfers" in fields:
        for transfer in request.transfers:  # type: ignore[attr-defined]  # said by its descriptor
            name_intent(transfer)
    if "request_id" not in fields:
        return ""
    if not request.request_id:  # type: ignore[attr-defined]
        request.request_id = new_request_id()  # type: ignore[attr-defined]
    return str(request.request_id)  # type: ignore[attr-defined]
