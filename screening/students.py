"""Who is enrolled where: students as pseudonyms with school, grade and class, and by name on request."""

import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, audit, identity, statements
from screening.errors import NotFound


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A student as enrolled now; without an enrollment grade is None."""

    id: uuid.UUID
    school_id: uuid.UUID
    sex: str
    born_month: dt.date | None
    grade: int | None
    class_name: str | None


_LISTED = (
    "select s.id, s.school_id, s.sex, s.born_month, e.grade, e.class_name from students s"  # noqa: S608 - our own SQL
    " {join} enrollments e on e.district_id = s.district_id and e.student_id = s.id and e.until_on is null"
    f" and {access.within('e.school_id')} where s.district_id = :district and {access.within('s.school_id')}"
)


def listed(
    session: Session,
    *,
    school_id: uuid.UUID | None = None,
    grade: int | None = None,
    class_name: str | None = None,
    after: uuid.UUID | None = None,
    limit: int = 50,
) -> list[Enrolled]:
    """The enrolled students of the scope (of one school, grade, class), by id, those after `after`."""
    rows = session.execute(
        text(
            _LISTED.format(join="join") + " and (cast(:school as uuid) is null or s.school_id = :school)"
            " and (cast(:grade as smallint) is null or e.grade = :grade)"
            " and (cast(:class as text) is null or e.class_name = :class)"
            " and (cast(:after as uuid) is null or s.id > :after) order by s.id limit :limit"
        ),
        {
            "district": access.scope_of(session).district_id,
            "schools": access.schools_of(session),
            "school": school_id,
            "grade": grade,
            "class": class_name,
            "after": after,
            "limit": limit,
        },
    )
    return [Enrolled(*row) for row in rows]


def get(session: Session, student_id: uuid.UUID) -> Enrolled:
    """One student of the scope. Raises NotFound."""
    row = session.execute(
        text(_LISTED.format(join="left join") + " and s.id = :student"),
        {
            "district": access.scope_of(session).district_id,
            "schools": access.schools_of(session),
            "student": student_id,
        },
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such student.")
    return Enrolled(*row)


def school_of(session: Session, student_id: uuid.UUID) -> uuid.UUID:
    """The school where a student stands. Raises NotFound for one out of scope."""
    about = {"district": access.scope_of(session).district_id, "student": student_id}
    found: uuid.UUID | None = session.execute(_SCHOOL, about).scalar()
    if found is None or not access.reaches(session, found):
        raise NotFound("There is no such student.")
    return found


_SCHOOL = text("select school_id from students where district_id = :district and id = :student")


def named(session: Session, student_ids: Collection[uuid.UUID], *, by: access.Actor) -> Mapping[uuid.UUID, str]:
    """The names of these students, as far as the scope reaches; that they were opened is kept account of."""
    found = identity.find(session, student_ids)
    audit.record_many(session, by, "student.named", "student", [each.student_id for each in found])
    statements.send_what_waits(session)  # the lines are written while the names are opened
    return identity.open_names(session, found)
