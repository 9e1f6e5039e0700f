"""Brings the made-up district into being, through the product's own verbs only, up to the alerts of its round."""

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from sqlalchemy.orm import Session

from alerts import following, raising
from api.demo import answering, sheets
from api.demo.answering import LEFT, File
from api.demo.hands import Hands
from api.demo.stage import (
    AUTUMN,
    DISTRICT_STAFF,
    HISTORY,
    PARENTS,
    Address,
    Person,
    Stage,
    addresses,
    db_now,
    ids_by_number,
)
from api.demo.town import (
    EXCUSING_SCHOOLS,
    GAD7,
    HISTORY_SCHOOLS,
    LATE_SCHOOL,
    MOVES,
    PHQ9,
    PSC17,
    REASONS_OF_EXEMPTION,
    SCHOOLS,
    Pupil,
    Town,
)
from screening import access, db, policy, roster, rounds, staff
from screening.db import Database
from screening.loading import Weigh

DISTRICT_NAME = "示范区教育局"
HALF_A_YEAR = dt.timedelta(days=200)
NOTICE = "2026-09"
LOADERS = 2
_OWN = ((PHQ9, ("self",)), (GAD7, ("self",)))
_CHANGING = frozenset((*(target for _, target in MOVES), LATE_SCHOOL, *EXCUSING_SCHOOLS))
"""Schools to which students come, or where some are excused, after the round has opened."""
Told = Callable[[str], None]


def build(
    database: Database,
    code: str,
    town: Town,
    *,
    beside: Hands,
    weigh: Weigh = raising.weigh_load,
    told: Told = lambda _: None,
    meanwhile: Callable[[], object] = lambda: None,
    are_there: Callable[[Stage], object] = lambda _: None,
    is_in: Callable[[Stage, str], object] = lambda *_: None,
) -> Stage:
    """Makes the district `code` and takes it as far as its round's alerts; `told` hears of each step.

    `meanwhile` is done here while the students are enrolled beside. `are_there` hears when all people are, and `is_in`
    of each school when all its answers are in.
    """
    district = staff.create_district(database, code, DISTRICT_NAME)
    with database.unit(access.Scope(district.id)) as session:
        schools = _open_schools(session)
    staff_of = addresses(code)
    first, others = staff_of[: len(DISTRICT_STAFF)], staff_of[len(DISTRICT_STAFF) :]
    people = _hire(database, district.id, first, schools)
    hiring = beside.begin(_hire, database, district.id, others, schools)  # the district's own need not wait
    stage = Stage(database, district.id, schools, people, {}, db_now(database))
    told("schools")
    with ThreadPoolExecutor(LOADERS) as workers:
        of_earlier, of_others = [_enroll_beside(stage, pupils, beside) for pupils in _lists(town)]
        looking_back = workers.submit(_look_back, stage, town, of_earlier, weigh)
        meanwhile()
        stage = replace(stage, people=[*people, *hiring.result()])
        files = answering.files(town)
        of_others.result()
        told("staff and students")
        are_there(stage)
        stage = _with_open_rounds(stage)
        stage = replace(stage, rounds={**stage.rounds, **looking_back.result()})
        told("an earlier round, and a new one")
        _take_answers(stage, town, files, lambda one: workers.submit(answering.send, stage, one, weigh), told, is_in)
    return stage


def _take_answers(
    stage: Stage,
    town: Town,
    files: Sequence[File],
    send: Callable[[File], "Future[None]"],
    told: Told,
    is_in: Callable[[Stage, str], object],
) -> None:
    """The schools that somebody is about to leave send before that, and those that change wait until they have."""
    sent = {one: send(one) for one in files if one.school not in _CHANGING}
    wait([sending for one, sending in sent.items() if one.school in LEFT])
    _move_and_join(stage, town)
    _exempt(stage, town)
    told("late joiners and movers")
    sent |= {one: send(one) for one in files if one.school in _CHANGING}
    answering.answer_online(stage, town)
    told("answers given online")
    for school in dict.fromkeys(one.school for one in sent):
        for one in (one for one in sent if one.school == school):
            sent[one].result()
        is_in(stage, school)
    told("files of answers, and one of them again")


