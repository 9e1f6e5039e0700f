"""Brings the made-up district into being, through the product's own verbs only, up to the alerts of its round."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import following, raising
from api.demo import sheets
from api.demo.hands import Hands
from api.demo.town import (
    EXCUSING_SCHOOLS,
    GAD7,
    HISTORY_SCHOOLS,
    MOVES,
    PHQ9,
    PSC17,
    REASONS_OF_EXEMPTION,
    SCHOOLS,
    Pupil,
    Sheet,
    Town,
)
from screening import access, assignments, coverage, db, identity, intake, policy, roster, rounds, staff, students
from screening.db import Database
from screening.errors import NotFound
from screening.loading import Weigh
from screening.models import District, School
from screening.models import Round as StoredRound

DISTRICT_NAME = "示范区教育局"
HISTORY, AUTUMN, PARENTS = "半年前的测评（历史数据）", "秋季心理健康测评（7–12年级）", "秋季家长评定（4–6年级）"
HALF_A_YEAR = dt.timedelta(days=200)
NOTICE = "2026-09"
LOADERS = 2
_MANY = 100_000
_SCHOOL_STAFF = ("school_admin", "principal", "lead", "class_teacher", "counselor", "counselor")
_DISTRICT_STAFF = ("district_admin", "district_analyst", "duty_officer")


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


Told = Callable[[str], None]
_Address = tuple[str, str | None, str]
"""Role, school and address of one of the staff."""


def build(
    database: Database, code: str, town: Town, *, beside: Hands, weigh: Weigh = raising.weigh_load, told: Told
) -> Stage:
    """Makes the district `code` and takes it as far as its round's alerts; `told` hears of each step."""
    district = staff.create_district(database, code, DISTRICT_NAME)
    with database.unit(access.Scope(district.id)) as session:
        schools = _open_schools(session)
    staff_of = _addresses(code)
    first, others = staff_of[: len(_DISTRICT_STAFF)], staff_of[len(_DISTRICT_STAFF) :]
    people = _hire(database, district.id, first, schools)
    hiring = beside.begin(_hire, database, district.id, others, schools)  # the district's own need not wait
    stage = Stage(database, district.id, schools, people, {}, db_now(database))
    told("schools")
    _enroll(stage, [pupil for pupil in town.pupils if not pupil.is_late], stage.today - dt.timedelta(days=20))
    stage = replace(stage, people=[*people, *hiring.result()])
    told("staff and students")
    stage = _with_rounds(stage)
    _open(stage)
    with ThreadPoolExecutor(LOADERS) as workers:
        sent = {one: workers.submit(_send, stage, one, weigh) for one in _files(town, are_left=True)}
        earlier = workers.submit(_look_back, stage, town, weigh)
        wait(sent.values())
        _move_and_join(stage, town)
        _exempt(stage, town)
        earlier.result()
        told("an earlier round, and a new one with late joiners and movers")
        sent |= {one: workers.submit(_send, stage, one, weigh) for one in _files(town, are_left=False)}
        for running in sent.values():
            running.result()
    _send(stage, min(sent, key=lambda one: len(one.rows)), weigh)
    told("files of answers, and one of them again")
    _answer_online(stage, town)
    told("answers given online")
    return stage


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


# -- schools, staff, students -------------------------------------------------------------------------


def _open_schools(session: Session) -> dict[str, uuid.UUID]:
    by = access.system(access.scope_of(session).district_id)
    return {school.code: staff.create_school(session, school.code, school.name, by=by).id for school in SCHOOLS}


def _hire(
    database: Database, district_id: uuid.UUID, wanted: Sequence[_Address], schools: Mapping[str, uuid.UUID]
) -> list[Person]:
    by, people = access.system(district_id), []
    with database.unit(access.Scope(district_id)) as session:
        for place, (role, school, email) in enumerate(wanted):
            at = None if school is None else schools[school]
            hired = staff.hire(session, email, f"{'赵钱孙李周吴郑王冯陈'[place % 10]}老师", by=by)
            staff.grant(session, hired, role, at, by=by)
            actor = access.Actor(hired.account_id, district_id, hired.id, (access.RoleAt(role, at),))
            people.append(Person(role, school, email, actor))
    return people


