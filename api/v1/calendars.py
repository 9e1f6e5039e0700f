"""School days: terms, holidays and make-up days of the district's calendars."""

import datetime as dt
from typing import Annotated

from fastapi import Response
from pydantic import Field, model_validator

from api.deps import STAFF, ActorDep, Body, Door, NowDep, SessionDep, View, Word, located
from screening import calendars

door = Door(prefix="/v1/calendars", tag="calendars")

Name = Annotated[str, Field(min_length=1, max_length=60)]
ADMIN = frozenset({"district_admin"})
Day = Annotated[dt.date, Field(strict=False, ge=dt.date(2000, 1, 1), lt=dt.date(2100, 1, 1))]


class TermBody(Body):
    starts_on: Day
    ends_on: Day


class TermsBody(Body):
    terms: Annotated[list[TermBody], Field(max_length=100)]


class SchoolsBody(Body):
    schools: Annotated[list[Word], Field(min_length=1, max_length=10_000)]


class LoadBody(Body):
    """Either a year of mainland China's calendar, or an iCalendar file's text, whose days are free or (`is_taught`)
    taught against the rule."""

    china: Annotated[int, Field(ge=2000, lt=2100)] | None = None
    ics: Annotated[str, Field(min_length=1, max_length=calendars.MOST_BYTES)] | None = None
    is_taught: bool = False

    @model_validator(mode="after")
    def _one(self) -> "LoadBody":
        if (self.china is None) == (self.ics is None):
            raise ValueError("Give a year of China's calendar, or an iCalendar text.")
        return self


class TermView(View):
    starts_on: dt.date
    ends_on: dt.date


class CalendarView(View):
    """`covers_until` null: no holidays were ever loaded, and every weekday has school."""

    name: str
    covers_until: dt.date | None
    source: str | None
    terms: list[TermView]
    schools: list[str]


class CalendarsView(View):
    calendars: list[CalendarView]


@door.get("", roles=STAFF)
def listed(session: SessionDep) -> CalendarsView:
    """Every calendar of the district, and the schools that follow it."""
    return CalendarsView(
        calendars=[
            CalendarView(
                name=each.name,
                covers_until=each.covers_until,
                source=each.source,
                terms=[TermView(starts_on=first, ends_on=last) for first, last in each.terms],
                schools=list(each.schools),
            )
            for each in calendars.listed(session)
        ]
    )


@door.post("/{name}/loads", roles=ADMIN, status=201, repeats="location")
def load(
    name: Name, body: LoadBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> CalendarsView:
    """Enters holidays, or days that are taught."""
    if body.china is not None:
        calendars.load_china(session, body.china, calendar=name, by=by, now=now)
    else:
        content = (body.ics or "").encode()
        calendars.load_ics(session, content, calendar=name, is_taught=body.is_taught, by=by, now=now)
    located(response, "/v1/calendars")
    return listed(session)


@door.put("/{name}/terms", roles=ADMIN)
def terms(name: Name, body: TermsBody, session: SessionDep, by: ActorDep) -> CalendarsView:
    """The terms, in place of those that stood."""
    calendars.set_terms(session, name, [(term.starts_on, term.ends_on) for term in body.terms], by=by)
    return listed(session)


@door.put("/{name}/schools", roles=ADMIN)
def follow(name: Name, body: SchoolsBody, session: SessionDep, by: ActorDep) -> CalendarsView:
    """Lets these schools follow this calendar."""
    calendars.follow(session, name, body.schools, by=by)
    return listed(session)
