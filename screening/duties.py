"""Duty: who is to be reached when, for a school or at the district's desk, and the hours in which nobody is."""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit
from screening.errors import Conflict, NotFound, Refused
from screening.models import Duty, School

PLACES = ("first", "deputy")
ABLE = ("counselor", "lead", "principal", "duty_officer")
"""Who can be on duty: whoever may say that they look at an alert."""
LONGEST = dt.timedelta(days=92)
MOST_WEEKS = 53

Span = tuple[dt.datetime, dt.datetime]


def plan(
    session: Session,
    staff_id: uuid.UUID,
    place: str,
    starts_at: dt.datetime,
    ends_at: dt.datetime,
    *,
    school_id: uuid.UUID | None,
    by: access.Actor,
    now: dt.datetime,
    weeks: int = 1,
) -> list[Duty]:
    """Puts one of the staff on duty for a school (None: at the district's desk), and again in each of so many weeks.

    A week later is the same hour by the clock on the wall. Raises Refused for hours or a place that cannot be,
    NotFound for somebody, or a school, that is not there; Refused too for a person who could not answer an alert.
    """
    if place not in PLACES:
        raise Refused(f"A place is {' or '.join(PLACES)}.", code="unknown_place")
    if not starts_at < ends_at <= starts_at + LONGEST or ends_at <= now:
        raise Refused(f"A shift ends after it begins, after now, within {LONGEST.days} days.", code="unknown_hours")
    if not 1 <= weeks <= MOST_WEEKS:
        raise Refused(f"A shift is repeated for at most {MOST_WEEKS} weeks.", code="unknown_hours")
    district_id = access.scope_of(session).district_id
    if school_id is not None and session.get(School, (district_id, school_id)) is None:
        raise NotFound("There is no such school.")
    _require_able(session, staff_id, school_id)
    zone: ZoneInfo = session.info["timezone"]
    made = [
        Duty(
            district_id=district_id,
            id=uuid.uuid4(),
            school_id=school_id,
            staff_id=staff_id,
            place=place,
            starts_at=later(starts_at, week, zone),
            ends_at=later(ends_at, week, zone),
            planned_by=by.person,
            planned_at=now,
        )
        for week in range(weeks)
    ]
    session.add_all(made)
    session.flush()
    audit.record(session, by, "duty.planned", "staff", staff_id, school=str(school_id or "*"), shifts=weeks)
    return made


def cancel(session: Session, duty_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Duty:
    """Takes a shift off the rota; twice is once. Raises NotFound, Conflict for one that is over."""
    found = get(session, duty_id)
    if found.cancelled_at is None:
        if found.ends_at <= now:
            raise Conflict("This shift is over.")
        found.cancelled_by, found.cancelled_at = by.person, now
        session.flush()
        audit.record(session, by, "duty.cancelled", "staff", found.staff_id, school=str(found.school_id or "*"))
    return found


def get(session: Session, duty_id: uuid.UUID) -> Duty:
    """The shift of that id. Raises NotFound."""
    found = session.get(Duty, (access.scope_of(session).district_id, duty_id))
    if found is None:
        raise NotFound("There is no such shift.")
    return found


def listed(session: Session, starts_at: dt.datetime, ends_at: dt.datetime) -> Sequence[Duty]:
    """The shifts that touch this span, of the scope's schools and of the district's desk, by their beginning."""
    scope = access.scope_of(session)
    wanted = select(Duty).where(
        Duty.district_id == scope.district_id,
        Duty.cancelled_at.is_(None),
        Duty.starts_at < ends_at,
        Duty.ends_at > starts_at,
    )
    if scope.schools is not None:
        wanted = wanted.where(Duty.school_id.in_(scope.schools) | Duty.school_id.is_(None))
    return session.scalars(wanted.order_by(Duty.starts_at, Duty.id)).all()


# -- hours that nobody covers -------------------------------------------------------------------------


def gaps(spans: Iterable[Span], starts_at: dt.datetime, ends_at: dt.datetime) -> list[Span]:
    """The parts from `starts_at` to `ends_at` that lie in none of the spans, in order."""
    found, reached = [], starts_at
    for begins, ends in sorted(spans):
        if begins >= ends_at:
            break
        if begins > reached:
            found.append((reached, begins))
        reached = max(reached, ends)
    if reached < ends_at:
        found.append((reached, ends_at))
    return found


def uncovered(
    session: Session, school_ids: Collection[uuid.UUID], starts_at: dt.datetime, ends_at: dt.datetime
) -> dict[uuid.UUID, list[Span]]:
    """Of these schools, those with hours in this span in which neither they nor the desk have anybody on duty first."""
    spans: dict[uuid.UUID | None, list[Span]] = defaultdict(list)
    parameters = {"district": access.scope_of(session).district_id, "starts": starts_at, "ends": ends_at}
    for row in session.execute(_FIRSTS, parameters):
        spans[row.school_id].append((row.starts_at, row.ends_at))
    found = {school_id: gaps(spans[school_id] + spans[None], starts_at, ends_at) for school_id in school_ids}
    return {school_id: missing for school_id, missing in found.items() if missing}


_FIRSTS = text(
    "select d.school_id, d.starts_at, d.ends_at from duties d"
    " join staff s on s.district_id = d.district_id and s.id = d.staff_id"
    " join accounts a on a.id = s.account_id and a.disabled_at is null"
    " where d.district_id = :district and d.cancelled_at is null and d.place = 'first'"
    " and d.ends_at > :starts and d.starts_at < :ends"
)


def later(at: dt.datetime, weeks: int, zone: dt.tzinfo) -> dt.datetime:
    """The same time by the clock on the wall, so many weeks later."""
    local = at.astimezone(zone).replace(tzinfo=None) + dt.timedelta(weeks=weeks)
    return local.replace(tzinfo=zone).astimezone(dt.UTC)


_ABLE = text(
    "select exists (select from staff s where s.district_id = :district and s.id = :staff) as is_there,"
    " exists (select from staff_roles r where r.district_id = :district and r.staff_id = :staff"
    "  and r.role = any(:roles) and r.since_at <= now() and (r.until_at is null or r.until_at > now())"
    "  and (r.school_id is null or cast(:school as uuid) is null or r.school_id = :school)) as is_able"
)


def _require_able(session: Session, staff_id: uuid.UUID, school_id: uuid.UUID | None) -> None:
    parameters: dict[str, Any] = {
        "district": access.scope_of(session).district_id,
        "staff": staff_id,
        "roles": list(ABLE),
        "school": school_id,
    }
    found = session.execute(_ABLE, parameters).one()
    if not found.is_there:
        raise NotFound("There is nobody with this id.")
    if not found.is_able:
        words = f"On duty is who holds one of these roles there: {', '.join(ABLE)}."
        raise Refused(words, code="not_able")
