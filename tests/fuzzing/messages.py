"""Messages of any type, built field by field from the descriptor, and bytes that are nearly one."""

from __future__ import annotations

import time
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzzing.values import SECONDS, SPANS, Values

_DEPTH = 5


def message(kind: Descriptor, values: Values, *, depth: int = 0) -> Message:
    """A message of that type: some fields left out, most plausible, some not."""
    made = GetMessageClass(kind)()
    if kind.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        _time(made, values.random)
        return made
    for oneof in kind.oneofs:
        _fill(made, values.random.choice(oneof.fields), values, depth)
    for each in kind.fields:
        if each.containing_oneof is None and values.random.random() < 0.93:
            _fill(made, each, values, depth)
    return made


def _fill(made: Any, each: FieldDescriptor, values: Values, depth: int) -> None:
    if each.message_type is not None and (depth >= _DEPTH or each.message_type.GetOptions().map_entry):
        return
    try:
        if each.is_repeated:
            # Few large ones deep down: a thousand of a thousand is more than a message may hold.
            for _ in range(values.count() if depth == 0 else min(values.count(), 3)):
                _append(getattr(made, each.name), each, values, depth)
        elif each.message_type is not None:
            getattr(made, each.name).CopyFrom(message(each.message_type, values, depth=depth + 1))
        else:
            setattr(made, each.name, _scalar(each, values))
    except ValueError:
        # Python refuses a few values that other languages send; those come as bytes.
        made.ClearField(each.name)


def _append(field: Any, each: FieldDescriptor, values: Values, depth: int) -> None:
    if each.message_type is not None:
        field.append(message(each.message_type, values, depth=depth + 1))
    else:
        field.append(_scalar(each, values))


def _scalar(each: FieldDescriptor, values: Values) -> Any:
    if each.type == FieldDescriptor.TYPE_STRING:
        return values.text(each.name)
    if each.type == FieldDescriptor.TYPE_BYTES:
        return values.random.randbytes(values.random.choice((0, 1, 32, 5_000)))
    if each.type == FieldDescriptor.TYPE_BOOL:
        return values.random.random() < 0.5
    if each.enum_type is not None:
        numbers = [value.number for value in each.enum_type.values]
        return values.random.choice([*numbers[1:] * 5, *numbers, 77, -1, 2**31 - 1])
    return values.number(each.type)


def _time(made: Any, random: Random) -> None:
    if random.random() < 0.6:
        made.seconds = int(time.time()) + random.randrange(-86_400, 864_000)
        return
    made.seconds = random.choice(SECONDS)
    made.nanos = random.choice(SPANS)


# --- on the wire ------------------------------------------------------------------------------------------------------


def spoilt(valid: bytes, random: Random) -> bytes:
    """Bytes that another program, an old one or a malicious one, might send in the message's place."""
    ways = (
        lambda: valid[: random.randrange(len(valid) + 1)],
        lambda: _with_flipped_bits(valid, random),
        lambda: valid + _unknown_fields(random),
        lambda: random.randbytes(random.choice((1, 7, 300))),
        # A field 1 whose text is not UTF-8: an unfinished sequence, a surrogate, a byte that never occurs.
        lambda: b"\x0a\x03" + random.choice((b"\xe2\x82A", b"\xed\xa0\x80", b"a\xffb")) + valid,
        # Lengths that promise more than comes, and nesting without end.
        lambda: b"\x0a\xff\xff\xff\xff\x0f" + valid,
        lambda: b"\x12\x7f" * 2_000,
    )
    return random.choice(ways)()


def _with_flipped_bits(valid: bytes, random: Random) -> bytes:
    changed = bytearray(valid)
    for _ in range(random.randrange(1, 4)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _unknown_fields(random: Random) -> bytes:
    """Fields that this contract does not have: a varint and a text, under high numbers."""
    return b"\xf8\x7f\x07" + b"\xfa\xff\x03" + bytes([random.choice((1, 5))]) + b"later"
