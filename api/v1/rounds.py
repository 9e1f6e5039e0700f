"""Rounds: planned, opened and closed; who has not answered yet; the reds of a historical one."""

import datetime as dt
import uuid
from typing import Annotated

from fastapi import Request, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.deps import (
    CARING,
    ActorDep,
    Body,
    Door,
    Id,
    Moment,
    PageDep,
    Sender,
    SessionDep,
    View,
    Word,
    etag,
    located,
    moment,
    must_match,
    school_codes,
    school_id,
)
from screening import access, completion, coverage, policy, rounds, students
from screening.db import lock
from screening.errors import InvalidUpload, NotFound, Problem
from screening.models import Opening, Round, School

door = Door(prefix="/v1/rounds", tag="rounds")

READING = CARING | {
    "principal",
    "school_admin",
    "class_teacher",
    "district_admin",
    "district_analyst",
    "duty_officer",
    "auditor",
}


class InstrumentBody(Body):
    """`forms`: self, youth, parent or teacher, as the instrument has them.

    `unreleased_reason` says why an instrument is asked although sources of it are still to be confirmed.
    """

    code: Word
    forms: Annotated[list[Word], Field(min_length=1, max_length=10)]
    unreleased_reason: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class RoundBody(Body):
    """`schools` null: every school of the district. A historical round takes answers that were given earlier.

    `is_at_home`: forms may be filled in away from school. Such a round, if it asks about self-harm, opens only where
    the rota covers all of its hours.
    """

    name: Word
    policy: Word = "cn_default"
    instruments: Annotated[list[InstrumentBody], Field(min_length=1, max_length=50)]
    grades: Annotated[list[Annotated[int, Field(ge=1, le=20)]], Field(min_length=1, max_length=20)]
    opens_at: Moment
    closes_at: Moment
    schools: Annotated[list[Word], Field(min_length=1, max_length=10_000)] | None = None
    is_historical: bool = False
    is_at_home: bool = False


class OpeningView(View):
    """One school's part of the round."""

    school: str
    state: str
    opens_at: dt.datetime
    closes_at: dt.datetime


class RoundView(View):
    id: uuid.UUID
    name: str
    state: str
    grades: list[int]
    opens_at: dt.datetime
    closes_at: dt.datetime
    is_historical: bool
    is_at_home: bool
    instruments: dict[str, list[str]]
    unreleased: dict[str, str]
    """Why an instrument is asked whose sources are not all confirmed, by code."""
    policy: str
    rules: str
    openings: list[OpeningView]


class RoundLine(View):
    """A round in a list."""

    id: uuid.UUID
    name: str
    state: str
    opens_at: dt.datetime
    closes_at: dt.datetime
    is_historical: bool


class RoundsView(View):
    rounds: list[RoundLine]


class ClassView(View):
    school: str
    grade: int
    class_name: str
    informant: str
    places: int
    exempt: int
    completed: int


class WaitingView(View):
    student_id: uuid.UUID
    name: str | None
    school: str
    assignment_ids: list[uuid.UUID]
    grade: int
    class_name: str


class CompletionView(View):
    """`waiting` is left to those who may remind by name; a class teacher sees the counts."""

    classes: list[ClassView]
    waiting: list[WaitingView]


class RedView(View):
    student_id: uuid.UUID
    name: str | None
    school: str
    reasons: list[str]
    recorded_at: dt.datetime


class RedsView(View):
    reds: list[RedView]


@door.post("", roles={"district_admin"}, status=201)
def create(body: RoundBody, session: SessionDep, by: ActorDep, response: Response) -> RoundView:
    """Plans a round and freezes its rules."""
    made = rounds.create(
        session,
        body.name,
        _policy(body.policy),
        [(each.code, each.forms) for each in body.instruments],
        body.grades,
        opens_at=body.opens_at,
        closes_at=body.closes_at,
        school_ids=None if body.schools is None else _schools(session, body.schools),
        is_historical=body.is_historical,
        is_at_home=body.is_at_home,
        unreleased={each.code: each.unreleased_reason for each in body.instruments if each.unreleased_reason},
        by=by,
    )
    located(response, f"/v1/rounds/{made.id}")
    return _answered(session, made, response)


@door.get("", roles=READING)
def listed(session: SessionDep, page: PageDep) -> RoundsView:
    """The rounds of the district, the latest first."""
    after = page.after(moment, uuid.UUID)
    wanted = select(Round).where(Round.district_id == access.scope_of(session).district_id)
    if after is not None:
        opens_at, round_id = after
        wanted = wanted.where((Round.opens_at < opens_at) | ((Round.opens_at == opens_at) & (Round.id > round_id)))
    found = list(session.scalars(wanted.order_by(Round.opens_at.desc(), Round.id).limit(page.limit + 1)))
    rows = page.cut(found, lambda each: (each.opens_at.isoformat(), each.id))
    return RoundsView(rounds=[RoundLine.model_validate(each) for each in rows])


@door.get("/{round_id}", roles=READING)
def show(round_id: Id, session: SessionDep, response: Response) -> RoundView:
    """One round, with the openings at the caller's schools."""
    return _answered(session, rounds.get(session, round_id), response)


@door.post("/{round_id}/open", roles={"district_admin"}, is_conditional=True)
def open(round_id: Id, request: Request, session: SessionDep, by: ActorDep, response: Response) -> RoundView:
    """Opens the round now, wherever it is still planned."""
    _hold(session, round_id, request)
    found = rounds.open(session, round_id, by=by)
    located(response, f"/v1/rounds/{round_id}")
    return _answered(session, found, response)


