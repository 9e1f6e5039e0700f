"""Whom each row is about and what would come of it: certain matches only, everything else for a person."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, identity, same_child, sealing
from screening.errors import Problem
from screening.identity import Person
from screening.inserting import bytea_array
from screening.models import School
from screening.roster.listing import Known, Listed, Verdict, problem_of


@dataclass(frozen=True, slots=True)
class _Beside:
    """What is kept of the students that rows may be about, apart from their enrollment."""

    people: Mapping[uuid.UUID, Person]
    groups: Mapping[uuid.UUID, frozenset[str]]
    decisions: Mapping[tuple[uuid.UUID, str], str]


def judge(session: Session, listed: Sequence[Listed], bound: uuid.UUID | None) -> list[Verdict]:
    """What comes of each row, as far as the session sees; `bound` is the one school that the list may touch."""
    keys = sealing.keys(session)
    codes = dict(session.execute(select(School.code, School.id).where(School.district_id == keys.district_id)).all())
    numbers = identity.number_hashes(keys, [row.number for row in listed])
    names = [identity.name_hash(keys, row.name) for row in listed]
    known = _known(session, numbers)
    schools = [_school_of(row, codes, bound) for row in listed]
    likely = [
        [each for each in known.get(number, ()) if name in each.names]
        for number, name in zip(numbers, names, strict=True)
    ]
    beside = _beside(session, {each.student_id for several in likely for each in several})
    verdicts = [
        school if isinstance(school, Problem) else _verdict(row, school, name, known.get(number, ()), beside, bound)
        for row, school, number, name in zip(listed, schools, numbers, names, strict=True)
    ]
    return _once_each(
        listed,
        [
            _refused(row, verdict) if isinstance(verdict, Problem) else verdict
            for row, verdict in zip(listed, verdicts, strict=True)
        ],
        [(school, number) for school, number in zip(schools, numbers, strict=True)],
    )


def _school_of(row: Listed, codes: Mapping[str, uuid.UUID], bound: uuid.UUID | None) -> uuid.UUID | Problem:
    if not row.school_code:
        return bound or problem_of("school_missing", row, "school_code")
    school_id = codes.get(row.school_code)
    if school_id is None or bound not in (None, school_id):
        return problem_of("unknown_school", row, "school_code")
    return school_id


def _verdict(
    row: Listed,
    school_id: uuid.UUID,
    name: bytes,
    candidates: Sequence[Known],
    beside: _Beside,
    bound: uuid.UUID | None,
) -> Verdict | Problem:
    here = [each for each in candidates if each.school_id == school_id]
    if here:
        if name not in here[0].names:
            return problem_of("name_differs", row, "student_number")
        if _is_born_otherwise(row, here[0], beside):
            return problem_of("birth_date_differs", row, "born_on")
        return _compared(row, school_id, here[0], beside)
    elsewhere = _once_a_child([each for each in candidates if name in each.names])
    if not elsewhere:
        if row.grade is None:
            return problem_of("grade_missing", row, "grade")
        return Verdict("new", school_id, decisions=row.decisions)
    if len(elsewhere) > 1 or bound is not None or _is_born_otherwise(row, elsewhere[0], beside):
        return problem_of("ambiguous_student", row, "student_number")
    return _compared(row, school_id, elsewhere[0], beside)


def _once_a_child(known: Sequence[Known]) -> list[Known]:
    """Of a child that stands at several schools under one number the row under which it is counted, or the first."""
    by_child: dict[uuid.UUID, Known] = {}
    for each in sorted(known, key=lambda one: one.student_id != one.counted_id):
        by_child.setdefault(each.counted_id, each)
    return list(by_child.values())


def _is_born_otherwise(row: Listed, known: Known, beside: _Beside) -> bool:
    person = beside.people.get(known.student_id)
    return bool(person and person.born_on and row.born_on and person.born_on != row.born_on)


def _compared(row: Listed, school_id: uuid.UUID, known: Known, beside: _Beside) -> Verdict:
    person = beside.people[known.student_id]
    spoken, stands = _decisions(row, known, beside)
    # what a list leaves blank it does not deny
    checks = {
        "school": school_id != known.school_id,
        "grade": row.grade is not None and row.grade != known.grade,
        "class_name": row.class_name is not None and row.class_name != known.class_name,
        "sex": row.sex not in (None, "x", known.sex),
        "born_on": row.born_on is not None and person.born_on is None,
        "guardian_phone": row.phone is not None and row.phone != person.phone,
        "special_groups": bool(row.groups)
        and frozenset(row.groups) != beside.groups.get(known.student_id, frozenset()),
        "consent": bool(spoken),
    }
    differences = tuple(name for name, differs in checks.items() if differs)
    change = "moved" if checks["school"] else "changed" if differences else "same"
    return Verdict(change, school_id, known.student_id, differences, tuple(stands), spoken, known)


def _decisions(row: Listed, known: Known, beside: _Beside) -> tuple[dict[str, str], list[Problem]]:
    """The decisions that say something new; an old list must not undo a refusal, so a grant does not replace one."""
    spoken, stands = {}, []
    for giver, decision in row.decisions.items():
        before = beside.decisions.get((known.student_id, giver))
        if before in ("declined", "withdrawn"):
            if decision == "granted":
                stands.append(problem_of("consent_stands", row, f"{giver}_consent"))
        elif before != decision:
            spoken[giver] = decision
    return spoken, stands


def _once_each(
    listed: Sequence[Listed], verdicts: Sequence[Verdict], places: Sequence[tuple[object, bytes]]
) -> list[Verdict]:
    """Two rows for one number at one school, or about one student, are both refused: nobody can tell which is right."""
    by_place = Counter(places)
    by_student = Counter(verdict.student_id for verdict in verdicts if verdict.student_id)
    return [
        _refused(row, problem_of("duplicate_student", row, "student_number"))
        if verdict.change != "refused"
        and (by_place[place] > 1 or (verdict.student_id is not None and by_student[verdict.student_id] > 1))
        else verdict
        for row, verdict, place in zip(listed, verdicts, places, strict=True)
    ]


def _refused(row: Listed, problem: Problem) -> Verdict:
    return Verdict("refused", problems=(problem,))


def _known(session: Session, numbers: Collection[bytes]) -> dict[bytes, list[Known]]:
    rows = session.execute(
        text(
            "select e.number_hash, e.student_id, e.school_id, i.name_hash, e.grade, e.class_name, s.sex,"  # noqa: S608 - our own SQL
            " k.student_id as counted_id, w.names from enrollments e"
            f" left join {same_child.COUNTED} k on k.duplicate_id = e.student_id"
            f" left join (select o.student_id, array_agg(n.name_hash) as names from {same_child.OTHERS} o"
            "  join identities n on n.district_id = :district and n.student_id = o.other_id group by o.student_id) w"
            "  on w.student_id = e.student_id"
            " join identities i on i.district_id = e.district_id and i.student_id = e.student_id"
            " join students s on s.district_id = e.district_id and s.id = e.student_id"
            " where e.district_id = :district and e.until_on is null and e.number_hash = any(cast(:numbers as bytea[]))"
            f" and {access.within('e.school_id')} and {access.within('s.school_id')}"
        ),
        {
            "district": access.scope_of(session).district_id,
            "schools": access.schools_of(session),
            "numbers": bytea_array(set(numbers)),
        },
    )
    found: dict[bytes, list[Known]] = {}
    for number, student_id, school_id, name, grade, class_name, sex, counted_id, others in rows:
        names = frozenset(map(bytes, (name, *(others or ()))))
        known = Known(student_id, school_id, names, grade, class_name, sex, counted_id or student_id)
        found.setdefault(bytes(number), []).append(known)
    return found


def _beside(session: Session, student_ids: Collection[uuid.UUID]) -> _Beside:
    wanted = {"district": access.scope_of(session).district_id, "students": list(student_ids)}
    groups = session.execute(
        text(
            "select student_id, array_agg(group_code) from special_groups where district_id = :district"
            " and student_id = any(:students) and until_on is null group by student_id"
        ),
        wanted,
    )
    decisions = session.execute(
        text(
            "select distinct on (student_id, given_by) student_id, given_by, decision from consents"
            " where district_id = :district and student_id = any(:students)"
            " order by student_id, given_by, decided_at desc, recorded_at desc, decision = 'granted'"
        ),
        wanted,
    )
    return _Beside(
        people=identity.people(session, student_ids),
        groups={student_id: frozenset(codes) for student_id, codes in groups},
        decisions={(student_id, giver): decision for student_id, giver, decision in decisions},
    )
