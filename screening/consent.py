"""Consent: who granted, declined or withdrew it and when, and for whom it is in force at an instant.

The latest decision of each giver counts. Whoever refuses, guardian or student, is obeyed at any age; below the age
in the policy the guardian must have granted it, from that age on the grant of either is enough. A birth month that
is not known counts as below that age, and a birthday counts from the first day of the month after it, because no
more than the month is kept outside the vault.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit, erasure, identity, same_child, sealing
from screening.errors import NotFound, Problem, Refused
from screening.inserting import bytea_array
from screening.models import Consent
from screening.policy import Policy

DECISIONS = frozenset({"granted", "declined", "withdrawn"})
GIVERS = frozenset({"guardian", "student"})


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision by one giver for one student."""

    student_id: uuid.UUID
    decision: str
    given_by: str


@dataclass(frozen=True, slots=True)
class ListedDecision:
    """One row of a list of decisions: `row` as the list numbers it, `school_code` where a number is not enough."""

    row: int
    student_number: str
    decision: str
    given_by: str = "guardian"
    school_code: str | None = None


@dataclass(frozen=True, slots=True)
class ClassFunnel:
    """How far consent has come in one class: enrolled = in_force + refused + waiting."""

    grade: int
    class_name: str
    enrolled: int
    in_force: int
    refused: int
    waiting: int


def record(
    session: Session,
    student_ids: Iterable[uuid.UUID],
    decision: str,
    *,
    given_by: str,
    notice_version: str,
    channel: str,
    decided_at: dt.datetime,
    by: access.Actor,
) -> int:
    """Writes the same decision for these students and answers how many were new; the same again changes nothing.

    Raises Refused for an unknown decision or giver, NotFound when a student is not in the session's scope.
    """
    return record_many(
        session,
        [Decision(student_id, decision, given_by) for student_id in student_ids],
        notice_version=notice_version,
        channel=channel,
        decided_at=decided_at,
        by=by,
    )


def record_many(
    session: Session,
    decisions: Iterable[Decision],
    *,
    notice_version: str,
    channel: str,
    decided_at: dt.datetime,
    by: access.Actor,
) -> int:
    """Like `record`, each student with a decision of their own, in one statement."""
    wanted = list(dict.fromkeys(decisions))
    _check(wanted)
    if not wanted:
        return 0
    students = [each.student_id for each in wanted]
    here = {"district": access.scope_of(session).district_id, "schools": access.schools_of(session)}
    seen = session.execute(_COUNT_IN_SCOPE, here | {"students": students}).scalar_one()
    if seen != len(set(students)):
        raise NotFound("There is no such student.")
    written = session.execute(
        _INSERT,
        here
        | {
            "students": students,
            "decisions": [each.decision for each in wanted],
            "givers": [each.given_by for each in wanted],
            "notice": notice_version,
            "channel": channel,
            "at": decided_at,
            "by": by.staff_id or by.account_id,
        },
    ).all()
    if written:
        subject_id = students[0] if len(wanted) == 1 else "many"
        audit.record(session, by, "consent.recorded", "student", str(subject_id), count=len(written))
        withdrawn = [each.student_id for each in wanted if each.decision == "withdrawn"]
        for others in same_child.others(session, withdrawn).values() if withdrawn else ():
            withdrawn += others
        erasure.ask(session, withdrawn, "answers", "withdrawal", by=by, now=decided_at)
    return len(written)


def withdraw(
    session: Session,
    student_id: uuid.UUID,
    *,
    given_by: str,
    notice_version: str,
    channel: str,
    decided_at: dt.datetime,
    by: access.Actor,
) -> int:
    """Withdraws one student's consent; from `decided_at` on it is not in force."""
    return record(
        session,
        [student_id],
        "withdrawn",
        given_by=given_by,
        notice_version=notice_version,
        channel=channel,
        decided_at=decided_at,
        by=by,
    )


