"""Recurrences: the RFC 5545 rules by which a scheduled transfer runs again, as far as this wallet runs them.

dateutil knows the calendar; what is here is the choice of rules. None runs more often than daily, and the time of day
is always that of the first run. The first run has to be one that the rule itself gives: the standard leaves open what
happens otherwise, and dateutil would look for the first match to the end of the calendar. Months without the day are
left out, as the standard says; the last day of every month is BYMONTHDAY=-1.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import datetime

from dateutil.rrule import rrule, rrulestr

from domain.errors import ScheduleInvalid

_EVERYWHERE = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"})
# What each frequency may be narrowed down by. More would be legal and never asked for, or might never match again.
_PARTS = {
    "DAILY": _EVERYWHERE | {"BYDAY"},
    "WEEKLY": _EVERYWHERE | {"BYDAY"},
    "MONTHLY": _EVERYWHERE | {"BYDAY", "BYMONTHDAY", "BYSETPOS"},
    "YEARLY": _EVERYWHERE | {"BYMONTH", "BYMONTHDAY"},
}
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NUMBER = r"[1-9]\d{0,3}"
_DAY = f"(?:{'|'.join(_DAYS)})"
# The first four of anything that a month has are in every month, as are the last four.
_ORDINAL_DAY = f"(?:[+-]?[1-4])?{_DAY}"


def _list_of(element: str) -> str:
    return f"{element}(?:,{element})*"


_FORMS = {
    "FREQ": "[A-Z]+",
    "INTERVAL": _NUMBER,
    "COUNT": _NUMBER,
    "UNTIL": r"\d{8}T\d{6}Z",
    "WKST": _DAY,
    "BYDAY": _list_of(_ORDINAL_DAY),
    "BYMONTH": _list_of(r"(?:[1-9]|1[0-2])"),
    "BYMONTHDAY": _list_of(r"[+-]?(?:[1-9]|[12]\d|3[01])"),
    "BYSETPOS": _list_of("[+-]?[1-4]"),
}


class Recurrence:
    """When a scheduled transfer runs: once, or by a rule."""

    def __init__(self, text: str, *, start: datetime) -> None:
        """`text` is empty, or a rule that was checked when it was taken on: what was admitted once goes on running."""
        self._start = start
        self._rule = _rule(text, start) if text else None

    @classmethod
    def checked(cls, text: str, *, start: datetime) -> Recurrence:
        """Raises `ScheduleInvalid` for a rule that is none, or none of ours, or does not begin at `start`."""
        if text and not _matches(_parts(text.upper()), start):
            raise ScheduleInvalid("start_not_in_recurrence")
        try:
            recurrence = cls(text, start=start)
        except ValueError:
            raise ScheduleInvalid("part_until") from None
        if recurrence.first() != start:
            raise ScheduleInvalid("start_not_in_recurrence")
        return recurrence

    def first(self) -> datetime | None:
        """The first run; None where a rule ends before it begins."""
        return self._start if self._rule is None else next(iter(self._rule), None)

    def after(self, moment: datetime) -> datetime | None:
        """The first run later than `moment`; None when there is none any more."""
        if self._rule is not None:
            found: datetime | None = self._rule.after(moment)
            return found
        return self._start if self._start > moment else None


def _rule(text: str, start: datetime) -> rrule:
    # Names and values are written large or small, the standard does not mind.
    rule = rrulestr(text.upper(), dtstart=start)
    assert isinstance(rule, rrule), "one rule without a prefix is one rule"
    return rule


def _parts(text: str) -> dict[str, str]:
    """The parts of a rule by their names; raises what is wrong with them."""
    pairs = [part.partition("=") for part in text.split(";")]
    parts = {name: value for name, _, value in pairs}
    if len(parts) != len(pairs) or "FREQ" not in parts:
        raise ScheduleInvalid("recurrence_form")
    if parts["FREQ"] not in _PARTS:
        raise ScheduleInvalid("frequency")
    for name, value in parts.items():
        if name not in _PARTS[parts["FREQ"]]:
            raise ScheduleInvalid(f"part_{name.lower()}" if name in _FORMS else "recurrence_form")
        if not re.fullmatch(_FORMS[name], value):
            raise ScheduleInvalid(f"part_{name.lower()}")
    _check_combination(parts)
    return parts


def _check_combination(parts: Mapping[str, str]) -> None:
    """Parts that are sound alone and together leave the subset."""
    ordinals = any(len(day) > 2 for day in parts.get("BYDAY", "").split(","))
    if ordinals and parts["FREQ"] != "MONTHLY":
        raise ScheduleInvalid("part_byday")
    if "BYDAY" in parts and "BYMONTHDAY" in parts:
        raise ScheduleInvalid("part_bymonthday")
    if "BYSETPOS" in parts and (ordinals or "BYDAY" not in parts):
        raise ScheduleInvalid("part_bysetpos")
    if "UNTIL" in parts and "COUNT" in parts:
        raise ScheduleInvalid("part_until")


def _matches(parts: Mapping[str, str], start: datetime) -> bool:
    """Whether each part by itself admits the first run, so that looking for it ends at once."""
    checks: dict[str, Callable[[str], bool]] = {
        "BYMONTH": lambda month: int(month) == start.month,
        "BYMONTHDAY": lambda day: int(day) in _month_days(start),
        "BYDAY": lambda day: day[-2:] == _DAYS[start.weekday()],
    }
    return all(any(check(one) for one in parts[name].split(",")) for name, check in checks.items() if name in parts)


def _month_days(start: datetime) -> tuple[int, int]:
    """The day's number in its month, from the beginning and from the end."""
    return start.day, start.day - monthrange(start.year, start.month)[1] - 1
