"""Who may see more: counselors who are given students, what is asked for and granted, and glasses that are broken.

A broken glass opens how to reach the student, the tier and the plan, and nothing else; who is told of it at once, and
who looks into it afterwards, is not whoever broke it.
"""

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import glass
from api.deps import (
    ActorDep,
    Body,
    DatabaseDep,
    Door,
    Id,
    NowDep,
    PageDep,
    SessionDep,
    Tier,
    View,
    Words,
    located,
    moment,
    school_codes,
    tier_name,
)
from screening import access, approvals, audit
from screening.errors import HouseError
from screening.models import AccessRequest

door = Door(prefix="/v1/access-requests", tag="access-requests")

Kind = Literal["assignment", "request", "break_glass"]
State = Literal["waiting", "granted", "refused", "ended"]
OVERSEEING = frozenset(approvals.GRANTING)
TAKING_PART = OVERSEEING | frozenset(approvals.ASKING) | frozenset(approvals.BREAKING)
A_YEAR = dt.timedelta(days=365)


class AskBody(Body):
    """`reason` is for the second person, who weighs it."""

    student_id: Id
    reason: Words
    hours: Annotated[int, Field(ge=1, le=14 * 24)]


class AssignBody(Body):
    student_id: Id
    person_id: Id
    reason: Words


class GlassBody(Body):
    """For a life or somebody's safety."""

    student_id: Id
    reason: Words
    hours: Annotated[int, Field(ge=1, le=10_000)] = 4


class DecisionBody(Body):
    is_granted: bool


class ReviewBody(Body):
    is_justified: bool
    words: Words


class AccessView(View):
    """`reason` is null for those who neither asked nor decide."""

    id: uuid.UUID
    kind: Kind
    state: State
    student_id: uuid.UUID
    school: str
    person_id: uuid.UUID
    reason: str | None
    asked_at: dt.datetime
    decided_by: uuid.UUID | None
    decided_at: dt.datetime | None
    until_at: dt.datetime | None
    ended_by: uuid.UUID | None
    ended_at: dt.datetime | None
    review_by: dt.datetime | None
    is_review_late: bool
    reviewed_by: uuid.UUID | None
    reviewed_at: dt.datetime | None
    is_justified: bool | None


class AccessesView(View):
    access_requests: list[AccessView]


class FiguresView(View):
    asked: int
    granted: int
    refused: int
    glasses_broken: int
    reviewed: int
    reviews_overdue: int


class ActionView(View):
    what: str
    who: str
    by_on: dt.date


class EmergencyView(View):
    """All that a broken glass shows."""

    name: str | None
    phone: str | None
    tier: Tier
    plan: list[ActionView]
    until_at: dt.datetime


@door.get("", roles=TAKING_PART)
def listed(
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    page: PageDep,
    kind: Annotated[list[Kind] | None, Query()] = None,
    state: Annotated[list[State] | None, Query()] = None,
    is_due: Annotated[bool, Query(description="Broken glasses that nobody has looked into yet.")] = False,
) -> AccessesView:
    """What was asked for at the caller's schools, the latest first; of others only by those who decide."""
    after = page.after(moment, uuid.UUID)
    found = approvals.listed(
        session,
        kinds=kind,
        states=state,
        is_due=is_due,
        person_id=None if by.has(*OVERSEEING) else by.person,
        after=None if after is None else (after[0], after[1]),
        limit=page.limit + 1,
    )
    rows = page.cut(found, lambda each: (each.asked_at.isoformat(), each.id))
    audit.record(session, by, "access.read", "access_request", "many", count=len(rows))
    codes = school_codes(session)
    return AccessesView(access_requests=[_view(session, each, by, now, codes) for each in rows])


@door.get("/figures", roles=OVERSEEING | {"auditor", "district_admin"})
def figures(session: SessionDep, now: NowDep) -> FiguresView:
    """How often access was asked for and the glass was broken in the last year, and what waits to be looked into."""
    return FiguresView.model_validate(approvals.figures(session, now - A_YEAR, now=now))


