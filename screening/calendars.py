"""The school days of each school, as stored: terms, holidays and make-up days, from China's calendar or from ICS files.

A district has one calendar, and may have others that some of its schools follow. What nobody entered follows the rule
of Monday to Friday, so that a calendar which ends too soon makes clocks run; how far it reaches is told in time.
"""

import datetime as dt
import itertools
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import chinese_calendar
import icalendar
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from screening import access, audit
from screening.errors import InvalidUpload, NotFound, Problem
from screening.inserting import as_array
from screening.models import CalendarLoad, School, Term
from screening.school_days import Calendar
from screening.statements import Statement

DISTRICT_CALENDAR = "district"
KNOWN_AHEAD = dt.timedelta(days=60)
"""A calendar that ends sooner than this is told of."""
MOST_BYTES, MOST_EVENTS, LONGEST_EVENT = 1_000_000, 5_000, 400
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Standing:
    """One calendar of the district: until when its holidays are known, where from, its terms, who follows it."""

    name: str
    covers_until: dt.date | None
    source: str | None
    terms: tuple[tuple[dt.date, dt.date], ...]
    schools: tuple[str, ...]


# -- asking -------------------------------------------------------------------------------------------


def of_schools(session: Session, school_ids: Collection[uuid.UUID]) -> dict[uuid.UUID | None, Calendar]:
    """The calendar of each of these schools, and under None the district's own."""
    district_id = access.scope_of(session).district_id
    asked = {"district": district_id, "schools": as_array("uuid", school_ids)}
    followed = {school["id"]: school["calendar"] for school in _FOLLOWED.run(session, asked)}
    wanted = {DISTRICT_CALENDAR, *followed.values()}
    exceptions: dict[str, dict[dt.date, bool]] = defaultdict(dict)
    terms: dict[str, list[tuple[dt.date, dt.date]]] = defaultdict(list)
    for row in _DAYS.run(session, {"district": district_id, "names": list(wanted)}):
        if row["ends_on"] is None:
            exceptions[row["calendar"]][row["day"]] = row["is_school_day"]
        else:
            terms[row["calendar"]].append((row["day"], row["ends_on"]))
    timezone: ZoneInfo = session.info["timezone"]
    made = {name: Calendar(exceptions[name], timezone, terms=tuple(terms[name])) for name in wanted}
    return {None: made[DISTRICT_CALENDAR]} | {school: made[name] for school, name in followed.items()}


_FOLLOWED = Statement(
    "select id, calendar from schools where district_id = :district and id = any(cast(:schools as uuid[]))"
)
_DAYS = Statement(
    "select calendar, day, is_school_day, cast(null as date) as ends_on from calendar_days"
    " where district_id = :district and calendar = any(:names)"
    " union all select calendar, starts_on, true, ends_on from terms"
    " where district_id = :district and calendar = any(:names) order by 1, 2"
)


def listed(session: Session) -> list[Standing]:
    """Every calendar of the district that something is known of, or that a school follows."""
    district_id = access.scope_of(session).district_id
    schools: dict[str, list[str]] = defaultdict(list, {DISTRICT_CALENDAR: []})
    for school in session.execute(
        select(School.code, School.calendar).where(School.district_id == district_id).order_by(School.code)
    ):
        schools[school.calendar].append(school.code)
    terms: dict[str, list[tuple[dt.date, dt.date]]] = defaultdict(list)
    for term in session.scalars(select(Term).where(Term.district_id == district_id).order_by(Term.starts_on)):
        terms[term.calendar].append((term.starts_on, term.ends_on))
    loads: dict[str, CalendarLoad] = {}
    for load in session.scalars(
        select(CalendarLoad).where(CalendarLoad.district_id == district_id).order_by(CalendarLoad.covers_until)
    ):
        loads[load.calendar] = load
    return [
        Standing(
            name=name,
            covers_until=loads[name].covers_until if name in loads else None,
            source=loads[name].source if name in loads else None,
            terms=tuple(terms[name]),
            schools=tuple(schools[name]),
        )
        for name in sorted({*schools, *terms, *loads})
    ]


