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
from tests.factories import make_district, make_school, make_staff, make_student

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
    """Makes the cast in a new district of this database, through the house's own verbs."""
    district = make_district(database)
    with database.unit(Scope(district.id)) as session:
        a, b, c = (make_school(session, code=code, name=f"School {code}") for code in ("A", "B", "C"))

        def somebody(name: str, *roles: tuple[str, uuid.UUID | None]) -> Actor:
            return make_staff(session, *roles, name=name)[1]

        students = Students(
            granted_13=make_student(session, a.id, name="王小明", number="A001", age=13, grade=8, sex="m", on=ON),
            own_grant_13=make_student(
                session, a.id, name="李华", number="A002", age=13, grade=8, consents=[("student", "granted")], on=ON
            ),
            declined_12=make_student(
                session, a.id, name="张伟", number="A003", age=12, grade=7, consents=[("guardian", "declined")], on=ON
            ),
            withdrawn_12=make_student(
                session,
                a.id,
                name="刘洋",
                number="A004",
                age=12,
                grade=7,
                consents=[("guardian", "granted"), ("guardian", "withdrawn")],
                on=ON,
            ),
            undecided_11=make_student(session, a.id, name="陈静", number="A005", age=11, grade=7, consents=[], on=ON),
            own_grant_15=make_student(
                session, a.id, name="杨帆", number="A006", age=15, grade=9, consents=[("student", "granted")], on=ON
            ),
            guardian_grant_16=make_student(session, a.id, name="赵磊", number="A007", age=16, grade=10, on=ON),
            own_decline_16=make_student(
                session,
                a.id,
                name="黄丽",
                number="A008",
                age=16,
                grade=10,
                consents=[("guardian", "granted"), ("student", "declined")],
                on=ON,
            ),
            unknown_age=make_student(session, a.id, name="周敏", number="A009", age=None, grade=8, sex="x", on=ON),
            granted_17=make_student(
                session,
                a.id,
                name="吴强",
                number="A010",
                age=17,
                grade=11,
                consents=[("guardian", "granted"), ("student", "granted")],
                on=ON,
            ),
            in_school_b=make_student(session, b.id, name="王小明", number="B001", age=14, grade=9, on=ON),
            in_school_c=make_student(session, c.id, name="徐婷", number="C001", age=15, grade=9, on=ON),
        )
        return Cast(
            database=database,
            district=district,
            school_a=a,
            school_b=b,
            school_c=c,
            an=somebody("An", ("counselor", a.id)),
            bo=somebody("Bo", ("counselor", a.id), ("duty_officer", a.id)),
            chen=somebody("Chen", ("counselor", b.id)),
            lead=somebody("Lead", ("lead", a.id)),
            principal=somebody("Principal", ("principal", a.id)),
            school_admin_a=somebody("Admin A", ("school_admin", a.id)),
            school_admin_b=somebody("Admin B", ("school_admin", b.id)),
            school_admin_c=somebody("Admin C", ("school_admin", c.id)),
            district_admin=somebody("District admin", ("district_admin", None)),
            district_analyst=somebody("Analyst", ("district_analyst", None)),
            duty_officer=somebody("Duty officer", ("duty_officer", None)),
            auditor=somebody("Auditor", ("auditor", None)),
            students=students,
        )
