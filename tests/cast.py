"""The people we know: a small district with three schools, who works there, and a dozen students.

School A is the lively one; school B is somebody else's; school C has nobody but its students. Consent is told by
age on the first of September 2026; the default policy lets a student decide from 14 on.
"""

import datetime as dt
import uuid
from dataclasses import dataclass, fields

from screening import access
from screening.access import Actor, Scope
from screening.db import Database
from screening.models import District, School, Student
from tests.factories import Pupil, make_district, make_school, make_students, make_team

ON = dt.date(2026, 9, 1)


@dataclass(frozen=True)
class Students:
    """Who is who by consent; all in school A unless the name says otherwise."""

    granted_13: Student
    """Guardian granted: in force."""
    own_grant_13: Student
    """Only the child granted: not in force under 14."""
    declined_12: Student
    """Guardian declined: not in force."""
    withdrawn_12: Student
    """Guardian granted, then withdrew: not in force."""
    undecided_11: Student
    """Nobody has said anything: not in force."""
    own_grant_15: Student
    """The student granted: in force from 14 on."""
    guardian_grant_16: Student
    """The guardian granted, the student said nothing: in force."""
    own_decline_16: Student
    """The guardian granted, the student declined: not in force."""
    unknown_age: Student
    """Guardian granted, birth date unknown: in force; the student's own grant would not be."""
    granted_17: Student
    """Both granted; grade 11: in force."""
    in_school_b: Student
    """Guardian granted: in force."""
    in_school_c: Student
    """Guardian granted: in force."""

    def all(self) -> tuple[Student, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def with_consent(self) -> frozenset[uuid.UUID]:
        """Whose answers may be used under the default policy."""
        return frozenset(
            student.id
            for student in (
                self.granted_13,
                self.own_grant_15,
                self.guardian_grant_16,
                self.unknown_age,
                self.granted_17,
                self.in_school_b,
                self.in_school_c,
            )
        )


@dataclass(frozen=True)
class Cast:
    """A district with its people. Counselor `an` and her deputy `bo` are of school A, `chen` is of school B."""

    database: Database
    district: District
    school_a: School
    school_b: School
    school_c: School
    an: Actor
    """Counselor of school A."""
    bo: Actor
    """Counselor of school A, and the one who stands in for the other (duty officer there)."""
    chen: Actor
    """Counselor of school B."""
    lead: Actor
    """Mental-health lead of school A."""
    principal: Actor
    """Principal of school A."""
    school_admin_a: Actor
    school_admin_b: Actor
    school_admin_c: Actor
    district_admin: Actor
    district_analyst: Actor
    duty_officer: Actor
    """Duty officer of the whole district."""
    auditor: Actor
    students: Students

    @property
    def scope(self) -> Scope:
        """The whole district."""
        return Scope(self.district.id)

    @property
    def scope_a(self) -> Scope:
        return Scope(self.district.id, frozenset({self.school_a.id}))

    @property
    def scope_b(self) -> Scope:
        return Scope(self.district.id, frozenset({self.school_b.id}))

    @property
    def system(self) -> Actor:
        return access.system(self.district.id)


def assemble(database: Database) -> Cast:
    """Makes the cast in a new district of this database."""
    district = make_district(database)
    with database.unit(Scope(district.id)) as session:
        a, b, c = (make_school(session, code=code, name=f"School {code}") for code in ("A", "B", "C"))
        pupils = _pupils(a.id, b.id, c.id)
        return Cast(
            database=database,
            district=district,
            school_a=a,
            school_b=b,
            school_c=c,
            students=Students(**dict(zip(pupils, make_students(session, list(pupils.values()), on=ON), strict=True))),
            **make_team(session, _team(a.id, b.id, c.id)),
        )


def _pupils(a: uuid.UUID, b: uuid.UUID, c: uuid.UUID) -> dict[str, Pupil]:
    granted, declined, withdrawn = ("guardian", "granted"), ("guardian", "declined"), ("guardian", "withdrawn")
    own_grant, own_decline = ("student", "granted"), ("student", "declined")

    def of_a(number: str, name: str, age: int | None, grade: int, *consents: tuple[str, str], sex: str = "f") -> Pupil:
        return Pupil(school_id=a, number=number, name=name, age=age, grade=grade, consents=consents, sex=sex)

    return {
        "granted_13": of_a("A001", "王小明", 13, 8, granted, sex="m"),
        "own_grant_13": of_a("A002", "李华", 13, 8, own_grant),
        "declined_12": of_a("A003", "张伟", 12, 7, declined),
        "withdrawn_12": of_a("A004", "刘洋", 12, 7, granted, withdrawn),
        "undecided_11": of_a("A005", "陈静", 11, 7),
        "own_grant_15": of_a("A006", "杨帆", 15, 9, own_grant),
        "guardian_grant_16": of_a("A007", "赵磊", 16, 10, granted),
        "own_decline_16": of_a("A008", "黄丽", 16, 10, granted, own_decline),
        "unknown_age": of_a("A009", "周敏", None, 8, granted, sex="x"),
        "granted_17": of_a("A010", "吴强", 17, 11, granted, own_grant),
        "in_school_b": Pupil(school_id=b, name="王小明", number="B001", age=14, grade=9),
        "in_school_c": Pupil(school_id=c, name="徐婷", number="C001", age=15, grade=9),
    }


def _team(a: uuid.UUID, b: uuid.UUID, c: uuid.UUID) -> dict[str, list[tuple[str, uuid.UUID | None]]]:
    return {
        "an": [("counselor", a)],
        "bo": [("counselor", a), ("duty_officer", a)],
        "chen": [("counselor", b)],
        "lead": [("lead", a)],
        "principal": [("principal", a)],
        "school_admin_a": [("school_admin", a)],
        "school_admin_b": [("school_admin", b)],
        "school_admin_c": [("school_admin", c)],
        "district_admin": [("district_admin", None)],
        "district_analyst": [("district_analyst", None)],
        "duty_officer": [("duty_officer", None)],
        "auditor": [("auditor", None)],
    }
