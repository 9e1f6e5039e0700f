"""The made-up district as it stands in a database, and who is who in it."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.demo.town import SCHOOLS
from screening import access, coverage, db, identity, staff, students
from screening.db import Database
from screening.errors import NotFound
from screening.models import District, School
from screening.models import Round as StoredRound

HISTORY, AUTUMN, PARENTS = "半年前的测评（历史数据）", "秋季心理健康测评（7–12年级）", "秋季家长评定（4–6年级）"
_MANY = 100_000
SCHOOL_STAFF = ("school_admin", "principal", "lead", "class_teacher", "counselor", "counselor")
DISTRICT_STAFF = ("district_admin", "district_analyst", "duty_officer")


@dataclass(frozen=True)
class Person:
    """Somebody on the staff: who they are, and the address of their account."""

    role: str
    school: str | None
    email: str
    actor: access.Actor


@dataclass(frozen=True)
class Stage:
    """The district as it stands in a database: its people, its schools and its rounds by name."""

    database: Database
    district_id: uuid.UUID
    schools: Mapping[str, uuid.UUID]
    people: Sequence[Person]
    rounds: Mapping[str, uuid.UUID]
    started_at: dt.datetime

    @property
    def bare(self) -> "Stage":
        """Without its database: what can be handed to another process."""
        return replace(self, database=cast(Database, None))

    @property
    def scope(self) -> access.Scope:
        return access.Scope(self.district_id)

    @property
    def today(self) -> dt.date:
        return self.started_at.astimezone(self.database.timezone).date()

    def scope_of(self, school: str) -> access.Scope:
        return access.Scope(self.district_id, frozenset({self.schools[school]}))

    def who(self, role: str, school: str | None = None, place: int = 0) -> access.Actor:
        """One of those who hold this role at this school, or in the district."""
        return [one.actor for one in self.people if (one.role, one.school) == (role, school)][place]


Address = tuple[str, str | None, str]
"""Role, school and address of one of the staff."""


def is_begun(database: Database, code: str) -> bool:
    """Whether there is a district of that code, whole or not."""
    with database.unit() as session:
        return session.scalar(select(District.id).where(District.code == code)) is not None


def find(database: Database, code: str) -> Stage | None:
    """The district of that code as it stands; None when it is not there, or its building never came to an end."""
    with database.unit() as session:
        district_id = session.scalar(select(District.id).where(District.code == code))
    if district_id is None:
        return None
    with database.unit(access.Scope(district_id)) as session:
        stored = session.execute(
            select(StoredRound.name, StoredRound.id, StoredRound.opens_at).where(StoredRound.district_id == district_id)
        ).all()
        schools = session.execute(select(School.code, School.id).where(School.district_id == district_id)).all()
        opened = {row.name: row.opens_at for row in stored}
        rounds_by_name = {row.name: row.id for row in stored}
        try:
            coverage.released(session, rounds_by_name[AUTUMN])
        except (KeyError, NotFound):  # the release is the last thing that the demo does
            return None
    schools_by_code = {row.code: row.id for row in schools}
    return Stage(database, district_id, schools_by_code, _people(database, code), rounds_by_name, opened[AUTUMN])


def db_now(database: Database) -> dt.datetime:
    """The database's clock."""
    with database.unit() as session:
        return db.now(session)


def _people(database: Database, code: str) -> list[Person]:
    found = ((role, school, email, staff.actor_by_email(database, email)) for role, school, email in addresses(code))
    return [Person(role, school, email, actor) for role, school, email, actor in found if actor is not None]


def addresses(code: str) -> list[Address]:
    """Everybody on the staff, the district's own first: an address tells who it is."""
    posts: list[tuple[str, str | None]] = [(role, None) for role in DISTRICT_STAFF]
    posts += [(role, school.code) for school in SCHOOLS for role in SCHOOL_STAFF]
    return [
        (
            role,
            school,
            f"{role}{posts[:place].count((role, school)) + 1}.{(school or 'district').lower()}@{code}.example",
        )
        for place, (role, school) in enumerate(posts)
    ]


def ids_by_number(session: Session, school_id: uuid.UUID) -> dict[str, uuid.UUID]:
    """The students of a school by the number that it gave them, as its own office knows them."""
    here = students.listed(session, school_id=school_id, limit=_MANY)
    return {person.number: key for key, person in identity.people(session, [one.id for one in here]).items()}
