"""What every table is made with: one metadata with its naming of constraints, and the usual columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, MetaData

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def required(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


def optional(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=True)


def time(name: str, *, required: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=not required)
