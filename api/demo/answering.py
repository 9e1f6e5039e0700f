"""How the answers of the made-up district come in: as files of schools, and page by page."""

import uuid
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from alerts import raising
from api.demo import sheets
from api.demo.stage import AUTUMN, HISTORY, PARENTS, Stage
from api.demo.town import GAD7, MOVES, PHQ9, SCHOOLS, Sheet, Town
from screening import access, assignments, coverage, db, identity, intake
from screening.loading import Weigh

LEFT = frozenset(source for source, _ in MOVES)
"""Schools that somebody leaves after the round has opened."""


@dataclass(frozen=True, eq=False)
class File:
    """What one school sends for one round, or the district, which is no school."""

    round_name: str
    school: str
    name: str
    content: bytes
    times: int = 1


def files(town: Town) -> list[File]:
    """The files of all schools, those of the schools that somebody is about to leave first, long ones before short;
    the shortest is sent again."""
    found = [
        (here, File(name, school.code, sheets.file_name(school.code, what), sheets.answers(school.code, here)))
        for school in SCHOOLS
        for name, rows, what in ((AUTUMN, town.files, "学生自评"), (PARENTS, town.parents, "家长评定"))
        if (here := [row for row in rows if row.school == school.code])
    ]
    *others, (_, last) = sorted(found, key=lambda found: (found[1].school not in LEFT, -len(found[0])))
    return [*(one for _, one in others), replace(last, times=2)]


def earlier(town: Town) -> File:
    return File(HISTORY, "", sheets.file_name("", "历史测评"), sheets.answers("", town.history))


def send(stage: Stage, file: File, weigh: Weigh) -> None:
    """Received from the school's office (or the district's), then loaded as the worker does."""
    school = file.school
    by = stage.who("school_admin", school) if school else stage.who("district_admin")
    for _ in range(file.times):
        with stage.database.unit(stage.scope_of(school) if school else stage.scope) as session:
            upload = intake.receive(
                session,
                stage.rounds[file.round_name],
                [file.content],
                file_name=file.name,
                school_id=stage.schools[school] if school else None,
                by=by,
            ).id
        intake.load(stage.database, stage.district_id, upload, weigh=weigh)


def answer_online(stage: Stage, town: Town) -> None:
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
