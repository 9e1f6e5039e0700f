"""Makes what a test needs and does not care about: keyword arguments say what it does care about."""

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from screening import access, consent, db, identity, policy, rounds, sealing, staff
from screening.db import Database
from screening.identity import Person
from screening.models import District, Enrollment, Round, School, Staff, Student

NOTICE = "2026-01"
TODAY = dt.date(2026, 9, 1)
PHQ9_AND_GAD7 = (("phq9", ("self",)), ("gad7", ("self",)))


def unique(stem: str) -> str:
    """A text that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:10]}"


def make_district(database: Database) -> District:
    return staff.create_district(database, unique("district"), "Made-up district")


def make_school(session: Session, *, code: str | None = None, name: str = "Made-up school") -> School:
    return staff.create_school(session, code or unique("school"), name, by=system(session))


def make_staff(
    session: Session, *roles: tuple[str, uuid.UUID | None], email: str | None = None, name: str = "A member of staff"
) -> tuple[Staff, access.Actor]:
    """One of the staff with these (role, school) and who they are as an actor."""
    hired = staff.hire(session, email or f"{unique('staff')}@example.test", name, by=system(session))
    for role, school_id in roles:
        staff.grant(session, hired, role, school_id, by=system(session))
    held = tuple(access.RoleAt(role, school_id) for role, school_id in roles)
    return hired, access.Actor(hired.account_id, hired.district_id, hired.id, held)


def make_student(
    session: Session,
    school_id: uuid.UUID,
    *,
    name: str | None = None,
    number: str | None = None,
    age: int | None = 14,
    sex: str = "f",
    grade: int = 8,
    class_name: str = "1",
    phone: str | None = None,
    consents: Iterable[tuple[str, str]] = (("guardian", "granted"),),
    on: dt.date = TODAY,
) -> Student:
    """A student in the vault and enrolled, `age` completed years old on `on`, with these (giver, decision)."""
    district_id = access.scope_of(session).district_id
    born_on = None if age is None else dt.date(on.year - age, 3, 15)
    student = Student(
        district_id=district_id,
        id=uuid.uuid4(),
        school_id=school_id,
        sex=sex,
        born_month=born_on.replace(day=1) if born_on else None,
    )
    session.add(student)
    session.flush()
    number = number or unique("no")
    identity.enter(session, student.id, school_id, Person(name or unique("student"), number, born_on, phone))
    session.add(
        Enrollment(
            district_id=district_id,
            id=uuid.uuid4(),
            student_id=student.id,
            school_id=school_id,
            grade=grade,
            class_name=class_name,
            number_hash=identity.number_hash(sealing.keys(session), number),
            since_on=on,
        )
    )
    session.flush()
    for position, (giver, decision) in enumerate(consents):
        decide(session, student.id, decision, given_by=giver, at=_morning(on) + dt.timedelta(hours=position))
    return student


def decide(
    session: Session,
    student_id: uuid.UUID,
    decision: str,
    *,
    given_by: str = "guardian",
    at: dt.datetime | None = None,
) -> None:
    consent.record(
        session,
        [student_id],
        decision,
        given_by=given_by,
        notice_version=NOTICE,
        channel="paper",
        decided_at=at or _morning(TODAY),
        by=system(session),
    )


def make_round(
    session: Session,
    *,
    name: str = "Autumn round",
    instruments: Sequence[tuple[str, Sequence[str]]] = PHQ9_AND_GAD7,
    rules: policy.Policy | None = None,
    grades: Iterable[int] = (7, 8, 9, 10, 11, 12),
    opens_at: dt.datetime | None = None,
    closes_at: dt.datetime | None = None,
    school_ids: Collection[uuid.UUID] | None = None,
    is_historical: bool = False,
    is_at_home: bool = False,
    is_open: bool = True,
    unreleased: Mapping[str, str] | None = None,
    by: access.Actor | None = None,
) -> Round:
    """A round from yesterday until in two weeks by the database's clock, open unless `is_open` is False."""
    now = db.now(session)
    made = rounds.create(
        session,
        name,
        rules or policy.shipped(),
        instruments,
        grades,
        opens_at=opens_at or now - dt.timedelta(days=1),
        closes_at=closes_at or now + dt.timedelta(days=14),
        school_ids=school_ids,
        is_historical=is_historical,
        is_at_home=is_at_home,
        unreleased=unreleased,
        by=by or system(session),
    )
    if is_open and not is_historical:
        rounds.open(session, made.id, by=by or system(session))
    return made


def system(session: Session) -> access.Actor:
    return access.system(access.scope_of(session).district_id)


def _morning(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, 1, tzinfo=dt.UTC)