@door.post("/{round_id}/close", roles={"district_admin"}, is_conditional=True)
def close(round_id: Id, request: Request, session: SessionDep, by: ActorDep, response: Response) -> RoundView:
    """Closes the round now, everywhere."""
    _hold(session, round_id, request)
    found = rounds.close(session, round_id, by=by)
    located(response, f"/v1/rounds/{round_id}")
    return _answered(session, found, response)


@door.get("/{round_id}/assignments", roles=CARING | {"school_admin", "class_teacher"})
def who_is_waiting(
    round_id: Id, session: SessionDep, by: ActorDep, page: PageDep, school: Sender | None = None
) -> CompletionView:
    """Who has NOT completed: by class, and one by one for those who may remind them."""
    at_school = None if school is None else school_id(session, school)
    schools = access.scope_of(session).schools if at_school is None else frozenset({at_school})
    codes = school_codes(session)
    classes = completion.by_class(session, round_id, school_ids=schools)
    (after,) = page.after(uuid.UUID) or (_FIRST,)
    found = [
        student
        for each in _by_name(session, by, schools)
        for student in coverage.outstanding(session, round_id, each)
        if student.student_id > after
    ]
    rows = page.cut(sorted(found, key=lambda student: student.student_id), lambda student: (student.student_id,))
    names = students.named(session, {place.student_id for place in rows}, by=by)
    return CompletionView(
        classes=[
            ClassView(
                school=codes[each.school_id],
                grade=each.grade,
                class_name=each.class_name,
                informant=each.informant,
                places=each.places,
                exempt=each.exempt,
                completed=each.completed,
            )
            for each in classes
        ],
        waiting=[
            WaitingView(
                student_id=place.student_id,
                name=names.get(place.student_id),
                school=codes[place.school_id],
                assignment_ids=list(place.assignment_ids),
                grade=place.grade,
                class_name=place.class_name,
            )
            for place in rows
        ],
    )


@door.get("/{round_id}/reds", roles={"lead"})
def reds(round_id: Id, session: SessionDep, by: ActorDep) -> RedsView:
    """The students who were red in a historical round, which runs no clocks."""
    found = rounds.reds_of_historical(session, round_id, by=by)
    names = students.named(session, [red.student_id for red in found], by=by)
    codes = school_codes(session)
    return RedsView(
        reds=[
            RedView(
                student_id=red.student_id,
                name=names.get(red.student_id),
                school=codes[red.school_id],
                reasons=list(red.reasons),
                recorded_at=red.recorded_at,
            )
            for red in found
        ]
    )


_FIRST = uuid.UUID(int=0)


def _by_name(session: Session, by: access.Actor, schools: frozenset[uuid.UUID] | None) -> list[uuid.UUID]:
    """Those of the schools whose students the caller may remind by name."""
    knowing = by.schools_as(*CARING, "school_admin")
    asked = school_codes(session).keys() if schools is None else schools
    return [school for school in asked if knowing is None or school in knowing]


def _policy(code: str) -> policy.Policy:
    try:
        return policy.shipped(code)
    except NotFound:
        words = "There is no such policy."
        raise InvalidUpload(words, problems=[Problem("unknown_policy", words, column="policy")]) from None


def _schools(session: Session, codes: list[str]) -> list[uuid.UUID]:
    rows = session.execute(
        select(School.code, School.id).where(
            School.district_id == access.scope_of(session).district_id, School.code.in_(codes)
        )
    )
    known = {row.code: row.id for row in rows}
    unknown = [code for code in codes if code not in known]
    if unknown:
        words = f"{len(unknown)} of the schools are not known here; check their codes."
        raise InvalidUpload(words, problems=[Problem("unknown_school", words, column="schools")])
    return [known[code] for code in codes]


def _hold(session: Session, round_id: uuid.UUID, request: Request) -> None:
    """One after the other, and only on what the caller has seen."""
    lock(session, f"round/{round_id}")
    found = rounds.get(session, round_id)
    must_match(request, etag(_shown(session, found)), f"The round is {found.state} now.")


def _answered(session: Session, found: Round, response: Response) -> RoundView:
    view = _shown(session, found)
    response.headers["ETag"] = etag(view)
    return view


def _shown(session: Session, found: Round) -> RoundView:
    rules = rounds.rules_of(session, found.id)
    codes = school_codes(session)
    openings = session.scalars(
        select(Opening).where(
            Opening.district_id == found.district_id,
            Opening.round_id == found.id,
            access.of_scope(session, Opening.school_id),
        )
    )
    return RoundView(
        id=found.id,
        name=found.name,
        state=found.state,
        grades=found.grades,
        opens_at=found.opens_at,
        closes_at=found.closes_at,
        is_historical=found.is_historical,
        is_at_home=found.is_at_home,
        instruments={code: list(forms) for code, forms in rules.forms.items()},
        unreleased=rounds.unreleased(session, found.id),
        policy=f"{rules.policy.code} {rules.policy.version}",
        rules=rules.digest,
        openings=sorted(
            (
                OpeningView(
                    school=codes[each.school_id], state=each.state, opens_at=each.opens_at, closes_at=each.closes_at
                )
                for each in openings
            ),
            key=lambda each: each.school,
        ),
    )