def from_list(
    session: Session,
    rows: Sequence[ListedDecision],
    *,
    notice_version: str,
    channel: str,
    decided_at: dt.datetime,
    by: access.Actor,
) -> tuple[int, list[Problem]]:
    """Writes the decisions of a list by student number; answers how many were new, and every row that was not taken.

    A number is looked up among the students of the session's scope; one that no school or several schools gave
    costs its own row only.
    """
    found = _students_by_number(session, rows)
    taken: list[Decision] = []
    problems: list[Problem] = []
    for row, students in zip(rows, found, strict=True):
        problem = _problem_of(row, students)
        if problem is None:
            taken.append(Decision(students[0], row.decision, row.given_by))
        else:
            problems.append(problem)
    written = record_many(session, taken, notice_version=notice_version, channel=channel, decided_at=decided_at, by=by)
    return written, problems


def in_force_sql(
    policy: Policy, *, district: str = ":district", at: str = ":at", among: str = "", students: str = ""
) -> str:
    """A subquery of (student_id, is_in_force, is_refused) for set-based joins; parenthesize and name it.

    `district` and `at` are SQL for the district's id and the instant, `among` a query of the student ids that matter,
    `students` an array of them: few, which are looked up in any state of the planner's statistics.
    Only students of whom anybody decided anything by then are in it: a left join's null is "not in force". What was
    decided of one row of a child counts for every row of it, a refusal of either giver before any grant.
    """
    age = policy.consent.student_from_age
    only, only_others, these = "", "", ""
    if among:
        only, only_others = f" and c.student_id in ({among})", f" and o.student_id in ({among})"
    if students:
        only += f" and c.student_id = any({students})"
        only_others += f" and o.student_id = any({students})"
        these = f" and s.id = any({students})"
    others = same_child.OTHERS.replace(":district", district)
    return (
        "select s.id as student_id,"  # noqa: S608 - our own SQL
        " not d.is_refused and (d.is_guardian_grant or (d.is_student_grant and coalesce("
        f"s.born_month + interval '{age} years 1 month' <= ({at})::timestamptz, false))) as is_in_force,"
        " d.is_refused"
        " from students s join ("
        "select l.student_id, bool_or(l.decision <> 'granted') as is_refused,"
        " bool_or(l.decision = 'granted' and l.given_by = 'guardian') as is_guardian_grant,"
        " bool_or(l.decision = 'granted' and l.given_by = 'student') as is_student_grant"
        " from ((select distinct on (c.student_id, c.given_by) c.student_id, c.given_by, c.decision from consents c"
        f" where c.district_id = {district} and c.decided_at <= {at}{only}"
        # of two decisions at the same instant the refusal counts
        " order by c.student_id, c.given_by, c.decided_at desc, c.recorded_at desc, c.decision = 'granted')"
        f" union all select o.student_id, x.given_by, x.decision from {others} o cross join lateral"
        " (select distinct on (c.given_by) c.given_by, c.decision from consents c"
        f" where c.district_id = {district} and c.student_id = o.other_id and c.decided_at <= {at}"
        " order by c.given_by, c.decided_at desc, c.recorded_at desc, c.decision = 'granted') x"
        f" where true{only_others}) l group by l.student_id) d"
        f" on d.student_id = s.id where s.district_id = {district}{these}"
    )


def in_force(
    session: Session, student_ids: Collection[uuid.UUID] | None, *, at: dt.datetime, policy: Policy
) -> frozenset[uuid.UUID]:
    """Those of these students (None: of the whole scope) for whom consent is in force at `at`."""
    among = "" if student_ids is None else "select unnest(cast(:students as uuid[]))"
    found = session.execute(
        text(f"select f.student_id from ({in_force_sql(policy, among=among)}) f where f.is_in_force"),  # noqa: S608 - our own SQL
        {
            "district": access.scope_of(session).district_id,
            "at": at,
            **({} if student_ids is None else {"students": list(student_ids)}),
        },
    )
    return frozenset(found.scalars())


def standing(session: Session, student_id: uuid.UUID) -> Sequence[Consent]:
    """The latest decision of each giver for this student, within the session's scope."""
    found = session.scalars(
        select(Consent)
        .where(Consent.district_id == access.scope_of(session).district_id, Consent.student_id == student_id)
        .where(access.of_scope(session, Consent.school_id))
        # of two decisions at the same instant the refusal counts
        .order_by(Consent.decided_at, Consent.recorded_at, Consent.decision != "granted")
    )
    return list({each.given_by: each for each in found}.values())


