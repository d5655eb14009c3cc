"""Parts of Circle's answers and events, read without trust.

What is missing or of another form makes an answer unreadable, which proves nothing, and an event malformed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic_core import from_json

from providers.circle.amounts import UnreadableAnswer
from providers.events import EventRefused, RefusalCause

T = TypeVar("T")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BELOW_MICROSECONDS = re.compile(r"(\.\d{6})\d+")
_IDENTIFIER = re.compile(r"[A-Za-z0-9-]{1,64}")


def field(body: Any, name: str, kind: type[T]) -> T:
    """A part that has to be there."""
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind):
        raise UnreadableAnswer(f"{name} is missing, or not what it was")
    return value


def text(body: Any, name: str) -> str:
    """A text, or nothing where there is none."""
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def identifier(body: Any) -> str:
    """Circle's id of a resource. It becomes part of a path, so it has to look like an id."""
    value = text(body, "id")
    if not _IDENTIFIER.fullmatch(value):
        raise UnreadableAnswer("an id is missing, or is none")
    return value


def time_of(body: Any, name: str) -> datetime:
    """A moment, in UTC."""
    try:
        return datetime.fromisoformat(text(body, name)).astimezone(UTC)
    except ValueError as error:
        raise UnreadableAnswer(f"{name} is not a time") from error


def instant(moment: datetime) -> str:
    """A moment as Circle reads it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_uuid(value: str) -> bool:
    """Whether it has the form of a UUID. It may become part of a path, and everybody can send us one."""
    return bool(_UUID.fullmatch(value))


def event_object(body: bytes | str) -> dict[str, Any]:
    """The JSON object that an event is, or is in."""
    try:
        # Bounded in depth by itself. The standard library's parser is bounded by the interpreter's recursion limit,
        # which a package below web3 lifts so far that a hundred thousand brackets end the process.
        content = from_json(body)
    except ValueError as error:
        raise EventRefused(RefusalCause.MALFORMED, "it is no JSON") from error
    if not isinstance(content, dict):
        raise EventRefused(RefusalCause.MALFORMED, "it is no JSON object")
    return content


def event_time(written: str) -> datetime:
    """A moment as an event says it, perhaps to the nanosecond."""
    try:
        moment = datetime.fromisoformat(_BELOW_MICROSECONDS.sub(r"\1", written))
    except ValueError as error:
        raise EventRefused(RefusalCause.MALFORMED, "it has no time") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
