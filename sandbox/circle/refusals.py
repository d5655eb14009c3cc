"""Refusals as Circle words them: an HTTP status, Circle's own number, and what was wrong with which field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails


class Refusal(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        errors: Sequence[dict[str, Any]] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.body: dict[str, Any] = {"code": code, "message": message}
        if errors:
            self.body["errors"] = list(errors)


def not_found(code: int = 404, message: str = "Not found") -> Refusal:
    return Refusal(404, code, message)


def invalid_field(location: str, error: str, message: str, value: Any = None) -> Refusal:
    """One field is wrong in a way that only its meaning shows."""
    entry = {"error": error, "message": message, "location": location, "invalidValue": value, "constraints": {}}
    return Refusal(400, 2, "API parameter invalid", errors=[entry])


def invalid_fields(found: Sequence[ErrorDetails]) -> Refusal:
    """What pydantic found, in Circle's words."""
    return Refusal(400, 2, "API parameter invalid", errors=[_entry(error) for error in found])


_WORDS = {
    "missing": "required",
    "extra_forbidden": "not_required",
    "greater_than_equal": "min_value",
    "less_than_equal": "max_value",
    "too_short": "length_outside_bounds",
    "too_long": "length_outside_bounds",
    "string_too_short": "length_outside_bounds",
    "string_too_long": "length_outside_bounds",
    "string_pattern_mismatch": "pattern_mismatch",
    "int_parsing": "number_format",
    "int_type": "number_format",
}


def _entry(error: ErrorDetails) -> dict[str, Any]:
    given = error["input"]
    return {
        "error": _WORDS.get(error["type"], "invalid_value"),
        "message": error["msg"],
        "location": ".".join(str(part) for part in error["loc"]),
        "invalidValue": given if isinstance(given, str | int | float | bool) else None,
        "constraints": {},
    }
