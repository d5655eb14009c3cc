"""Recurrences: which rules this wallet runs, on which days they fall, and that no rule keeps it thinking."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import ScheduleInvalid
from server.services.recurrences import Recurrence

SUNDAY = datetime(2027, 1, 31, 9, 30, tzinfo=UTC)
LEAP_DAY = datetime(2028, 2, 29, 9, 30, tzinfo=UTC)
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def runs(recurrence: Recurrence, count: int) -> list[datetime]:
    """The first runs, as a worker walks from one to the next."""
    found: list[datetime] = []
    moment = datetime(2000, 1, 1, tzinfo=UTC)
    while len(found) < count and (following := recurrence.after(moment)) is not None:
        found.append(following)
        moment = following
    return found


@pytest.mark.parametrize(
    ("rule", "start", "days"),
    [
        ("", SUNDAY, ["2027-01-31"]),
        ("FREQ=DAILY;COUNT=2", SUNDAY, ["2027-01-31", "2027-02-01"]),
        ("FREQ=DAILY;UNTIL=20270202T000000Z", SUNDAY, ["2027-01-31", "2027-02-01"]),
        ("FREQ=DAILY;UNTIL=20270201T093000Z", SUNDAY, ["2027-01-31", "2027-02-01"]),
        ("freq=daily;byday=sa,su", SUNDAY, ["2027-01-31", "2027-02-06", "2027-02-07"]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO;WKST=SU", SUNDAY, ["2027-01-31", "2027-02-01", "2027-02-14"]),
        ("FREQ=MONTHLY", SUNDAY, ["2027-01-31", "2027-03-31", "2027-05-31"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", SUNDAY, ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30"]),
        ("FREQ=MONTHLY;BYMONTHDAY=15,-1", SUNDAY, ["2027-01-31", "2027-02-15", "2027-02-28"]),
        ("FREQ=MONTHLY;BYDAY=-1SU", SUNDAY, ["2027-01-31", "2027-02-28", "2027-03-28"]),
        ("FREQ=MONTHLY;BYDAY=SA,SU;BYSETPOS=-1", SUNDAY, ["2027-01-31", "2027-02-28", "2027-03-28"]),
        ("FREQ=MONTHLY;INTERVAL=12;BYMONTHDAY=31", SUNDAY, ["2027-01-31", "2028-01-31"]),
        ("FREQ=YEARLY", LEAP_DAY, ["2028-02-29", "2032-02-29"]),
        ("FREQ=YEARLY;BYMONTH=2,8;BYMONTHDAY=-1", LEAP_DAY, ["2028-02-29", "2028-08-31", "2029-02-28"]),
    ],
)
def test_a_rule_falls_on_the_days_that_the_standard_says(rule: str, start: datetime, days: list[str]) -> None:
    """Months without the day are left out; the last day of every month is BYMONTHDAY=-1."""
    found = runs(Recurrence.checked(rule, start=start), len(days))
    assert [run.date().isoformat() for run in found] == days
    assert {run.time() for run in found} == {start.time()}


@pytest.mark.parametrize("rule", ["FREQ=DAILY;COUNT=3", "FREQ=DAILY;UNTIL=20270202T093000Z", ""])
def test_a_rule_that_ends_has_nothing_after_its_end(rule: str) -> None:
    """A schedule is over when every run has been made."""
    last = runs(Recurrence.checked(rule, start=SUNDAY), 100)[-1]
    assert Recurrence.checked(rule, start=SUNDAY).after(last) is None


@pytest.mark.parametrize(
    ("rule", "cause"),
    [
        ("every month", "recurrence_form"),
        ("RRULE:FREQ=DAILY", "recurrence_form"),
        ("FREQ=DAILY;", "recurrence_form"),
        ("FREQ=DAILY;FREQ=DAILY", "recurrence_form"),
        ("INTERVAL=2", "recurrence_form"),
        ("FREQ=DAILY;BYHOUR=1,2", "recurrence_form"),
        ("FREQ=DAILY;BYEASTER=0", "recurrence_form"),
        ("FREQ=HOURLY", "frequency"),
        ("FREQ=MINUTELY;INTERVAL=1440", "frequency"),
        ("FREQ=DAILY;INTERVAL=0", "part_interval"),
        ("FREQ=DAILY;INTERVAL=-1", "part_interval"),
        ("FREQ=DAILY;COUNT=0", "part_count"),
        ("FREQ=DAILY;COUNT=1;UNTIL=20270202T000000Z", "part_until"),
        ("FREQ=DAILY;UNTIL=20270202", "part_until"),
        ("FREQ=DAILY;UNTIL=20270230T000000Z", "part_until"),
        ("FREQ=DAILY;UNTIL=20260101T000000Z", "start_not_in_recurrence"),
        ("FREQ=DAILY;BYMONTH=2", "part_bymonth"),
        ("FREQ=DAILY;BYDAY=1SU", "part_byday"),
        ("FREQ=WEEKLY;BYDAY=XX", "part_byday"),
        ("FREQ=WEEKLY;BYDAY=MO", "start_not_in_recurrence"),
        ("FREQ=MONTHLY;BYDAY=5SU", "part_byday"),
        ("FREQ=MONTHLY;BYDAY=1SU", "start_not_in_recurrence"),
        ("FREQ=MONTHLY;BYDAY=SU;BYMONTHDAY=31", "part_bymonthday"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "part_bymonthday"),
        ("FREQ=MONTHLY;BYMONTHDAY=1", "start_not_in_recurrence"),
        ("FREQ=MONTHLY;BYSETPOS=1", "part_bysetpos"),
        ("FREQ=MONTHLY;BYDAY=-1SU;BYSETPOS=1", "part_bysetpos"),
        ("FREQ=MONTHLY;BYDAY=SU;BYSETPOS=5", "part_bysetpos"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "start_not_in_recurrence"),
        ("FREQ=YEARLY;BYMONTH=13", "part_bymonth"),
    ],
)
def test_a_rule_that_is_not_run_here_is_refused_with_its_cause(rule: str, cause: str) -> None:
    """More often than daily, never, not beginning at its beginning, or no rule at all."""
    with pytest.raises(ScheduleInvalid) as refusal:
        Recurrence.checked(rule, start=SUNDAY)
    assert refusal.value.cause == cause


def _rules(start: datetime) -> st.SearchStrategy[str]:
    """Rules of the admitted forms that name the day of `start`, among others."""
    weekday = _DAYS[start.weekday()]
    days = st.lists(st.sampled_from(_DAYS), max_size=3).map(lambda more: ",".join(dict.fromkeys([weekday, *more])))
    dates = st.lists(st.integers(1, 31), max_size=3).map(lambda more: ",".join(map(str, {start.day, *more})))
    months = st.lists(st.integers(1, 12), max_size=3).map(lambda more: ",".join(map(str, {start.month, *more})))
    kinds = st.one_of(
        st.just("FREQ=DAILY"),
        days.map("FREQ=DAILY;BYDAY={}".format),
        days.map("FREQ=WEEKLY;BYDAY={}".format),
        st.just("FREQ=MONTHLY"),
        dates.map("FREQ=MONTHLY;BYMONTHDAY={}".format),
        days.map("FREQ=MONTHLY;BYDAY={}".format),
        st.just("FREQ=YEARLY"),
        st.tuples(months, dates).map(lambda pair: f"FREQ=YEARLY;BYMONTH={pair[0]};BYMONTHDAY={pair[1]}"),
    )
    intervals = st.sampled_from(["", ";INTERVAL=1", ";INTERVAL=2", ";INTERVAL=12", ";INTERVAL=97", ";INTERVAL=9999"])
    return st.tuples(kinds, intervals).map("".join)


STARTS = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2400, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC)),
    st.sampled_from([SUNDAY, LEAP_DAY, datetime(2027, 4, 30, tzinfo=UTC), datetime(2027, 12, 31, tzinfo=UTC)]),
)


def test_a_rule_that_was_admitted_once_goes_on_running() -> None:
    """Should the choice of rules ever become narrower, what is on the schedule already must not stop the worker."""
    hourly = Recurrence("FREQ=HOURLY;INTERVAL=36", start=SUNDAY)
    assert hourly.after(SUNDAY) == SUNDAY + timedelta(hours=36)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_an_admitted_rule_begins_at_its_start_and_goes_on_day_by_day_at_most(data: st.DataObject) -> None:
    """And its next run is found at once, also where a rule hardly ever matches."""
    start = data.draw(STARTS)
    rule = data.draw(_rules(start))
    began = time.process_time()
    recurrence = Recurrence.checked(rule, start=start)
    found = runs(recurrence, 4)
    assert time.process_time() - began < 1.0, rule
    assert found[0] == start
    assert all(later - earlier >= timedelta(days=1) for earlier, later in pairwise(found))
    assert {run.time() for run in found} == {start.time()}


@settings(deadline=None, max_examples=300)
@given(st.text("FREQ=DAILYWKMONTHBSPU;,0123456789-+Z", max_size=60), STARTS)
def test_any_text_is_a_rule_or_refused_at_once(text: str, start: datetime) -> None:
    """What a client sends is answered, whatever it is."""
    began = time.process_time()
    for rule in (text, f"FREQ=MONTHLY;{text}"):
        with suppress(ScheduleInvalid):
            Recurrence.checked(rule, start=start)
    assert time.process_time() - began < 1.0, text