def funnel(session: Session, school_id: uuid.UUID, *, at: dt.datetime, policy: Policy) -> list[ClassFunnel]:
    """How far consent has come in each class of a school, by grade and class."""
    rows = session.execute(
        text(
            "select e.grade, e.class_name, count(*) as enrolled,"  # noqa: S608 - our own SQL
            " count(*) filter (where f.is_in_force) as in_force, count(*) filter (where f.is_refused) as refused"
            f" from enrollments e left join ({in_force_sql(policy)}) f on f.student_id = e.student_id"
            " where e.district_id = :district and e.school_id = :school and e.until_on is null"
            f" and {access.within('e.school_id')}"
            " group by e.grade, e.class_name order by e.grade, e.class_name"
        ),
        {
            "district": access.scope_of(session).district_id,
            "schools": access.schools_of(session),
            "school": school_id,
            "at": at,
        },
    )
    return [
        ClassFunnel(
            grade=row.grade,
            class_name=row.class_name,
            enrolled=row.enrolled,
            in_force=row.in_force,
            refused=row.refused,
            waiting=row.enrolled - row.in_force - row.refused,
        )
        for row in rows
    ]


_COUNT_IN_SCOPE = text(
    "select count(*) from students where district_id = :district and id = any(:students)"  # noqa: S608 - our own SQL
    f" and {access.within('school_id')}"
)
_INSERT = text(
    "insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version, channel,"  # noqa: S608 - our own SQL
    " decided_at, recorded_by)"
    " select s.district_id, gen_random_uuid(), s.id, s.school_id, n.decision, n.given_by, :notice, :channel, :at, :by"
    " from unnest(cast(:students as uuid[]), cast(:decisions as text[]), cast(:givers as text[]))"
    " as n(student_id, decision, given_by)"
    " join students s on s.district_id = :district and s.id = n.student_id"
    " where not exists (select from consents c where c.district_id = s.district_id and c.student_id = s.id"
    f" and {access.within('c.school_id')}"
    " and c.given_by = n.given_by and c.decided_at = :at and c.decision = n.decision)"
    " returning 1"
)


def _check(decisions: Iterable[Decision]) -> None:
    for each in decisions:
        if each.decision not in DECISIONS:
            raise Refused(f"{each.decision} is not a decision; it is granted, declined or withdrawn.")
        if each.given_by not in GIVERS:
            raise Refused(f"{each.given_by} cannot decide; a guardian or the student can.")


def _students_by_number(session: Session, rows: Sequence[ListedDecision]) -> list[list[uuid.UUID]]:
    keys = sealing.keys(session)
    hashes = identity.number_hashes(keys, [row.student_number for row in rows])
    found = session.execute(
        text(
            "select e.number_hash, s.code, e.student_id from enrollments e"  # noqa: S608 - our own SQL
            " join schools s on s.district_id = e.district_id and s.id = e.school_id"
            " where e.district_id = :district and e.until_on is null and e.number_hash = any(cast(:hashes as bytea[]))"
            f" and {access.within('e.school_id')}"
        ),
        {
            "district": keys.district_id,
            "schools": access.schools_of(session),
            "hashes": bytea_array(set(hashes)),
        },
    )
    known: dict[bytes, list[tuple[str, uuid.UUID]]] = {}
    for number_hash, code, student_id in found:
        known.setdefault(bytes(number_hash), []).append((code, student_id))
    return [
        [student for code, student in known.get(number_hash, ()) if row.school_code in (None, code)]
        for row, number_hash in zip(rows, hashes, strict=True)
    ]


def _problem_of(row: ListedDecision, students: Sequence[uuid.UUID]) -> Problem | None:
    if row.decision not in DECISIONS:
        return Problem("unknown_decision", "Write granted, declined or withdrawn.", row=row.row, column="decision")
    if row.given_by not in GIVERS:
        return Problem("unknown_giver", "Write guardian or student.", row=row.row, column="given_by")
    if not students:
        return Problem("unknown_student", "No student has this number now.", row=row.row, column="student_number")
    if len(students) > 1:
        message = "Several schools gave this number; add the school's code."
        return Problem("ambiguous_student", message, row=row.row, column="student_number")
    return None