@door.post("", roles=approvals.ASKING, status=201)
def ask(body: AskBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> AccessView:
    """Asks to see what is kept of a student whom one is not assigned to."""
    made = approvals.ask(session, body.student_id, body.reason, hours=body.hours, by=by, now=now)
    return _answered(session, made, by, now, response)


@door.post("/assignments", roles=approvals.GRANTING, status=201)
def assign(body: AssignBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> AccessView:
    """Gives a student to a counselor, until it is ended."""
    made = approvals.assign(session, body.student_id, body.person_id, body.reason, by=by, now=now)
    return _answered(session, made, by, now, response)


@door.post("/break-glass", roles=approvals.BREAKING, status=201)
def break_glass(
    body: GlassBody, session: SessionDep, database: DatabaseDep, by: ActorDep, now: NowDep, response: Response
) -> AccessView:
    """Opens how to reach one student, the tier and the plan, at once; others are told in the same moment."""
    try:
        made = glass.broken(session, body.student_id, body.reason, hours=body.hours, by=by, now=now)
    except HouseError as refused:
        audit.security_event(
            database,
            "access.glass_refused",
            "student",
            body.student_id,
            district_id=by.district_id,
            account_id=by.account_id,
            role=by.leading_role,
            code=refused.code,
        )
        raise
    return _answered(session, made, by, now, response)


@door.get("/{request_id}", roles=TAKING_PART)
def show(request_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> AccessView:
    """One request."""
    found = approvals.seen(session, request_id, by=by)
    audit.record(session, by, "access.read", "access_request", request_id)
    return _view(session, found, by, now, school_codes(session))


@door.get("/{request_id}/emergency", roles=approvals.BREAKING)
def emergency(request_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> EmergencyView:
    """What the glass that the caller broke shows, while it is open; each look is kept account of."""
    found = glass.through(session, request_id, by=by, now=now)
    return EmergencyView(
        name=found.name,
        phone=found.phone,
        tier=tier_name(found.tier),
        plan=[ActionView.model_validate(each) for each in found.actions],
        until_at=found.until_at,
    )


@door.post("/{request_id}/decision", roles=approvals.GRANTING)
def decide(
    request_id: Id, body: DecisionBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> AccessView:
    """The second person's word."""
    found = approvals.decide(session, request_id, is_granted=body.is_granted, by=by, now=now)
    return _answered(session, found, by, now, response)


@door.post("/{request_id}/end", roles=TAKING_PART)
def end(request_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> AccessView:
    """Ends it before its time, one's own or as one who decides."""
    return _answered(session, approvals.end(session, request_id, by=by, now=now), by, now, response)


@door.post("/{request_id}/review", roles=approvals.REVIEWING)
def review(
    request_id: Id, body: ReviewBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> AccessView:
    """What was found on looking into a broken glass."""
    found = approvals.review(session, request_id, body.words, is_justified=body.is_justified, by=by, now=now)
    return _answered(session, found, by, now, response)


def _answered(
    session: Session, found: AccessRequest, by: access.Actor, now: dt.datetime, response: Response
) -> AccessView:
    located(response, f"/v1/access-requests/{found.id}")
    return _view(session, found, by, now, school_codes(session))


def _view(
    session: Session, found: AccessRequest, by: access.Actor, now: dt.datetime, codes: Mapping[uuid.UUID, str]
) -> AccessView:
    reads = found.person_id == by.person or by.has(*OVERSEEING, school_id=found.school_id)
    is_unreviewed = found.review_by is not None and found.reviewed_at is None
    columns = {name: getattr(found, name) for name in AccessView.model_fields if hasattr(found, name)}
    return AccessView(
        **columns,
        school=codes[found.school_id],
        reason=approvals.reason_of(session, found) if reads else None,
        is_review_late=is_unreviewed and found.review_by is not None and found.review_by < now,
    )
