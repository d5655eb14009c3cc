"""Rows passed into a statement that runs through the engine: one array for each column, unnested.

The parameters bear other names than the columns, because SQLAlchemy takes a parameter with a column's name for a value
to set in an UPDATE. The committers, who compile their own statements, have `given_rows` of `storage/arrays.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.selectable import TableValuedAlias


class GivenRows:
    """The SQL side, as `table` and its columns `c`, and the parameters that fill it."""

    def __init__(self, *columns: Column[Any]) -> None:
        self._names = [f"given_{column.name}" for column in columns]
        arrays = [bindparam(name, type_=ARRAY(column.type)) for name, column in zip(self._names, columns, strict=True)]
        unnested = func.unnest(*arrays).table_valued(*(column.name for column in columns))
        self.table: TableValuedAlias = unnested.render_derived("given")
        self.c = self.table.c

    def bind(self, rows: Iterable[Sequence[Any]], **others: Any) -> dict[str, Any]:
        """The parameters for these rows, and `others` of the same statement."""
        columns = list(zip(*rows, strict=True)) or [()] * len(self._names)
        return {**{name: list(column) for name, column in zip(self._names, columns, strict=True)}, **others}
