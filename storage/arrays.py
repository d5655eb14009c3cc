"""Rows to Postgres and back into set-based statements: one array for each column, unnested into rows.

`given_rows` is the SQL side, the rows a caller passes. The ledger's committers pack their arrays by hand: psycopg's own
list dumper spends more time quoting text than Postgres spends writing the rows (two thirds of a committer's CPU in a
profile), so a `packer` writes the wire format of `array_send`: a header, then each element's length and bytes. A small
batch sends seventy arrays of a few elements each, so whatever a packer can know beforehand it does.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    bindparam,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.selectable import TableValuedAlias

_ARRAY = struct.Struct("!iiI")
_SIZE = struct.Struct("!ii")
_LENGTH = struct.Struct("!i")
_NULL = _LENGTH.pack(-1)
_INT8 = struct.Struct("!iq")
_INT4 = struct.Struct("!ii")
_INT2 = struct.Struct("!ih")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(2000, 1, 1).toordinal()


def array_parameter(column: Column[Any]) -> Any:
    """A parameter under the column's name that takes an array of its type."""
    return bindparam(column.name, type_=ARRAY(column.type))


def given_rows(columns: Sequence[Column[Any]]) -> TableValuedAlias:
    """The rows a caller passes as one array for each column."""
    arrays = [array_parameter(column) for column in columns]
    return func.unnest(*arrays).table_valued(*(column.name for column in columns)).render_derived("given")


def columns_of(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows to one plain list for each column, for statements that run through the engine."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _counted(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


# The rows of a batch carry the batch's time, most of them the same object.
@lru_cache(maxsize=64)
def _microseconds(value: datetime) -> bytes:
    since = value - _EPOCH
    return _INT8.pack(8, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


# Column type → (oid of the element type, one element with its length before it).
_ELEMENTS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    Uuid: (2950, lambda value: b"\0\0\0\x10" + value.int.to_bytes(16)),
    BigInteger: (20, partial(_INT8.pack, 8)),
    Integer: (23, partial(_INT4.pack, 4)),
    SmallInteger: (21, partial(_INT2.pack, 2)),
    Boolean: (16, lambda value: b"\0\0\0\x01\x01" if value else b"\0\0\0\x01\x00"),
    Text: (25, lambda value: _counted(value.encode())),
    LargeBinary: (17, _counted),
    DateTime: (1184, _microseconds),
    Date: (1082, lambda value: _INT4.pack(4, value.toordinal() - _EPOCH_DAY)),
    JSONB: (3802, lambda value: _counted(b"\x01" + json.dumps(value).encode())),
}

Packer = Callable[[Sequence[Any]], bytes]


def packer(column: Column[Any]) -> Packer:
    """What turns the values of a column, at least one, into an array parameter."""
    oid, element = _ELEMENTS[type(column.type)]
    # One dimension, which may hold nulls, with indexes from 1.
    start, size = _ARRAY.pack(1, 1, oid), _SIZE.pack

    def required(values: Sequence[Any]) -> bytes:
        return b"".join((start, size(len(values), 1), *map(element, values)))

    def optional(values: Sequence[Any]) -> bytes:
        packed = [_NULL if value is None else element(value) for value in values]
        return b"".join((start, size(len(values), 1), *packed))

    return optional if column.nullable else required