def ending(session: Session, on: dt.date) -> list[str]:
    """In words, the calendars that schools follow and that are not known for the next `KNOWN_AHEAD`."""
    return [
        f"calendar {each.name} is known until {each.covers_until or 'no day at all'}"
        for each in listed(session)
        if each.schools and (each.covers_until is None or each.covers_until < on + KNOWN_AHEAD)
    ]


# -- loading ------------------------------------------------------------------------------------------


def load_china(
    session: Session, year: int, *, calendar: str = DISTRICT_CALENDAR, by: access.Actor, now: dt.datetime
) -> int:
    """Enters mainland China's public holidays and make-up days of a year; answers how many days differ from the rule.

    From the package chinesecalendar, which follows the State Council's yearly notice. Raises InvalidUpload for a year
    that it does not know yet.
    """
    first, last = dt.date(year, 1, 1), dt.date(year, 12, 31)
    days = [first + dt.timedelta(days=ahead) for ahead in range((last - first).days + 1)]
    try:
        found = {day: taught for day in days if (taught := chinese_calendar.is_workday(day)) != (day.weekday() < 5)}
    except NotImplementedError:
        words = f"China's calendar of {year} is not known to this version; load it from an ICS file."
        raise InvalidUpload(words, code="year_unknown", problems=[Problem("year_unknown", words)]) from None
    return _enter(session, calendar, found, first, last, f"chinesecalendar {year}", by=by, now=now)


def load_ics(
    session: Session,
    content: bytes,
    *,
    calendar: str = DISTRICT_CALENDAR,
    is_taught: bool = False,
    by: access.Actor,
    now: dt.datetime,
) -> int:
    """Enters the days of an ICS file as holidays, or (`is_taught`) as days with school; answers how many.

    The file counts as known from the first of its days to the end of the year of the last. Raises InvalidUpload with
    every event that cannot be taken: one that repeats has to be written out.
    """
    zone: ZoneInfo = session.info["timezone"]
    problems: list[Problem] = []
    days = sorted({day for event in _events(content) for day in _days_of(event, zone, problems)})
    if not days and not problems:
        problems.append(Problem("no_event", "There is no event in this file."))
    if problems:
        raise InvalidUpload("This calendar cannot be taken as it is.", code="invalid_calendar", problems=problems)
    until = dt.date(days[-1].year, 12, 31)
    source = "ics, taught" if is_taught else "ics"
    return _enter(session, calendar, dict.fromkeys(days, is_taught), days[0], until, source, by=by, now=now)


def set_terms(session: Session, calendar: str, terms: Sequence[tuple[dt.date, dt.date]], *, by: access.Actor) -> None:
    """The spans with school, in place of those that stood; between two of them there is none. Raises InvalidUpload."""
    _check_name(calendar)
    ordered = sorted(terms)
    problems = [
        Problem("term_reversed", f"The term from {first} ends before it begins.")
        for first, last in ordered
        if last < first
    ]
    problems += [
        Problem("terms_overlap", f"The term from {later[0]} begins before the one before it ends.")
        for earlier, later in itertools.pairwise(ordered)
        if later[0] <= earlier[1]
    ]
    if problems:
        raise InvalidUpload("These terms cannot be.", code="invalid_terms", problems=problems)
    district_id = access.scope_of(session).district_id
    session.execute(delete(Term).where(Term.district_id == district_id, Term.calendar == calendar))
    session.add_all(Term(district_id=district_id, calendar=calendar, starts_on=a, ends_on=b) for a, b in ordered)
    session.flush()
    audit.record(session, by, "calendar.changed", "calendar", calendar, terms=len(ordered))


def follow(session: Session, calendar: str, codes: Iterable[str], *, by: access.Actor) -> int:
    """Lets these schools follow a calendar; clocks that run already keep their times. Raises NotFound."""
    _check_name(calendar)
    wanted = set(codes)
    district_id = access.scope_of(session).district_id
    changed = session.scalars(
        update(School)
        .where(School.district_id == district_id, School.code.in_(wanted))
        .values(calendar=calendar)
        .returning(School.code)
    ).all()
    if len(changed) < len(wanted):
        raise NotFound("There is no such school.")
    audit.record(session, by, "calendar.changed", "calendar", calendar, schools=len(changed))
    return len(changed)


