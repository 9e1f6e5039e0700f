"""The need to know: on what ground somebody may see what is kept of a student, or that there is none.

A role opens a door; behind it, answers, results, histories and notes are for those who have to do with the student:
being asked to look at an alert is the assignment that this takes. Everybody else of the school asks.
"""

import datetime as dt
import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import delivery
from screening import access, approvals, audit, same_child, staff
from screening.errors import AccessNeeded, NotFound, Refused

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
OWN_WORK = frozenset(GROUNDS[:4])
BUDGET = 30
"""Students whose results one person opens in an hour without a second person's word for each further one."""
AN_HOUR = dt.timedelta(hours=1)
REMEMBERED = dt.timedelta(days=90)
"""How long an ended alert or case still makes its people those who know the student."""

_WORK = text(
    "select s.school_id,"  # noqa: S608 - our own SQL
    " exists (select from recusals r where r.district_id = s.district_id and r.person_id = :person"
    f" and r.student_id in {same_child.rows_of('s.id')} and {access.within('r.school_id')}) as is_recused,"
    " exists (select from cases c where c.district_id = s.district_id"
    f" and c.student_id in {same_child.rows_of('s.id')} and {access.within('c.school_id')}"
    "  and c.owner_id = :person and (c.closed_at is null or c.closed_at > :since)) as case_owner,"
    " coalesce(bool_or(a.owner_id = :person), false) as alert_owner,"
    " coalesce(bool_or(exists (select from acknowledgements k where k.district_id = a.district_id"
    f"  and k.alert_id = a.id and k.by = :person and {access.within('k.school_id')})), false) as alert_answered,"
    " coalesce(bool_or(exists (select from deliveries d where d.district_id = a.district_id and d.subject = 'alert'"
    f"  and d.subject_id = a.id and d.recipient_id = :person and {access.within('d.school_id')})), false) as alert_told"
    " from students s left join alerts a on a.district_id = s.district_id and a.student_id = s.id"
    f"  and (a.closed_at is null or a.closed_at > :since) and {access.within('a.school_id')}"
    " where s.district_id = :district and s.id = :student group by s.district_id, s.id, s.school_id"
)


def ground(session: Session, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> str | None:
    """One of GROUNDS, or None. Raises NotFound for a student out of scope.

    Whoever stands back from a student (is the subject of what is said, or close to the family) has none.
    """
    asked = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "student": student_id,
        "person": by.person,
        "since": now - REMEMBERED,
    }
    found = session.execute(_WORK, asked).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
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


_WITHDRAWN = text(
    f"with child as {same_child.rows_of('cast(:student as uuid)')}"  # noqa: S608 - our own SQL
    " select coalesce(bool_or(l.decision <> 'granted'), false)"
    " and not exists (select from alerts a where a.district_id = :district and a.student_id in (table child)"
    f"  and a.tier = 3 and a.closed_at is null and {access.within('a.school_id')})"
    " and not exists (select from cases c where c.district_id = :district and c.student_id in (table child)"
    f"  and c.tier = 3 and c.state <> 'closed' and {access.within('c.school_id')})"
    " from (select distinct on (student_id, given_by) decision from consents where district_id = :district"
    f"  and student_id in (table child) and decided_at <= :now and {access.within('school_id')}"
    # of two decisions at the same instant the refusal counts, and of two rows of a child that of either
    "  order by student_id, given_by, decided_at desc, recorded_at desc, decision = 'granted') l"
)


def require_consent(session: Session, student_id: uuid.UUID, *, now: dt.datetime) -> None:
    """What was answered is shown to nobody from the withdrawal on, though it is erased some days later; while a red is
    open it serves safety. Raises Refused (`consent_withdrawn`)."""
    wanted = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "student": student_id,
        "now": now,
    }
    if session.execute(_WITHDRAWN, wanted).scalar():
        raise Refused("The consent was refused or withdrawn: what was answered is erased.", code="consent_withdrawn")


# -- opening many -----------------------------------------------------------------------------------------


def has_opened_many(session: Session, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> bool:
    """Whether this person has opened as many other students in the last hour as one opens without being asked why."""
    asked = {
        "district": access.scope_of(session).district_id,
        "account": by.account_id,
        "since": now - AN_HOUR,
        "student": str(student_id),
    }
    return int(session.execute(_OPENED, asked).scalar_one()) >= BUDGET


def require_second_person(
    session: Session, student_id: uuid.UUID, why: str, *, by: access.Actor, now: dt.datetime
) -> None:
    """On the ground of a role alone a second person grants each further student; what one was asked to look at is
    refused to nobody. Raises AccessNeeded (`budget_spent`)."""
    if why not in OWN_WORK and approvals.standing(session, student_id, by=by, now=now) is None:
        words = f"You have opened {BUDGET} students within an hour. Ask for access: /v1/access-requests."
        raise AccessNeeded(words, code="budget_spent")


def alarm(session: Session, *, by: access.Actor, now: dt.datetime) -> None:
    """Tells privacy officers, and the leads of the reader's schools, that somebody opens many; once an hour.

    In a unit of its own in the whole district: the reading itself may be refused.
    """
    places: list[uuid.UUID | None] = [*(by.schools_as("counselor", "lead") or ()), None]
    people = {one for school_id in places for one in staff.people_with(session, TOLD_OF_MANY, school_id)}
    hour = now.replace(minute=0, second=0, microsecond=0).isoformat()
    reader = by.account_id or by.person
    notices = [
        delivery.Notice(one, None, "reading", reader, f"many/{hour}", "immediate", now)
        for one in sorted(people - {by.person})
    ]
    delivery.put(session, notices, now=now)
    audit.record(session, by, "access.budget_spent", "account", reader, budget=BUDGET)


TOLD_OF_MANY = ("lead", "privacy_officer")
_OPENED = text(
    "select count(distinct subject_id) from audit_entries where district_id = :district and actor_id = :account"
    " and action = 'result.read' and at > :since and subject_id <> :student"
)


def _by_role(session: Session, school_id: uuid.UUID, by: access.Actor) -> str | None:
    if by.has("counselor", school_id=school_id) and staff.people_with(session, ["counselor"], school_id) == [by.person]:
        return "only_counselor"
    return "lead" if by.has("lead", school_id=school_id) else None