def _people(database: Database, code: str) -> list[Person]:
    found = ((role, school, email, staff.actor_by_email(database, email)) for role, school, email in _addresses(code))
    return [Person(role, school, email, actor) for role, school, email, actor in found if actor is not None]


def _addresses(code: str) -> list[_Address]:
    """Everybody on the staff, the district's own first: an address tells who it is."""
    posts: list[tuple[str, str | None]] = [(role, None) for role in _DISTRICT_STAFF]
    posts += [(role, school.code) for school in SCHOOLS for role in _SCHOOL_STAFF]
    return [
        (
            role,
            school,
            f"{role}{posts[:place].count((role, school)) + 1}.{(school or 'district').lower()}@{code}.example",
        )
        for place, (role, school) in enumerate(posts)
    ]


def _enroll(stage: Stage, pupils: Iterable[Pupil], on: dt.date, *, is_now: bool = False) -> None:
    """A list of students, received, proposed and committed by the district."""
    content = sheets.roster(pupils, is_now=is_now)
    by = stage.who("district_admin")
    with stage.database.unit(stage.scope) as session:
        received = roster.receive(session, [content], "学生名册.csv", by=by).id
    roster.propose(stage.database, stage.district_id, received)
    with stage.database.unit(stage.scope) as session:
        roster.commit(session, received, by=by, on=on, follow=following.follow, notice_version=NOTICE)


# -- rounds -------------------------------------------------------------------------------------------


def _with_rounds(stage: Stage) -> Stage:
    by = stage.who("district_admin")
    rules = policy.shipped()
    own = [(PHQ9, ["self"]), (GAD7, ["self"])]
    with stage.database.unit(stage.scope) as session:
        now = db.now(session)
        then = now - HALF_A_YEAR
        ends = now + dt.timedelta(days=10)
        both = [stage.schools[code] for code in HISTORY_SCHOOLS]
        older = [stage.schools[school.code] for school in SCHOOLS if school.grades[-1] >= 7]
        younger = [stage.schools[school.code] for school in SCHOOLS if school.grades[0] < 7]
        day = dt.timedelta(days=1)
        made = {
            HISTORY: rounds.create(
                session, HISTORY, rules, own, range(7, 13), opens_at=then, closes_at=then + 10 * day,
                school_ids=both, is_historical=True, by=by,
            ),
            AUTUMN: rounds.create(
                session, AUTUMN, rules, own, range(7, 13), opens_at=now, closes_at=ends, school_ids=older, by=by
            ),
            PARENTS: rounds.create(
                session, PARENTS, rules, [(PSC17, ["parent", "teacher"])], range(4, 7), opens_at=now, closes_at=ends,
                school_ids=younger, by=by,
            ),
        }  # fmt: skip
    ids = {name: one.id for name, one in made.items()}
    return Stage(stage.database, stage.district_id, stage.schools, stage.people, ids, now)


def _open(stage: Stage) -> None:
    by = stage.who("district_admin")
    with stage.database.unit(stage.scope) as session:
        for name in (AUTUMN, PARENTS):
            rounds.open(session, stage.rounds[name], by=by)


def _move_and_join(stage: Stage, town: Town) -> None:
    """A second list after the round has opened: who came late, and who is at another school now."""
    _enroll(stage, [pupil for pupil in town.pupils if pupil.is_late or pupil.moved_to], stage.today, is_now=True)
    with stage.database.unit(stage.scope) as session:
        rounds.enroll_late(session, stage.rounds[AUTUMN])


def _exempt(stage: Stage, town: Town) -> None:
    for school in EXCUSING_SCHOOLS:
        excused = [pupil for pupil in town.of_school(school) if pupil.manner == "exempt"]
        by = stage.who("school_admin", school)
        with stage.database.unit(stage.scope_of(school)) as session:
            known = ids_by_number(session, stage.schools[school])
            for place, pupil in enumerate(excused):
                reason = REASONS_OF_EXEMPTION[place % len(REASONS_OF_EXEMPTION)]
                own = stage.rounds[PARENTS if pupil.grade < 7 else AUTUMN]
                rounds.exempt(session, own, known[pupil.number], reason, by=by)