def _open_schools(session: Session) -> dict[str, uuid.UUID]:
    by = access.system(access.scope_of(session).district_id)
    return {school.code: staff.create_school(session, school.code, school.name, by=by).id for school in SCHOOLS}


def _hire(
    database: Database, district_id: uuid.UUID, wanted: Sequence[Address], schools: Mapping[str, uuid.UUID]
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


def _lists(town: Town) -> tuple[list[Pupil], list[Pupil]]:
    """Who is there from the start: the schools that have an earlier round, whose answers then need not wait, and the
    others."""
    here = [pupil for pupil in town.pupils if not pupil.is_late]
    return (
        [pupil for pupil in here if pupil.school in HISTORY_SCHOOLS],
        [pupil for pupil in here if pupil.school not in HISTORY_SCHOOLS],
    )


def _enroll_beside(stage: Stage, pupils: Sequence[Pupil], beside: Hands) -> "Future[None]":
    listed = _proposed(stage, sheets.roster(pupils))
    return beside.begin(_commit, stage.database, stage.bare, listed, stage.today - dt.timedelta(days=20))


def _proposed(stage: Stage, content: bytes) -> uuid.UUID:
    """A list of students, received from the district and proposed."""
    with stage.database.unit(stage.scope) as session:
        received = roster.receive(session, [content], "学生名册.csv", by=stage.who("district_admin")).id
    roster.propose(stage.database, stage.district_id, received)
    return received


def _commit(database: Database, bare: Stage, listed: uuid.UUID, on: dt.date) -> None:
    by = bare.who("district_admin")
    with database.unit(bare.scope) as session:
        roster.commit(session, listed, by=by, on=on, follow=following.follow, notice_version=NOTICE)


# -- rounds -------------------------------------------------------------------------------------------


def _look_back(stage: Stage, town: Town, enrolled: "Future[None]", weigh: Weigh) -> Mapping[str, uuid.UUID]:
    """The earlier round, with its answers, of schools that are enrolled."""
    file = answering.earlier(town)
    enrolled.result()
    by = stage.who("district_admin")
    schools = [stage.schools[code] for code in HISTORY_SCHOOLS]
    with stage.database.unit(stage.scope) as session:
        then = db.now(session) - HALF_A_YEAR
        made = rounds.create(
            session, HISTORY, policy.shipped(), _OWN, range(7, 13), opens_at=then,
            closes_at=then + dt.timedelta(days=10), school_ids=schools, is_historical=True, by=by,
        )  # fmt: skip
    known = {HISTORY: made.id}
    answering.send(replace(stage, rounds=known), file, weigh)
    return known


def _with_open_rounds(stage: Stage) -> Stage:
    by = stage.who("district_admin")
    rules = policy.shipped()
    with stage.database.unit(stage.scope) as session:
        now = db.now(session)
        ends = now + dt.timedelta(days=10)
        older = [stage.schools[school.code] for school in SCHOOLS if school.grades[-1] >= 7]
        younger = [stage.schools[school.code] for school in SCHOOLS if school.grades[0] < 7]
        made = {
            AUTUMN: rounds.create(
                session, AUTUMN, rules, _OWN, range(7, 13), opens_at=now, closes_at=ends, school_ids=older, by=by
            ),
            PARENTS: rounds.create(
                session, PARENTS, rules, [(PSC17, ["parent", "teacher"])], range(4, 7), opens_at=now, closes_at=ends,
                school_ids=younger, by=by,
            ),
        }  # fmt: skip
    with stage.database.unit(stage.scope) as session:
        for one in made.values():
            rounds.open(session, one.id, by=by)
    ids = {name: one.id for name, one in made.items()}
    return replace(stage, rounds=ids, started_at=now)


def _move_and_join(stage: Stage, town: Town) -> None:
    """A second list after the round has opened: who came late, and who is at another school now."""
    pupils = [pupil for pupil in town.pupils if pupil.is_late or pupil.moved_to]
    listed = _proposed(stage, sheets.roster(pupils, is_now=True))
    _commit(stage.database, stage.bare, listed, stage.today)
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
