"""The case conference: what was decided together, written by one and confirmed by another, one of them the lead."""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import cases, routing
from alerts.models import Conference
from screening import access, audit
from screening.errors import Conflict, NotFound, Refused

ATTENDING = (
    "counselor",
    "lead",
    "principal",
    "class_teacher",
    "school_doctor",
    "guardian",
    "student",
    "clinic",
    "police",
    "other",
)


def write(
    session: Session,
    case_id: uuid.UUID,
    *,
    tier: int,
    attended: Sequence[str],
    decision: str,
    held_at: dt.datetime,
    by: access.Actor,
    now: dt.datetime,
) -> Conference:
    """What a conference decided; it stands once somebody else confirms it. A tier is never lowered."""
    case = cases.working(session, case_id, by)
    if held_at > now:
        raise Refused("A conference is written when it has been held.", code="in_the_future")
    unknown = sorted(set(attended) - set(ATTENDING))
    if unknown or len(set(attended)) < 2:
        raise Refused(f"Name two or more of these who attended: {', '.join(ATTENDING)}.", code="unknown_attendance")
    if not case.tier <= tier <= 3:
        raise Refused("A tier may be raised here, never lowered.", code="tier_lowered")
    conference_id = uuid.uuid4()
    made = Conference(
        district_id=case.district_id,
        id=conference_id,
        case_id=case.id,
        school_id=case.school_id,
        tier=tier,
        attended=sorted(set(attended)),
        sealed_decision=cases.seal(session, case.id, conference_id, cases.required(decision)),
        held_at=held_at,
        written_by=by.person,
        written_at=now,
    )
    session.add(made)
    session.flush()
    cases.raise_tier(session, case.id, tier, by=by, now=now)
    cases.advance(session, case, "conference")
    audit.record(session, by, "conference.written", "conference", made.id, case=str(case.id), tier=tier)
    return made


def confirm(session: Session, conference_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Conference:
    """The second person's word; one of the two is the lead: a conference without its chair decides nothing."""
    found = session.scalars(
        select(Conference)
        .where(Conference.district_id == access.scope_of(session).district_id, Conference.id == conference_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such conference.")
    case = cases.working(session, found.case_id, by)
    if found.confirmed_by is not None and found.confirmed_at is not None:
        if found.confirmed_by == by.person:
            return found
        raise cases.TakenByAnother("This conference was confirmed", found.confirmed_by, found.confirmed_at)
    cases.require_second_person(by, found.written_by)
    if not (by.has("lead", school_id=found.school_id) or _wrote_as_lead(session, found)):
        raise Conflict("One of the two has to be the lead, who chairs.", code="chair_missing")
    found.confirmed_by, found.confirmed_at = by.person, now
    session.flush()
    audit.record(session, by, "conference.confirmed", "conference", found.id, case=str(case.id))
    return found


def listed(session: Session, case_id: uuid.UUID) -> Sequence[Conference]:
    return session.scalars(
        select(Conference)
        .where(Conference.district_id == access.scope_of(session).district_id, Conference.case_id == case_id)
        .where(access.of_scope(session, Conference.school_id))
        .order_by(Conference.held_at)
    ).all()


def _wrote_as_lead(session: Session, found: Conference) -> bool:
    return found.written_by in routing.rota(session).holding("lead", found.school_id)