_ENTER = text(
    "insert into calendar_days (district_id, calendar, day, is_school_day)"
    " select :district, :calendar, n.day, n.taught from unnest(cast(:days as date[]), cast(:taught as boolean[]))"
    " as n(day, taught) on conflict (district_id, calendar, day) do update set is_school_day = excluded.is_school_day"
)


def _enter(
    session: Session,
    calendar: str,
    days: Mapping[dt.date, bool],
    covers_from: dt.date,
    covers_until: dt.date,
    source: str,
    *,
    by: access.Actor,
    now: dt.datetime,
) -> int:
    _check_name(calendar)
    district_id = access.scope_of(session).district_id
    session.execute(
        _ENTER,
        {
            "district": district_id,
            "calendar": calendar,
            "days": [day.isoformat() for day in days],
            "taught": as_array("boolean", days.values()),
        },
    )
    load = CalendarLoad(
        district_id=district_id,
        id=uuid.uuid4(),
        calendar=calendar,
        source=source,
        covers_from=covers_from,
        covers_until=covers_until,
        loaded_by=by.staff_id or by.account_id,
        loaded_at=now,
    )
    session.add(load)
    session.flush()
    audit.record(session, by, "calendar.changed", "calendar", calendar, days=len(days), source=source)
    return len(days)


def _check_name(calendar: str) -> None:
    if not calendar.strip() or len(calendar) > _LONGEST_NAME:
        words = f"A calendar's name has 1 to {_LONGEST_NAME} characters."
        raise InvalidUpload(words, code="invalid_calendar", problems=[Problem("no_name", words)])


def _events(content: bytes) -> list[icalendar.Event]:
    refused: Problem
    if len(content) > MOST_BYTES:
        refused = Problem("too_large", f"A calendar has at most {MOST_BYTES} bytes.")
    else:
        try:
            found = list(icalendar.Calendar.from_ical(content).walk("VEVENT"))
            if len(found) <= MOST_EVENTS:
                return found  # type: ignore[return-value]  # walk answers the components of that name
            refused = Problem("too_many", f"A calendar has at most {MOST_EVENTS} events.")
        except (ValueError, IndexError, KeyError, AttributeError, TypeError, RecursionError):
            refused = Problem("no_calendar", "This is no iCalendar file.")
    raise InvalidUpload("This calendar cannot be read.", code="invalid_calendar", problems=[refused])


def _days_of(event: icalendar.Event, zone: ZoneInfo, problems: list[Problem]) -> Iterator[dt.date]:
    """The days of one event; DTEND is the first day after it."""
    begins = getattr(event.get("DTSTART"), "dt", None)
    ends = getattr(event.get("DTEND"), "dt", None)
    where = f"event of {begins}" if begins else "an event"
    if begins is None:
        problems.append(Problem("no_start", "An event has no DTSTART."))
        return
    if event.get("RRULE") is not None or event.get("RDATE") is not None:
        problems.append(Problem("repeats", f"The {where} repeats; write out its days."))
        return
    first, is_whole = _date(begins, zone)
    last = _last(first, ends, zone, is_whole)
    if not 0 <= (last - first).days <= LONGEST_EVENT:
        problems.append(Problem("too_long", f"The {where} ends before it begins, or lasts over {LONGEST_EVENT} days."))
        return
    yield from (first + dt.timedelta(days=ahead) for ahead in range((last - first).days + 1))


def _date(moment: dt.date, zone: ZoneInfo) -> tuple[dt.date, bool]:
    if not isinstance(moment, dt.datetime):
        return moment, True
    return (moment.astimezone(zone) if moment.tzinfo else moment).date(), False


def _last(first: dt.date, ends: dt.date | None, zone: ZoneInfo, is_whole: bool) -> dt.date:
    if ends is None:
        return first
    last, _ = _date(ends, zone)
    return last - dt.timedelta(days=1) if is_whole and last > first else last
