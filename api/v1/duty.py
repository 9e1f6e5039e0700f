"""The rota: who is on duty when, for a school or at the district's desk."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field
from sqlalchemy.orm import Session

from api.deps import (
    CARING,
    ActorDep,
    Body,
    Door,
    Id,
    Moment,
    NowDep,
    SessionDep,
    View,
    Word,
    located,
    school_codes,
    school_id,
)
from screening import access, duties, staff
from screening.errors import NotFound, Refused
from screening.models import Duty

door = Door(prefix="/v1/duty", tag="duty")

PLANNING = frozenset({"lead", "principal", "school_admin", "district_admin"})
READING = CARING | PLANNING | {"duty_officer"}
LONGEST_LIST = dt.timedelta(days=366)


class ShiftBody(Body):
    """`school` null: the caller's one school; of whoever acts for the whole district, the district's desk.

    The shift is repeated for so many `weeks`, at the same hours by the clock on the wall.
    """

    staff_id: Id
    school: Word | None = None
    place: Literal["first", "deputy"] = "first"
    starts_at: Moment
    ends_at: Moment
    weeks: Annotated[int, Field(ge=1, le=duties.MOST_WEEKS)] = 1


class ShiftView(View):
    """`school` null: the district's desk, which hears while schools are shut."""

    id: uuid.UUID
    school: str | None
    staff_id: uuid.UUID
    name: str
    place: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    is_cancelled: bool


class ShiftsView(View):
    shifts: list[ShiftView]


@door.get("", roles=READING)
def listed(
    session: SessionDep, now: NowDep, starts_at: Moment | None = None, ends_at: Moment | None = None
) -> ShiftsView:
    """The shifts of one's own schools and of the desk in this span; without one, those of the next four weeks."""
    begins = starts_at or now
    ends = ends_at or begins + dt.timedelta(weeks=4)
    if not begins < ends <= begins + LONGEST_LIST:
        raise Refused("The span ends after it begins, within a year.", code="unknown_hours")
    return ShiftsView(shifts=_shown(session, *duties.listed(session, begins, ends)))


@door.post("", roles=PLANNING, status=201)
def plan(body: ShiftBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> ShiftView:
    """Puts somebody on duty; answered with the first of the shifts."""
    shifts = duties.plan(
        session,
        body.staff_id,
        body.place,
        body.starts_at,
        body.ends_at,
        school_id=school_id(session, body.school),
        by=by,
        now=now,
        weeks=body.weeks,
    )
    located(response, f"/v1/duty/{shifts[0].id}")
    return _shown(session, shifts[0])[0]


@door.get("/{duty_id}", roles=READING)
def show(duty_id: Id, session: SessionDep) -> ShiftView:
    """One shift."""
    return _shown(session, _own(session, duty_id))[0]


@door.delete("/{duty_id}", roles=PLANNING)
def cancel(duty_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> ShiftView:
    """Takes a shift off the rota; hours of a round at home that nobody covers then are told at once."""
    found = _own(session, duty_id)
    if found.school_id is None and access.scope_of(session).schools is not None:
        raise NotFound("There is no such shift.")
    return _shown(session, duties.cancel(session, duty_id, by=by, now=now))[0]


def _own(session: Session, duty_id: uuid.UUID) -> Duty:
    found = duties.get(session, duty_id)
    schools = access.scope_of(session).schools
    if schools is not None and found.school_id is not None and found.school_id not in schools:
        raise NotFound("There is no such shift.")
    return found


def _shown(session: Session, *shifts: Duty) -> list[ShiftView]:
    codes = school_codes(session)
    names = {staff_id: staff.name_of(session, staff_id) for staff_id in {shift.staff_id for shift in shifts}}
    return [
        ShiftView(
            id=shift.id,
            school=codes.get(shift.school_id) if shift.school_id else None,
            staff_id=shift.staff_id,
            name=names[shift.staff_id],
            place=shift.place,
            starts_at=shift.starts_at,
            ends_at=shift.ends_at,
            is_cancelled=shift.cancelled_at is not None,
        )
        for shift in shifts
    ]
