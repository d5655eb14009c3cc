"""What a message has to be before a handler sees it: bytes of its type, and within the rules beside its fields.

protovalidate compiles the rules of a message type at its first use and judges a transfer in 7 µs. It is the only place
that knows it, so that it can be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from protovalidate import Validator, Violation

from domain.errors import AssetUnsupported, FieldViolation, ValidationFailed

_validator = Validator()

# Fields that name the asset to move or to look at. An unknown one has a reason of its own, as one we do not carry has.
_ASSETS = ("asset", "buy_asset")


MALFORMED: Final = object()
"""In the place of a message: what came is none of its type."""


def reader(kind: Descriptor) -> Callable[[bytes], Any]:
    """Reads messages of that type. gRPC answers UNKNOWN when reading raises, and the caller could not tell whose fault
    it was; so what cannot be read is handed on, to be refused like anything else that is wrong.
    """
    parse = GetMessageClass(kind).FromString

    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return MALFORMED

    return read


def require_message(request: Any) -> None:
    """Raise `ValidationFailed` in place of a message that could not be read."""
    if request is MALFORMED:
        text = "These bytes are no message of the rpc's type, or a text in them is not UTF-8."
        raise ValidationFailed((FieldViolation("", "message.malformed", text),))


def check(message: Message) -> None:
    """Raise `ValidationFailed` with every field that breaks a rule, or `AssetUnsupported` where that is all."""
    violations = _validator.collect_violations(message)
    if not violations:
        return
    told = tuple(_told(violation) for violation in violations)
    if all(violation.field.rpartition(".")[2] in _ASSETS for violation in told):
        raise AssetUnsupported(str(violations[0].field_value))
    raise ValidationFailed(told)


def _told(violation: Violation) -> FieldViolation:
    proto = violation.proto
    return FieldViolation(_path(proto.field), proto.rule_id, proto.message)


def _path(field: object) -> str:
    """`items[3].amount`: the names of the fields on the way, with the index where a field is repeated."""
    parts: list[str] = []
    for element in getattr(field, "elements", ()):
        subscript = element.subscript
        index = f"[{subscript.value}]" if subscript is not None else ""
        parts.append(f"{element.field_name}{index}")
    return ".".join(parts)
