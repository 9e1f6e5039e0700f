"""Students by name, for those who keep the roster or care for them; and one student over rounds."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session

from api.deps import (
    CARING,
    ActorDep,
    DatabaseDep,
    Door,
    Id,
    NowDep,
    PageDep,
    Sender,
    SessionDep,
    View,
    school_codes,
    school_id,
)
from api.v1.shown import RoundOfStudentView, needed
from screening import access, history, same_child, students
from screening.students import Enrolled

door = Door(prefix="/v1/students", tag="students")

KNOWING_NAMES = CARING | {"school_admin"}


class StudentView(View):
    id: uuid.UUID
    school: str
    name: str | None
    sex: str
    born_month: dt.date | None
    grade: int | None
    class_name: str | None
    same_child: list[uuid.UUID]
    """Other rows of the same child, by a merge that stands."""


class StudentsView(View):
    students: list[StudentView]


class HistoryView(View):
    student_id: uuid.UUID
    rounds: list[RoundOfStudentView]


@door.get("", roles=KNOWING_NAMES)
def listed(
    session: SessionDep,
    by: ActorDep,
    page: PageDep,
    school: Sender | None = None,
    grade: Annotated[int | None, Query(ge=1, le=20)] = None,
    class_name: Sender | None = None,
) -> StudentsView:
    """The enrolled students of the caller's schools, with their names; each naming is kept account of."""
    found = page.cut(
        students.listed(
            session,
            school_id=school_id(session, school) if school is not None else None,
            grade=grade,
            class_name=class_name,
            after=(page.after(uuid.UUID) or (None,))[0],
            limit=page.limit + 1,
        ),
        lambda student: (student.id,),
    )
    return StudentsView(students=_shown(session, found, by))


@door.get("/{student_id}", roles=KNOWING_NAMES)
def show(student_id: Id, session: SessionDep, by: ActorDep) -> StudentView:
    """One student."""
    return _shown(session, [students.get(session, student_id)], by)[0]


@door.get("/{student_id}/history", roles=CARING)
def over_rounds(student_id: Id, session: SessionDep, database: DatabaseDep, by: ActorDep, now: NowDep) -> HistoryView:
    """Every round of one student, for those who have to do with them: the standing tier, and what each form scored.
    Of a child with several rows all are shown, each round with the row that it came to."""
    why = needed(session, database, student_id, by, now)
    found = history.of_child(session, student_id, by=by, because=why)
    return HistoryView(student_id=student_id, rounds=[RoundOfStudentView.of(each) for each in found])


def _shown(session: Session, found: Sequence[Enrolled], by: access.Actor) -> list[StudentView]:
    names = students.named(session, [student.id for student in found], by=by)
    codes = school_codes(session)
    others = same_child.others(session, [student.id for student in found])
    return [
        StudentView(
            id=student.id,
            school=codes[student.school_id],
            name=names.get(student.id),
            sex=student.sex,
            born_month=student.born_month,
            grade=student.grade,
            class_name=student.class_name,
            same_child=sorted(others.get(student.id, ())),
        )
        for student in found
    ]
