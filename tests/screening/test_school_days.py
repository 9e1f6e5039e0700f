"""School days: clocks run on the calendar of the school, in its local time, and always end."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.school_days import Calendar

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
NATIONAL_DAY = {dt.date(2026, 10, day): False for day in range(1, 9)}
TAUGHT_SATURDAY = {dt.date(2026, 10, 10): True}
calendar = Calendar(NATIONAL_DAY | TAUGHT_SATURDAY, SHANGHAI)


def local(year: int, month: int, day: int, hour: int, minute: int = 0, zone: ZoneInfo = SHANGHAI) -> dt.datetime:
    return dt.datetime(year, month, day, hour, minute, tzinfo=zone)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (dt.date(2026, 9, 28), True),
        (dt.date(2026, 9, 27), False),
        (dt.date(2026, 10, 1), False),
        (dt.date(2026, 10, 10), True),
        (dt.date(2099, 12, 31), True),
    ],
)
def test_a_school_day_is_monday_to_friday_unless_somebody_said_otherwise(on: dt.date, expected: bool) -> None:
    assert calendar.is_school_day(on) is expected


@pytest.mark.parametrize(("hour", "minute", "expected"), [(7, 59, False), (8, 0, True), (16, 59, True), (17, 0, False)])
def test_school_hours_are_from_the_opening_until_the_close(hour: int, minute: int, expected: bool) -> None:
    assert calendar.is_school_hours(local(2026, 9, 28, hour, minute)) is expected


def test_hours_are_local_whatever_zone_the_instant_comes_in() -> None:
    assert calendar.is_school_hours(dt.datetime(2026, 9, 28, 0, 30, tzinfo=dt.UTC))
    assert calendar.is_school_hours(dt.datetime(2026, 9, 28, 0, 30))  # noqa: DTZ001 - an instant without a zone is UTC


def test_one_school_day_from_friday_is_monday_at_the_same_time() -> None:
    assert calendar.add_school_days(local(2026, 9, 25, 16, 20), 1) == local(2026, 9, 28, 16, 20)


def test_a_clock_started_at_night_or_on_sunday_runs_from_the_next_opening() -> None:
    assert calendar.add_school_days(local(2026, 9, 28, 5), 1) == local(2026, 9, 29, 8)
    assert calendar.add_school_days(local(2026, 9, 28, 22), 1) == local(2026, 9, 30, 8)
    assert calendar.add_school_days(local(2026, 9, 27, 12), 1) == local(2026, 9, 29, 8)


def test_holidays_do_not_count_and_a_taught_saturday_does() -> None:
    assert calendar.add_school_days(local(2026, 9, 30, 10), 1) == local(2026, 10, 9, 10)
    assert calendar.add_school_days(local(2026, 9, 30, 10), 2) == local(2026, 10, 10, 10)


def test_the_local_time_stays_when_summer_time_ends_and_begins() -> None:
    berlin = Calendar({}, BERLIN)
    before, after = local(2026, 10, 23, 10, zone=BERLIN), local(2026, 10, 26, 10, zone=BERLIN)
    assert berlin.add_school_days(before, 1) == after
    assert berlin.add_school_days(before, 1) - before.astimezone(dt.UTC) == dt.timedelta(days=3, hours=1)
    spring = local(2026, 3, 27, 10, zone=BERLIN)
    assert berlin.add_school_days(spring, 1) - spring.astimezone(dt.UTC) == dt.timedelta(days=3, hours=-1)


def test_a_school_that_opens_in_the_lost_hour_still_has_an_opening() -> None:
    sundays = Calendar({dt.date(2026, 3, 29): True}, BERLIN, opens=dt.time(2, 30))
    opening = sundays.next_school_hours(local(2026, 3, 28, 12, zone=BERLIN))
    assert opening == dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)


def test_a_year_without_school_counts_calendar_days() -> None:
    never = Calendar({dt.date(2026, 9, 1) + dt.timedelta(days=n): False for n in range(800)}, SHANGHAI)
    assert never.add_school_days(local(2026, 9, 28, 10), 3) == local(2026, 10, 2, 8)


@given(at=st.datetimes(timezones=st.just(dt.UTC)), n=st.integers(-3, 40), zone=st.sampled_from([SHANGHAI, BERLIN]))
def test_a_clock_never_raises_and_never_ends_before_it_starts(at: dt.datetime, n: int, zone: ZoneInfo) -> None:
    due = Calendar({}, zone).add_school_days(at, n)
    if dt.timedelta(days=2) < at - dt.datetime.min.replace(tzinfo=dt.UTC) and at.year < 9999:
        assert due >= at
        assert n < 1 or due - at >= dt.timedelta(hours=22)


THIS_AGE = st.integers(0, 10_000_000).map(lambda minutes: local(2020, 1, 1, 0) + dt.timedelta(minutes=minutes))


@given(at=THIS_AGE, n=st.integers(0, 9))
def test_one_more_day_is_never_earlier(at: dt.datetime, n: int) -> None:
    assert calendar.add_school_days(at, n) < calendar.add_school_days(at, n + 1)
