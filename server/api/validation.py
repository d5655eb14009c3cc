"""The rules that stand beside the fields of the contract, enforced before a handler sees the message.

protovalidate compiles the rules of a message type at its first use and judges a transfer in 7 µs. It is the only place
that knows it, so that it can be replaced.
"""

from __future__ import annotations

from google.protobuf.message import Message
from protovalidate import Validator, Violation

from domain.errors import AssetUnsupported, FieldViolation, ValidationFailed

_validator = Validator()

# Fields that name the asset to move or to look at. An unknown one has a reason of its own, as one we do not carry has.
_ASSETS = ("asset", "buy_asset")


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
