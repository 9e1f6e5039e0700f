"""Breaking the glass: who is told at once, and the few things that it shows."""

import datetime as dt
import uuid
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import delivery, plans
from alerts.models import Plan
from screening import access, approvals, audit, identity, staff
from screening.models import AccessRequest

TOLD = ("counselor", "lead", "privacy_officer")
"""Who hears of it in the same moment, besides the one who did it."""


@dataclass(frozen=True)
class Emergency:
    """How to reach a student, how serious it stands, and what was agreed for such a moment."""

    name: str | None
    phone: str | None
    tier: int
    actions: tuple[plans.Action, ...]
    until_at: dt.datetime


def broken(
    session: Session, student_id: uuid.UUID, reason: str, *, hours: int, by: access.Actor, now: dt.datetime
) -> AccessRequest:
    """Breaks it and writes down who is to be told, in one transaction: none is broken silently.

    Raises what `approvals.break_glass` raises.
    """
    made = approvals.break_glass(session, student_id, reason, hours=hours, by=by, now=now)
    people = [one for one in staff.people_with(session, TOLD, made.school_id) if one != by.person]
    notices = [
        delivery.Notice(
            recipient_id=one,
            school_id=made.school_id,
            subject="access_request",
            subject_id=made.id,
            occasion="glass_broken",
            urgency="immediate",
            due_at=made.review_by or now,
        )
        for one in people
    ]
    delivery.put(session, notices, now=now)
    return made


_STANDING = text(
    "select c.id as case_id, greatest(coalesce(c.tier, 0), coalesce(a.tier, 0)) as tier from students s"  # noqa: S608 - our own SQL
    " left join cases c on c.district_id = s.district_id and c.student_id = s.id and c.state <> 'closed'"
    f" and {access.within('c.school_id')}"
    " left join alerts a on a.district_id = s.district_id and a.student_id = s.id and a.closed_at is null"
    f" and {access.within('a.school_id')}"
    " where s.district_id = :district and s.id = :student"
)


def through(session: Session, request_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Emergency:
    """What one's own broken glass shows while it is open. Raises NotFound for any other, and when its time is over."""
    found = approvals.opened(session, request_id, by=by, now=now)
    wanted = {
        "district": found.district_id,
        "schools": access.schools_of(session),
        "student": found.student_id,
    }
    standing = session.execute(_STANDING, wanted).one()
    person = identity.people(session, [found.student_id]).get(found.student_id)
    plan = None if standing.case_id is None else plans.newest(session, standing.case_id)
    audit.record(session, by, "access.glass_opened", "student", found.student_id, request=str(found.id))
    return Emergency(
        name=None if person is None else person.name,
        phone=None if person is None else person.phone,
        tier=standing.tier,
        actions=_actions(session, plan),
        until_at=found.until_at or now,
    )


def _actions(session: Session, plan: Plan | None) -> tuple[plans.Action, ...]:
    return () if plan is None else plans.read(session, plan).actions
