"""Students' places in a round: given at its opening, later, or taken out of what is counted."""

import uuid
from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, audit, planner
from screening.errors import NotFound, Refused
from screening.rounds.asking import get
from screening.rounds.frozen import rules_of

EXEMPT_REASONS = frozenset({"absent_long", "health", "disability", "language", "in_treatment", "left", "other"})


def enroll_late(session: Session, round_id: uuid.UUID, *, student_ids: Collection[uuid.UUID] | None = None) -> int:
    """Gives a place in the round to whoever is enrolled now and has none yet; answers how many places were new.

    In an open round these are the students of its grades at the schools where it is open. In a historical round,
    whose students may have moved up since, they are the named ones, in whatever grade.
    """
    found = get(session, round_id)
    if found.is_historical and student_ids is None:
        raise Refused("A historical round takes its students from its files.", code="round_historical")
    return assign(session, round_id, student_ids=student_ids, is_any_grade=found.is_historical)


def exempt(session: Session, round_id: uuid.UUID, student_id: uuid.UUID, reason: str, *, by: access.Actor) -> None:
    """Takes a student out of the round's denominator, for one of EXEMPT_REASONS; the first reason stays.

    Raises Refused for an unknown reason or when the student has handed something in, NotFound without a place.
    """
    if reason not in EXEMPT_REASONS:
        raise Refused(f"Give one of these reasons: {', '.join(sorted(EXEMPT_REASONS))}.", code="unknown_reason")
    place = {"district": access.scope_of(session).district_id, "round": round_id, "student": student_id}
    held = session.execute(
        text(
            "select a.exempt_reason, exists (select from administrations d where d.district_id = a.district_id"
            " and d.round_id = a.round_id and d.student_id = a.student_id) as is_answered from assignments a"
            " where a.district_id = :district and a.round_id = :round and a.student_id = :student for no key update"
        ),
        place,
    ).all()
    if not held:
        raise NotFound("This student has no place in the round.")
    if held[0].is_answered:
        raise Refused("This student has answered already.", code="already_answered")
    if any(row.exempt_reason is None for row in held):
        session.execute(
            text(
                "update assignments set exempt_reason = :reason, exempted_by = :by where district_id = :district"
                " and round_id = :round and student_id = :student and exempt_reason is null"
            ),
            {**place, "reason": reason, "by": by.person},
        )
        audit.record(session, by, "student.exempted", "student", student_id, round=str(round_id), reason=reason)


def assign(
    session: Session,
    round_id: uuid.UUID,
    *,
    schools: Collection[uuid.UUID] | None = None,
    student_ids: Collection[uuid.UUID] | None = None,
    is_any_grade: bool = False,
) -> int:
    """Places for the enrolled students x informants of open parts; a place that is there stays as it is."""
    among = "" if schools is None else " and o.school_id = any(:schools)"
    among += "" if student_ids is None else " and e.student_id = any(:students)"
    among += "" if is_any_grade else " and e.grade = any(r.grades)"
    placed = session.connection().execute(
        text(
            "insert into assignments (district_id, round_id, student_id, informant, id, school_id, grade, class_name)"  # noqa: S608 - our own SQL
            " select r.district_id, r.id, e.student_id, i.informant, gen_random_uuid(), e.school_id, e.grade,"
            " e.class_name from rounds r"
            " join openings o on o.district_id = r.district_id and o.round_id = r.id and o.state = 'open'"
            " join enrollments e on e.district_id = r.district_id and e.school_id = o.school_id"
            " and e.until_on is null"
            " cross join unnest(cast(:informants as text[])) as i(informant)"
            f" where r.district_id = :district and r.id = :round{among} on conflict do nothing"
        ),
        {
            "district": access.scope_of(session).district_id,
            "round": round_id,
            "informants": list(rules_of(session, round_id).informants),
            **({} if schools is None else {"schools": list(schools)}),
            **({} if student_ids is None else {"students": list(student_ids)}),
        },
    )
    planner.refresh(session, "assignments", changed=placed.rowcount)
    return placed.rowcount
