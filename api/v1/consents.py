"""Consent as people gave, declined or withdrew it, and how far it has come class by class."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field

from api.deps import (
    CARING,
    ActorDep,
    Body,
    Door,
    Id,
    Moment,
    NowDep,
    Sender,
    SessionDep,
    View,
    Word,
    school_codes,
    school_id,
)
from api.errors import ProblemView
from screening import consent, policy, rounds
from screening.consent import ListedDecision
from screening.errors import Refused

door = Door(prefix="/v1/consents", tag="consents")

KEEPING = CARING | {"school_admin"}
DECIDING = frozenset({"guardian", "student"})


class DecisionBody(Body):
    """One decision; `school_code` only where several of the caller's schools gave the same number."""

    student_number: Word
    decision: Literal["granted", "declined", "withdrawn"]
    given_by: Literal["guardian", "student"] = "guardian"
    school_code: Word | None = None


class DecisionsBody(Body):
    notice_version: Word
    channel: Word
    decided_at: Moment
    decisions: Annotated[list[DecisionBody], Field(min_length=1, max_length=10_000)]


class OwnDecisionBody(Body):
    """`notice_version` is that of the notice that was shown."""

    decision: Literal["granted", "declined", "withdrawn"]
    notice_version: Word


class StandingDecisionView(View):
    given_by: str
    decision: str
    notice_version: str
    decided_at: dt.datetime


class StandingView(View):
    student_id: uuid.UUID
    decisions: list[StandingDecisionView]


class RecordedView(View):
    """How many of the listed decisions stand now; the others are named, by their place in the list from 1."""

    listed: int
    recorded: int
    problems: list[ProblemView]


class ClassView(View):
    grade: int
    class_name: str
    enrolled: int
    in_force: int
    refused: int
    waiting: int


class FunnelView(View):
    """enrolled = in_force + refused + waiting, in each class."""

    school: str
    at: dt.datetime
    classes: list[ClassView]


@door.post("", roles=KEEPING, repeats="again")
def record(body: DecisionsBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> RecordedView:
    """Writes down a list of decisions; the same again changes nothing."""
    if body.decided_at > now:
        raise Refused("A decision is written down after it was made.", code="in_the_future")
    rows = [
        ListedDecision(place, each.student_number, each.decision, each.given_by, each.school_code)
        for place, each in enumerate(body.decisions, start=1)
    ]
    _, problems = consent.from_list(
        session, rows, notice_version=body.notice_version, channel=body.channel, decided_at=body.decided_at, by=by
    )
    return RecordedView(
        listed=len(rows),
        recorded=len(rows) - len({problem.row for problem in problems}),
        problems=[ProblemView.of(problem) for problem in problems],
    )


@door.post("/{student_id}", roles=DECIDING, repeats="again")
def decide(student_id: Id, body: OwnDecisionBody, session: SessionDep, by: ActorDep, now: NowDep) -> StandingView:
    """What a guardian decides for their child, or a student for themselves; from now on, and shown as it stands."""
    consent.record(
        session,
        [student_id],
        body.decision,
        given_by=by.leading_role,
        notice_version=body.notice_version,
        channel="link",
        decided_at=now,
        by=by,
    )
    return standing(student_id, session)


@door.get("/{student_id}", roles=DECIDING)
def standing(student_id: Id, session: SessionDep) -> StandingView:
    """The latest decision of each who may decide for this child."""
    found = consent.standing(session, student_id)
    return StandingView(student_id=student_id, decisions=[StandingDecisionView.model_validate(each) for each in found])


@door.get("", roles=KEEPING | {"principal"})
def funnel(session: SessionDep, now: NowDep, school: Sender | None = None, round: Id | None = None) -> FunnelView:
    """How far consent has come in each class of a school, under the rules of a round (or those that ship)."""
    at_school = school_id(session, school)
    if at_school is None:
        raise Refused("Say for which school this is.", code="school_missing")
    rules = policy.shipped() if round is None else rounds.rules_of(session, round).policy
    classes = consent.funnel(session, at_school, at=now, policy=rules)
    return FunnelView(
        school=school_codes(session)[at_school], at=now, classes=[ClassView.model_validate(each) for each in classes]
    )
