"""Makes what a test needs and does not care about: keyword arguments say what it does care about."""

import datetime as dt
import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from screening import access, consent, db, identity, policy, rounds, sealing, staff
from screening.db import Database
from screening.identity import Person
from screening.inserting import insert_many
from screening.models import District, Round, School, Staff, Student

NOTICE = "2026-01"
TODAY = dt.date(2026, 9, 1)
ENROLLED = {
    "id": "uuid",
    "student_id": "uuid",
    "school_id": "uuid",
    "grade": "smallint",
    "class_name": "text",
    "number_hash": "bytea",
    "since_on": "date",
}
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


def make_team(session: Session, roles: Mapping[str, Sequence[tuple[str, uuid.UUID | None]]]) -> dict[str, access.Actor]:
    """Staff by name with these (role, school), in three statements for all of them and without a trace."""
    keys, district_id = sealing.keys(session), access.scope_of(session).district_id
    accounts: list[dict[str, object]] = []
    people: list[dict[str, object]] = []
    given: list[dict[str, object]] = []
    actors = {}
    for name, held in roles.items():
        email, staff_id = f"{unique('staff')}@example.test", uuid.uuid4()
        account_id, email_hash = uuid.uuid4(), sealing.account_lookup(session.info["master_key"], email)
        plain = json.dumps({"name": name.replace("_", " ").capitalize(), "email": email})
        sealed = keys.seal_text(plain, f"staff/{staff_id}")
        accounts.append({"id": account_id, "email_hash": email_hash})
        people.append({"id": staff_id, "account_id": account_id, "sealed": sealed})
        given += [
            {"id": uuid.uuid4(), "staff_id": staff_id, "role": role, "school_id": school_id} for role, school_id in held
        ]
        at = tuple(access.RoleAt(role, school_id) for role, school_id in held)
        actors[name] = access.Actor(account_id, district_id, staff_id, at)
    insert_many(session, "accounts", {"id": "uuid", "email_hash": "bytea"}, accounts)
    insert_many(session, "staff", {"id": "uuid", "account_id": "uuid", "sealed": "bytea"}, people)
    insert_many(session, "staff_roles", {"id": "uuid", "staff_id": "uuid", "role": "text", "school_id": "uuid"}, given)
    return actors


@dataclass(frozen=True, kw_only=True)
class Pupil:
    """A student to be made, `age` completed years old, with these (giver, decision)."""

    school_id: uuid.UUID
    name: str | None = None
    number: str | None = None
    age: int | None = 14
    sex: str = "f"
    grade: int = 8
    class_name: str = "1"
    phone: str | None = None
    consents: Sequence[tuple[str, str]] = (("guardian", "granted"),)


def make_student(session: Session, school_id: uuid.UUID, *, on: dt.date = TODAY, **wanted: Any) -> Student:
    """A student in the vault and enrolled, by the fields of `Pupil`."""
    return make_students(session, [Pupil(school_id=school_id, **wanted)], on=on)[0]


def make_students(session: Session, pupils: Sequence[Pupil], *, on: dt.date = TODAY) -> list[Student]:
    """Students in the vault and enrolled, as old as they say on `on`, in a few statements for all of them."""
    district_id = access.scope_of(session).district_id
    keys = sealing.keys(session)
    made, persons = [], []
    for pupil in pupils:
        born_on = None if pupil.age is None else dt.date(on.year - pupil.age, 3, 15)
        person = Person(pupil.name or unique("student"), pupil.number or unique("no"), born_on, pupil.phone)
        month = born_on.replace(day=1) if born_on else None
        made.append(
            Student(
                district_id=district_id, id=uuid.uuid4(), school_id=pupil.school_id, sex=pupil.sex, born_month=month
            )
        )
        persons.append(person)
    session.add_all(made)
    session.flush()
    identity.enter_many(session, [(each.id, each.school_id, who) for each, who in zip(made, persons, strict=True)])
    enrolled = [
        {
            "id": uuid.uuid4(),
            "student_id": each.id,
            "school_id": each.school_id,
            "grade": pupil.grade,
            "class_name": pupil.class_name,
            "number_hash": identity.number_hash(keys, who.number),
            "since_on": on,
        }
        for each, pupil, who in zip(made, pupils, persons, strict=True)
    ]
    insert_many(session, "enrollments", ENROLLED, enrolled)
    for position in range(max(len(pupil.consents) for pupil in pupils)):
        decided = [
            consent.Decision(each.id, decision, giver)
            for each, pupil in zip(made, pupils, strict=True)
            for giver, decision in pupil.consents[position : position + 1]
        ]
        at = _morning(on) + dt.timedelta(hours=position)
        consent.record_many(session, decided, notice_version=NOTICE, channel="paper", decided_at=at, by=system(session))
    return made


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