def ids_by_number(session: Session, school_id: uuid.UUID) -> dict[str, uuid.UUID]:
    """The students of a school by the number that it gave them, as its own office knows them."""
    here = students.listed(session, school_id=school_id, limit=_MANY)
    return {person.number: key for key, person in identity.people(session, [one.id for one in here]).items()}


# -- answers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _File:
    """What one school sends for one round."""

    round_name: str
    school: str | None
    rows: Sequence[Sheet]
    what: str


def _files(town: Town, *, are_left: bool) -> list[_File]:
    """The files of the schools that somebody is about to leave, which send before that, or those of the others."""
    left = {source for source, _ in MOVES}
    found = [
        _File(name, school.code, here, what)
        for school in SCHOOLS
        if (school.code in left) == are_left
        for name, rows, what in ((AUTUMN, town.files, "学生自评"), (PARENTS, town.parents, "家长评定"))
        if (here := [row for row in rows if row.school == school.code])
    ]
    return sorted(found, key=lambda one: -len(one.rows))


def _look_back(stage: Stage, town: Town, weigh: Weigh) -> None:
    _send(stage, _File(HISTORY, None, town.history, "历史测评"), weigh)


def _send(stage: Stage, file: _File, weigh: Weigh) -> None:
    """Received from the school's office (or the district's), then loaded as the worker does."""
    school = file.school
    by = stage.who("district_admin") if school is None else stage.who("school_admin", school)
    with stage.database.unit(stage.scope if school is None else stage.scope_of(school)) as session:
        upload = intake.receive(
            session,
            stage.rounds[file.round_name],
            [sheets.answers(school or "", file.rows)],
            file_name=sheets.file_name(school or "", file.what),
            school_id=None if school is None else stage.schools[school],
            by=by,
        ).id
    intake.load(stage.database, stage.district_id, upload, weigh=weigh)


def _answer_online(stage: Stage, town: Town) -> None:
    """Page by page: the first page is saved, the second handed in with it; one who is in danger stops in between."""
    for school in SCHOOLS:
        here = [row for row in (*town.online, *town.unfinished) if row.school == school.code]
        if here:
            by = stage.who("counselor", school.code)
            scope = stage.scope_of(school.code)
            with stage.database.unit(scope) as session:
                places = _places(session, stage.rounds[AUTUMN], stage.schools[school.code])
            for row in here:
                _save(stage, scope, places[row.number], row, by)
                if row not in town.unfinished:
                    _hand_in(stage, scope, places[row.number], row, by)


def _places(session: Session, round_id: uuid.UUID, school_id: uuid.UUID) -> dict[str, uuid.UUID]:
    waiting = coverage.outstanding(session, round_id, school_id)
    people = identity.people(session, [place.student_id for place in waiting])
    return {people[place.student_id].number: place.assignment_ids[0] for place in waiting}


def _save(stage: Stage, scope: access.Scope, place: uuid.UUID, row: Sheet, by: access.Actor) -> None:
    with stage.database.unit(scope) as session:
        now = db.now(session)
        saved = assignments.save(session, place, _page(row, PHQ9), by=by, now=now)
        raising.raise_alerts(session, saved.signals, now=now, policy=saved.rules.policy)


def _hand_in(stage: Stage, scope: access.Scope, place: uuid.UUID, row: Sheet, by: access.Actor) -> None:
    with stage.database.unit(scope) as session:
        now = db.now(session)
        done = assignments.submit(session, place, answers=_page(row, GAD7), by=by, now=now)
        if done.revisions is not None:
            raising.weigh(session, done.revisions, now=now, policy=done.rules.policy)


def _page(row: Sheet, code: str) -> dict[str, int | None]:
    return {f"{code}_{n}": cell for n, cell in enumerate(row.answers[code], start=1) if not isinstance(cell, str)}
