"""The school days of each school, as stored: Monday to Friday in the district's time zone, with its exceptions."""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import access
from screening.models import CalendarDay, School
from screening.school_days import Calendar

DISTRICT_CALENDAR = "district"


def of_schools(session: Session, school_ids: Collection[uuid.UUID]) -> dict[uuid.UUID | None, Calendar]:
    """The calendar of each of these schools, and under None the district's own."""
    district_id = access.scope_of(session).district_id
    names = session.execute(
        select(School.id, School.calendar).where(School.district_id == district_id, School.id.in_(school_ids))
    ).all()
    exceptions: dict[str, dict[dt.date, bool]] = defaultdict(dict)
    for day in session.execute(
        select(CalendarDay.calendar, CalendarDay.day, CalendarDay.is_school_day).where(
            CalendarDay.district_id == district_id,
            CalendarDay.calendar.in_({DISTRICT_CALENDAR, *(school.calendar for school in names)}),
        )
    ):
        exceptions[day.calendar][day.day] = day.is_school_day
    timezone: ZoneInfo = session.info["timezone"]

    def calendar(name: str) -> Calendar:
        return Calendar(exceptions[name], timezone)

    return {None: calendar(DISTRICT_CALENDAR)} | {school.id: calendar(school.calendar) for school in names}
