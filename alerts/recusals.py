"""Who must not decide about a student: the subject of what is said, a relative. Somebody else takes over the clocks."""

import datetime as dt
import uuid

from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from alerts import cases, delivery, following, routing
from alerts.models import Alert, Recusal
from screening import access, audit, students
from screening.errors import Refused

REASONS = ("subject", "relative", "other")


def recuse(
    session: Session, student_id: uuid.UUID, person_id: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime
) -> None:
    """Keeps a person out of what is decided about a student: said by themselves, by the lead or by the principal.

    What they held is new again for the others, on the same clocks; their case goes to a colleague. Twice is once.
    """
    if reason not in REASONS:
        raise Refused(f"The reason is one of these: {', '.join(REASONS)}.", code="unknown_reason")
    school_id = students.school_of(session, student_id)
    cases.require(by, (*cases.CARING, "principal") if by.person == person_id else ("lead", "principal"), school_id)
    made = session.execute(
        postgresql.insert(Recusal)
        .values(
            district_id=by.district_id,
            id=uuid.uuid4(),
            student_id=student_id,
            school_id=school_id,
            person_id=person_id,
            reason=reason,
            by=by.person,
            at=now,
        )
        .on_conflict_do_nothing(index_elements=["district_id", "student_id", "person_id"])
        .returning(Recusal.id)
    ).scalar_one_or_none()
    if made is None:
        return
    audit.record(session, by, "person.recused", "student", student_id, person=str(person_id), reason=reason)
    _hand_on_alert(session, student_id, person_id, now)
    _hand_on_case(session, student_id, person_id, school_id, by, now)


def _hand_on_alert(session: Session, student_id: uuid.UUID, person_id: uuid.UUID, now: dt.datetime) -> None:
    held = session.scalars(
        select(Alert)
        .where(
            Alert.district_id == access.scope_of(session).district_id,
            Alert.student_id == student_id,
            Alert.closed_at.is_(None),
            access.of_scope(session, Alert.school_id),
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if held is None or held.owner_id != person_id or held.school_id is None:
        return
    held.owner_id = None
    if held.state == "acknowledged":  # its clocks go on as they are: whoever answers now is no less late
        held.state, held.raised_at = "new", now
    session.flush()
    notices = [
        delivery.Notice(
            recipient_id=recipient,
            school_id=held.school_id,
            subject="alert",
            subject_id=held.id,
            occasion=f"handed_on/{now.isoformat()}",
            urgency=delivery.URGENCIES[held.tier],
            due_at=held.answer_by,
        )
        for recipient in following.carers(routing.rota(session, now=now), held.school_id, held.id)
        if recipient != person_id
    ]
    delivery.put(session, notices, now=now)


_OWN_CASE = text(
    "select id from cases where district_id = :district and student_id = :student and owner_id = :person"  # noqa: S608 - our own SQL
    f" and state <> 'closed' and {access.within('school_id')}"
)
_RECUSED = text(
    "select person_id from recusals where district_id = :district and student_id = :student"  # noqa: S608 - our own SQL
    f" and {access.within('school_id')}"
)


def _hand_on_case(
    session: Session,
    student_id: uuid.UUID,
    person_id: uuid.UUID,
    school_id: uuid.UUID,
    by: access.Actor,
    now: dt.datetime,
) -> None:
    about = {
        "district": access.scope_of(session).district_id,
        "student": student_id,
        "person": person_id,
        "schools": access.schools_of(session),
    }
    case_id = session.scalar(_OWN_CASE, about)
    if case_id is None:
        return
    out = set(session.scalars(_RECUSED, about))
    rota = routing.rota(session, now=now)
    others = [each for each in following.carers(rota, school_id, case_id) if each not in out]
    if others:  # else it keeps its owner's name until the lead has found somebody; the owner can do nothing in it
        cases.give_to(session, case_id, others[0], "conflict", by=by, now=now)
