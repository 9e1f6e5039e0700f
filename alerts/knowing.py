"""The need to know: on what ground somebody may see what is kept of a student, or that there is none.

A role opens a door; behind it, answers, results, histories and notes are for those who have to do with the student:
being asked to look at an alert is the assignment that this takes. Everybody else of the school asks.
"""

import datetime as dt
import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, approvals, staff
from screening.errors import AccessNeeded, NotFound

GROUNDS = (
    "case_owner",
    "alert_owner",
    "alert_answered",
    "alert_told",
    "assignment",
    "request",
    "only_counselor",
    "lead",
)
"""Why it is shown, the closest first. They stand in the account's lines."""
SAFETY_ONLY = frozenset({"lead"})
"""Grounds that open tiers, scores and safety items, and no other answer."""
REMEMBERED = dt.timedelta(days=90)
"""How long an ended alert or case still makes its people those who know the student."""

_WORK = text(
    "select s.school_id,"
    " exists (select from recusals r where r.district_id = s.district_id and r.student_id = s.id"
    "  and r.person_id = :person) as is_recused,"
    " exists (select from cases c where c.district_id = s.district_id and c.student_id = s.id"
    "  and c.owner_id = :person and (c.closed_at is null or c.closed_at > :since)) as case_owner,"
    " coalesce(bool_or(a.owner_id = :person), false) as alert_owner,"
    " coalesce(bool_or(exists (select from acknowledgements k where k.district_id = a.district_id"
    "  and k.alert_id = a.id and k.by = :person)), false) as alert_answered,"
    " coalesce(bool_or(exists (select from deliveries d where d.district_id = a.district_id and d.subject = 'alert'"
    "  and d.subject_id = a.id and d.recipient_id = :person)), false) as alert_told"
    " from students s left join alerts a on a.district_id = s.district_id and a.student_id = s.id"
    "  and (a.closed_at is null or a.closed_at > :since)"
    " where s.district_id = :district and s.id = :student group by s.district_id, s.id, s.school_id"
)


def ground(session: Session, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> str | None:
    """One of GROUNDS, or None. Raises NotFound for a student out of scope.

    Whoever stands back from a student (is the subject of what is said, or close to the family) has none.
    """
    asked = {
        "district": access.scope_of(session).district_id,
        "student": student_id,
        "person": by.person,
        "since": now - REMEMBERED,
    }
    found = session.execute(_WORK, asked).one_or_none()
    if found is None:
        raise NotFound("There is no such student.")
    if found.is_recused:
        return None
    work = next((why for why in GROUNDS[:4] if getattr(found, why)), None)
    return work or approvals.standing(session, student_id, by=by, now=now) or _by_role(session, found.school_id, by)


def require(session: Session, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> str:
    """The ground on which it is shown. Raises NotFound for a student out of scope, AccessNeeded without a ground."""
    why = ground(session, student_id, by=by, now=now)
    if why is None:
        raise AccessNeeded("You have nothing to do with this student. Ask for access: /v1/access-requests.")
    return why


def _by_role(session: Session, school_id: uuid.UUID, by: access.Actor) -> str | None:
    if by.has("counselor", school_id=school_id) and staff.people_with(session, ["counselor"], school_id) == [by.person]:
        return "only_counselor"
    return "lead" if by.has("lead", school_id=school_id) else None
