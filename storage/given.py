"""Rows passed into a statement that runs through the engine: one array for each column, unnested.

The parameters bear other names than the columns, because SQLAlchemy takes a parameter with a column's name for a value
to set in an UPDATE. The arrays are packed as the committers pack theirs (`storage/arrays.py`), and for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from sqlalchemy import Column, ColumnElement, Uuid, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import UserDefinedType

from storage.arrays import packer


class PackedArray(bytes):
    """A whole array in the wire format."""


class _PackedArrayDumper(Dumper):
    # The statement casts the parameter, so Postgres knows its type; the oid here stays unknown.
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer | None:
        return bytes(obj)


psycopg.adapters.register_dumper(PackedArray, _PackedArrayDumper)


class _Packed(UserDefinedType[Any]):
    """A parameter that SQLAlchemy hands to the driver as it is."""

    cache_ok = True


def _array(name: str, column: Column[Any]) -> ColumnElement[Any]:
    return cast(bindparam(name, type_=_Packed()), ARRAY(column.type))


class GivenRows:
    """The SQL side, as `table` and its columns `c`, and the parameters that fill it."""

    def __init__(self, *columns: Column[Any]) -> None:
        self._names = [f"given_{column.name}" for column in columns]
        self._packers = [packer(column) for column in columns]
        arrays = [_array(name, column) for name, column in zip(self._names, columns, strict=True)]
        unnested = func.unnest(*arrays).table_valued(*(column.name for column in columns))
        self.table: TableValuedAlias = unnested.render_derived("given")
        self.c = self.table.c

    def bind(self, rows: Iterable[Sequence[Any]], **others: Any) -> dict[str, Any]:
        """The parameters for these rows, and `others` of the same statement."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return {**dict.fromkeys(self._names, "{}"), **others}
        packed = [PackedArray(pack(values)) for pack, values in zip(self._packers, columns, strict=True)]
        return {**dict(zip(self._names, packed, strict=True)), **others}


_ID = Column("id", Uuid, nullable=False)
_GIVEN_IDS = _array("given_ids", _ID)
_pack_ids = packer(_ID)


def is_given(column: Column[Any]) -> ColumnElement[bool]:
    """Whether the column is one of the ids that `given_ids` passes."""
    return column.in_(select(func.unnest(_GIVEN_IDS)))


def given_ids(ids: Iterable[UUID], **others: Any) -> dict[str, Any]:
    """The parameters of a statement with `is_given`, and `others` of it."""
    values = list(ids)
    return {"given_ids": PackedArray(_pack_ids(values)) if values else "{}", **others}
