"""Promised contacts: those that wait, and what became of them."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Query, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import follow_ups
from alerts.models import FollowUp
from api.deps import CARING, ActorDep, Body, Door, Id, Moment, NowDep, PageDep, SessionDep, View, Words, located, moment
from screening import access

door = Door(prefix="/v1/follow-ups", tag="follow-ups")

Mode = Literal["meeting", "home_visit", "video", "phone"]
State = Literal["planned", "due", "overdue", "done", "missed", "left"]
Reason = Literal["student_absent", "not_reached", "student_declined", "guardian_declined", "staff_absent", "moved"]
TOLD = CARING | {"principal"}
"""Overdue contacts are told to the lead or the principal, who follow the link."""


class DoneBody(Body):
    words: Words


class MissedBody(Body):
    reason: Reason


class LeftBody(Body):
    reason: Literal["replaced", "in_treatment", "student_declined", "no_longer_needed", "planned_by_mistake"]
    words: Words


class FollowUpView(View):
    id: uuid.UUID
    case_id: uuid.UUID
    mode: str
    due_at: dt.datetime
    state: str
    planned_by: uuid.UUID
    planned_at: dt.datetime
    ended_by: uuid.UUID | None
    ended_at: dt.datetime | None
    missed_reason: str | None
    left_reason: str | None


class FollowUpsView(View):
    follow_ups: list[FollowUpView]


@door.get("", roles=TOLD)
def listed(
    session: SessionDep,
    page: PageDep,
    state: Annotated[list[State] | None, Query()] = None,
    due_before: Moment | None = None,
) -> FollowUpsView:
    """Promised contacts by their time: those that wait, or are in `state`."""
    wanted = select(FollowUp).where(
        FollowUp.district_id == access.scope_of(session).district_id,
        FollowUp.state.in_(state or follow_ups.WAITING),
        access.of_scope(session, FollowUp.school_id),
    )
    if due_before is not None:
        wanted = wanted.where(FollowUp.due_at < due_before)
    after = page.after(moment, uuid.UUID)
    if after is not None:
        due_at, last = after
        wanted = wanted.where((FollowUp.due_at > due_at) | ((FollowUp.due_at == due_at) & (FollowUp.id > last)))
    found = list(session.scalars(wanted.order_by(FollowUp.due_at, FollowUp.id).limit(page.limit + 1)))
    rows = page.cut(found, lambda each: (each.due_at.isoformat(), each.id))
    return FollowUpsView(follow_ups=[FollowUpView.model_validate(each) for each in rows])


@door.get("/{follow_up_id}", roles=TOLD)
def show(follow_up_id: Id, session: SessionDep) -> FollowUpView:
    """One promised contact."""
    return _shown(session, follow_up_id)


@door.post("/{follow_up_id}/done", roles=CARING)
def done(
    follow_up_id: Id, body: DoneBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> FollowUpView:
    """The contact took place."""
    follow_ups.done(session, follow_up_id, body.words, by=by, now=now)
    located(response, f"/v1/follow-ups/{follow_up_id}")
    return _shown(session, follow_up_id)


@door.post("/{follow_up_id}/missed", roles=CARING)
def missed(
    follow_up_id: Id, body: MissedBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> FollowUpView:
    """The contact did not take place."""
    follow_ups.missed(session, follow_up_id, body.reason, by=by, now=now)
    located(response, f"/v1/follow-ups/{follow_up_id}")
    return _shown(session, follow_up_id)


@door.post("/{follow_up_id}/leaving", roles=CARING)
def leave(
    follow_up_id: Id, body: LeftBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> FollowUpView:
    """The contact is taken off the list before its time, with a reason."""
    follow_ups.leave(session, follow_up_id, body.reason, body.words, by=by, now=now)
    located(response, f"/v1/follow-ups/{follow_up_id}")
    return _shown(session, follow_up_id)


def _shown(session: Session, follow_up_id: uuid.UUID) -> FollowUpView:
    return FollowUpView.model_validate(follow_ups.get(session, follow_up_id))
