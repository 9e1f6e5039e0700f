"""A friendly look, once a term, at students of special groups. Membership alone raises no tier; it plans this."""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import cases
from alerts.models import CheckIn
from screening import access, audit
from screening.errors import NotFound, Refused

EVERY_DAYS, WITHIN_DAYS = 90, 14
OUTCOMES = ("well", "support_offered", "concern_raised", "not_reached")
"""What came of it. A concern is raised as any other (`triage.raise_concern`); not reached plans the next one soon."""

_PLAN = text(
    "insert into check_ins (district_id, id, student_id, school_id, due_on)"
    " select s.district_id, gen_random_uuid(), s.id, s.school_id, cast(:due as date) from students s"
    " where s.district_id = :district and exists (select from special_groups g"
    "  where g.district_id = s.district_id and g.student_id = s.id and g.until_on is null)"
    " and exists (select from enrollments e"
    "  where e.district_id = s.district_id and e.student_id = s.id and e.until_on is null)"
    " and not exists (select from cases c"
    "  where c.district_id = s.district_id and c.student_id = s.id and c.state <> 'closed')"
    " and not exists (select from check_ins k where k.district_id = s.district_id and k.student_id = s.id"
    "  and (k.state = 'planned' or k.ended_at > :since and k.state = 'done'))"
    " on conflict do nothing returning id"
)


def plan_due(session: Session, *, now: dt.datetime) -> int:
    """Plans a look at everybody in a special group who had none this term and is in no case; twice is once."""
    on = now.astimezone(session.info["timezone"]).date()
    about = {
        "district": access.scope_of(session).district_id,
        "due": on + dt.timedelta(days=WITHIN_DAYS),
        "since": now - dt.timedelta(days=EVERY_DAYS),
    }
    return len(session.execute(_PLAN, about).all())


def listed(session: Session, *, after: tuple[dt.date, uuid.UUID] | None = None, limit: int = 50) -> Sequence[CheckIn]:
    """Those that are planned at the schools of the scope, by their day."""
    wanted = select(CheckIn).filter_by(district_id=access.scope_of(session).district_id, state="planned")
    wanted = wanted.where(access.of_scope(session, CheckIn.school_id))
    if after is not None:
        on, last = after
        wanted = wanted.where((CheckIn.due_on > on) | ((CheckIn.due_on == on) & (CheckIn.id > last)))
    return session.scalars(wanted.order_by(CheckIn.due_on, CheckIn.id).limit(limit)).all()


def get(session: Session, check_in_id: uuid.UUID) -> CheckIn:
    """Raises NotFound."""
    found = session.get(CheckIn, (access.scope_of(session).district_id, check_in_id))
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such check-in.")
    return found


def end(session: Session, check_in_id: uuid.UUID, outcome: str, *, by: access.Actor, now: dt.datetime) -> CheckIn:
    """What came of it, as one of OUTCOMES; no words, since nothing is the matter."""
    if outcome not in OUTCOMES:
        raise Refused(f"The outcome is one of these: {', '.join(OUTCOMES)}.", code="unknown_outcome")
    found = session.scalars(
        select(CheckIn)
        .where(CheckIn.district_id == access.scope_of(session).district_id, CheckIn.id == check_in_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such check-in.")
    cases.require(by, cases.CARING, found.school_id)
    if found.state != "planned" and found.ended_by is not None and found.ended_at is not None:
        if found.ended_by == by.person and found.outcome == outcome:
            return found
        raise cases.TakenByAnother("This check-in was ended", found.ended_by, found.ended_at)
    found.state = "missed" if outcome == "not_reached" else "done"
    found.outcome, found.ended_by, found.ended_at = outcome, by.person, now
    session.flush()
    audit.record(session, by, f"check_in.{found.state}", "check_in", found.id)
    return found
