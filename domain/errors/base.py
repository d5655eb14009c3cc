"""What all refusals have in common: a reason, facts, and the way to keep them and bring them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from domain.money import Asset

_BY_REASON: dict[str, type[WalletError]] = {}


class WalletError(Exception):
    """The base of every expected refusal."""

    reason: ClassVar[str] = ""
    remembered: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if cls.reason:
            _BY_REASON[cls.reason] = cls

    def facts(self) -> dict[str, str]:
        """The facts as text, for an error's metadata and for storage."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: _as_text(getattr(self, name)) for name in names if getattr(self, name) is not None}

    def __str__(self) -> str:
        return f"{self.reason} {self.facts()}"


def stored_error(reason: str, facts: dict[str, str]) -> WalletError:
    """Rebuild a remembered refusal from what `reason` and `facts()` stored."""
    error = _BY_REASON[reason]
    values = {field.name: _from_text(field.type, facts.get(field.name)) for field in fields(error)}  # type: ignore[arg-type]
    return error(**values)


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _from_text(kind: Any, text: str | None) -> Any:
    if text is None:
        return None
    name = str(kind).split(" | ")[0]
    readers: dict[str, Callable[[str], Any]] = {"int": int, "UUID": UUID, "Asset": Asset}
    readers["datetime"] = datetime.fromisoformat
    return readers.get(name, str)(text)
