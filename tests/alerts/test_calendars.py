"""Calendars: China's, any other from ICS, terms; and clocks on them, through holidays and both changes of the hour."""

import datetime as dt
import uuid
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import clocks, escalation, triage, watchdog
from screening import calendars, policy
from screening.errors import InvalidUpload, NotFound
from screening.school_days import Calendar
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, ring
from tests.cast import Cast

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")
FRIDAY = dt.datetime(2026, 9, 25, 16, 55, tzinfo=SHANGHAI)


def calendar_of(session: Session, school_id: uuid.UUID | None = None) -> Calendar:
    return calendars.of_schools(session, [school_id] if school_id else [])[school_id]


# -- what is loaded -----------------------------------------------------------------------------------


def test_chinas_holidays_and_make_up_days_are_entered(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        count = calendars.load_china(session, 2026, by=cast.district_admin, now=MONDAY)
        found = calendar_of(session)
        assert count == len(found.exceptions) > 20
        assert not found.is_school_day(dt.date(2026, 10, 1))  # Thursday, National Day
        assert found.is_school_day(dt.date(2026, 10, 10))  # Saturday, made up for it
        assert not found.is_school_day(dt.date(2026, 2, 17))  # Spring Festival
        assert found.is_school_day(dt.date(2026, 9, 7))
        assert not found.is_school_day(dt.date(2026, 9, 6))
        assert calendars.load_china(session, 2026, by=cast.district_admin, now=MONDAY) == count
        with pytest.raises(InvalidUpload, match="2099"):
            calendars.load_china(session, 2099, by=cast.district_admin, now=MONDAY)


ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//y//EN
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
SUMMARY:Christmas
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART;VALUE=DATE:20270101
SUMMARY:New Year
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART:20270105T220000Z
DTEND:20270105T230000Z
SUMMARY:An evening, already the next day here
END:VEVENT
END:VCALENDAR
"""


def test_holidays_come_from_an_ics_file_and_schools_follow_the_calendar(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        content = ICS.replace("\n", "\r\n").encode()
        by = {"by": cast.district_admin, "now": MONDAY}
        assert calendars.load_ics(session, content, calendar="north", **by) == 5  # type: ignore[arg-type]
        assert calendars.follow(session, "north", ["A"], by=cast.district_admin) == 1
        north, other = calendar_of(session, cast.school_a.id), calendar_of(session, cast.school_b.id)
        free = [dt.date(2026, 12, 24), dt.date(2026, 12, 25), dt.date(2027, 1, 1), dt.date(2027, 1, 6)]
        assert [north.is_school_day(day) for day in free] == [False] * 4
        assert [other.is_school_day(day) for day in free] == [True] * 4
        assert north.is_school_day(dt.date(2026, 12, 28))
        saturday = content.replace(b"20270101", b"20270109")
        calendars.load_ics(session, saturday, calendar="north", is_taught=True, **by)  # type: ignore[arg-type]
        assert calendar_of(session, cast.school_a.id).is_school_day(dt.date(2027, 1, 9))
        with pytest.raises(NotFound):
            calendars.follow(session, "north", ["A", "nowhere"], by=cast.district_admin)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "no_event"),
        (b"", "no_calendar"),
        (b"\xff\xfe nonsense", "no_calendar"),
        (b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n", "no_calendar"),
        (ICS.replace("SUMMARY:New Year", "RRULE:FREQ=YEARLY").encode(), "repeats"),
        (ICS.replace("DTSTART;VALUE=DATE:20270101\n", "").encode(), "no_start"),
        (ICS.replace("20261227", "20281227").encode(), "too_long"),
        (ICS.replace("20261227", "20251227").encode(), "too_long"),
        (b"x" * 1_000_001, "too_large"),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_in_words(cast: Cast, content: bytes, code: str) -> None:
    with cast.database.unit(cast.scope) as session:
        with pytest.raises(InvalidUpload) as refused:
            calendars.load_ics(session, content, by=cast.district_admin, now=MONDAY)
        assert code in {problem.code for problem in refused.value.problems}
        assert session.execute(text("select count(*) from calendar_days")).scalar_one() == 0


def test_between_two_terms_there_is_no_school_whatever_else_is_said(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        calendars.load_china(session, 2026, by=cast.district_admin, now=MONDAY)
        terms = [(dt.date(2026, 2, 25), dt.date(2026, 7, 3)), (dt.date(2026, 9, 1), dt.date(2027, 1, 22))]
        calendars.set_terms(session, "district", terms, by=cast.district_admin)
        found = calendar_of(session)
        assert not found.is_school_day(dt.date(2026, 8, 3))  # a Monday in summer
        assert found.is_school_day(dt.date(2026, 9, 1))
        assert not found.is_school_day(dt.date(2026, 10, 1))  # a holiday in term
        assert found.is_school_day(dt.date(2027, 3, 1))  # beyond what is known clocks run
        assert found.is_school_day(dt.date(2026, 2, 24))
        for wrong in ([terms[0][::-1]], [terms[0], (dt.date(2026, 7, 3), dt.date(2026, 8, 1))]):
            with pytest.raises(InvalidUpload):
                calendars.set_terms(session, "district", wrong, by=cast.district_admin)


def test_a_calendar_that_ends_soon_is_told_of_in_time(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        assert calendars.ending(session, dt.date(2026, 6, 1)) == ["calendar district is known until no day at all"]
        calendars.load_china(session, 2026, by=cast.district_admin, now=MONDAY)
        assert calendars.ending(session, dt.date(2026, 11, 1)) == []
        assert calendars.ending(session, dt.date(2026, 11, 3)) == ["calendar district is known until 2026-12-31"]
        calendars.follow(session, "north", ["A"], by=cast.district_admin)
        assert len(calendars.ending(session, dt.date(2026, 11, 1))) == 1
    told = [one for one in watchdog.findings(cast.database) if one.where == cast.district.code]
    assert {one.is_warning for one in told if one.name == "calendar_ends"} == {True}


# -- clocks -------------------------------------------------------------------------------------------


def test_an_orange_of_friday_evening_before_a_holiday_waits_for_school(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        calendars.load_china(session, 2026, by=cast.district_admin, now=MONDAY)
        found = calendar_of(session)
    # Friday 2026-09-25 is Mid-Autumn: the Friday whose 16:55 is school comes before the National Day week
    due = clocks.due(policy.shipped(), ORANGE, False, dt.datetime(2026, 9, 30, 16, 55, tzinfo=SHANGHAI), found)
    assert due.answer_by.astimezone(SHANGHAI).isoformat() == "2026-10-08T16:55:00+08:00"
    assert due.see_by.astimezone(SHANGHAI).isoformat() == "2026-10-10T16:55:00+08:00"  # the Saturday is taught
    holiday = clocks.due(policy.shipped(), ORANGE, False, FRIDAY, found)
    assert holiday.answer_by.astimezone(SHANGHAI).isoformat() == "2026-09-29T08:00:00+08:00"


@pytest.mark.parametrize(
    ("at", "hours_later"),
    [
        ("2026-03-29T01:30:00+01:00", "2026-03-30T02:30:00+02:00"),  # the short day
        ("2026-10-25T01:30:00+02:00", "2026-10-26T00:30:00+01:00"),  # the long one
        ("2028-02-28T12:00:00+01:00", "2028-02-29T12:00:00+01:00"),
        ("2028-02-29T12:00:00+01:00", "2028-03-01T12:00:00+01:00"),
        ("2026-12-31T12:00:00+01:00", "2027-01-01T12:00:00+01:00"),
    ],
)
def test_a_clock_of_hours_counts_hours_that_pass(at: str, hours_later: str) -> None:
    moment = dt.datetime.fromisoformat(at)
    due = clocks.due(policy.shipped(), ORANGE, True, moment, Calendar(timezone=BERLIN))
    assert due.answer_by == moment + 24 * HOUR == dt.datetime.fromisoformat(hours_later)


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ("2026-03-27T16:00:00+01:00", "2026-03-30T16:00:00+02:00"),  # over the weekend of the short day
        ("2026-10-23T16:00:00+02:00", "2026-10-26T16:00:00+01:00"),
        ("2028-02-28T09:00:00+01:00", "2028-02-29T09:00:00+01:00"),
        ("2027-12-31T09:00:00+01:00", "2028-01-03T09:00:00+01:00"),
    ],
)
def test_a_clock_of_school_days_keeps_the_hour_on_the_wall(at: str, wanted: str) -> None:
    due = clocks.due(policy.shipped(), ORANGE, False, dt.datetime.fromisoformat(at), Calendar(timezone=BERLIN))
    assert due.answer_by == dt.datetime.fromisoformat(wanted)


@given(
    st.integers(0, 3 * 366 * 24 * 60).map(lambda minute: dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + minute * MINUTE),
    st.sampled_from([YELLOW, ORANGE, RED]),
    st.booleans(),
    st.sampled_from([SHANGHAI, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")]),
)
def test_no_rung_is_early_and_none_is_missed_anywhere(
    at: dt.datetime, tier: int, has_self_harm: bool, zone: ZoneInfo
) -> None:
    found, rules = Calendar(timezone=zone), policy.shipped()
    due = clocks.due(rules, tier, has_self_harm, at, found)
    assert at < due.answer_by
    assert at < due.see_by
    rungs = clocks.rungs(rules, tier, has_self_harm, at, due.answer_by, found)
    assert [number for number, _, _ in rungs] == sorted(number for number, _, _ in rungs)
    times = [when for _, _, when in rungs]
    assert times == sorted(times)
    assert all(when >= at for when in times)


# -- the ladder ---------------------------------------------------------------------------------------


def climb(
    session: Session, since: dt.datetime, until: dt.datetime, step: dt.timedelta
) -> list[tuple[str, dt.datetime]]:
    """What is climbed when the worker comes round in steps: the role, and when it was."""
    found: list[tuple[str, dt.datetime]] = []
    while since <= until:
        if escalation.escalate(session, now=since):
            rows = session.execute(text("select role, at from escalations where at = :at order by rung"), {"at": since})
            found += [(row.role, row.at) for row in rows]
        since += step
    return found


def test_a_red_at_ten_past_two_climbs_to_the_end_and_each_rung_within_a_minute(cast: Cast, is_storm: bool) -> None:
    night = dt.datetime(2026, 9, 8, 2, 10, tzinfo=SHANGHAI)
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED, at=night)
        climbed = climb(session, night, night + 4 * HOUR, MINUTE / (4 if is_storm else 2))
        due = session.execute(text("select role, due_at, at from escalations order by rung")).all()
        assert alert.answer_by == night + HOUR  # the school is shut
    assert [role for role, _ in climbed] == ["deputy", "lead", "principal", "duty_officer"]
    assert [row.due_at - night for row in due] == [30 * MINUTE, HOUR, 1.5 * HOUR, 2 * HOUR]
    assert all(dt.timedelta() <= row.at - row.due_at < MINUTE for row in due)


def test_an_orange_before_a_holiday_climbs_after_it_in_school_hours_to_the_end(cast: Cast, is_storm: bool) -> None:
    start = dt.datetime(2026, 9, 30, 16, 55, tzinfo=SHANGHAI)
    with cast.database.unit(cast.scope) as session:
        calendars.load_china(session, 2026, by=cast.district_admin, now=MONDAY)
        ring(session, cast.students.granted_13, ORANGE, at=start)
        climbed = climb(session, start, start + (14 if is_storm else 10) * DAY, 15 * MINUTE)
    assert [role for role, _ in climbed] == ["deputy", "lead", "principal"]
    local = [at.astimezone(SHANGHAI) for _, at in climbed]
    assert [when.strftime("%m-%d %H:%M") for when in local] == ["10-08 08:10", "10-08 16:55", "10-09 16:55"]


@pytest.mark.parametrize("rungs_before", [0, 1, 2, 3])
def test_whoever_answers_stops_it_at_once_wherever_it_stands(cast: Cast, rungs_before: int) -> None:
    night = dt.datetime(2026, 9, 8, 2, 10, tzinfo=SHANGHAI)
    with cast.database.unit(cast.scope) as session:
        alert = ring(session, cast.students.granted_13, RED, at=night)
        at = night + rungs_before * 30 * MINUTE + MINUTE
        climb(session, night, at, MINUTE)
        triage.acknowledge(session, alert.id, by=cast.lead, now=at)
        triage.triage(
            session, alert.id, "case_opened", contact="phone", is_student_seen=True, words="Safe.", by=cast.lead, now=at
        )
        climb(session, at, night + DAY, 10 * MINUTE)
        count = session.execute(text("select count(*) from escalations")).scalar_one()
    assert count == rungs_before
