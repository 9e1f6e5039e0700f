"""Students who go to another school, as a list of students says it."""

import datetime as dt
import uuid
from collections.abc import Mapping

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import following
from screening import access, identity, roster
from screening.models import School, Student
from tests.alerts.episodes import MONDAY
from tests.cast import Cast

_SCHEMA = {
    "sheet": pl.String,
    "row": pl.Int32,
    "school_code": pl.String,
    "student_number": pl.String,
    "student_name": pl.String,
    "sex": pl.String,
    "grade": pl.Int8,
    "class_name": pl.String,
    "born_on": pl.Date,
    "guardian_phone": pl.String,
    "special_groups": pl.String,
    "guardian_consent": pl.String,
    "student_consent": pl.String,
    "is_proposable": pl.Boolean,
}
_PROBLEMS = {"sheet": pl.String, "row": pl.Int32, "column": pl.String, "code": pl.String, "message": pl.String}


def listed_at(cast: Cast, student: Student, school: School) -> None:
    """A list of the district's that has this student at that school, received, proposed and committed."""
    with cast.database.unit(cast.scope) as session:
        person = identity.people(session, [student.id])[student.id]
        received = roster.receive(session, [uuid.uuid4().bytes], "list.csv", by=cast.district_admin).id
    row: Mapping[str, object] = dict.fromkeys(_SCHEMA) | {
        "row": 2,
        "school_code": school.code,
        "student_number": person.number,
        "student_name": person.name,
        "grade": 8,
        "is_proposable": True,
    }
    with cast.database.unit(cast.scope) as session:
        roster.lay_out(session, received, pl.DataFrame([row], schema=_SCHEMA), pl.DataFrame(schema=_PROBLEMS))
    with cast.database.unit(cast.scope) as session:
        roster.commit(session, received, by=cast.district_admin, on=MONDAY.date(), follow=following.follow)


def move(session: Session, student: Student, school: School, *, by: access.Actor, at: dt.datetime = MONDAY) -> int:
    """The same at a time of one's own, without a list; returns how much went along."""
    session.execute(
        text("update students set school_id = :school where district_id = :district and id = :student"),
        {"school": school.id, "district": school.district_id, "student": student.id},
    )
    session.execute(
        text("update identities set school_id = :school where district_id = :district and student_id = :student"),
        {"school": school.id, "district": school.district_id, "student": student.id},
    )
    return following.follow(session, [student.id], by, at)
