"""Friendly looks at students of special groups: those that are planned, and what came of one."""

import datetime as dt
import uuid
from typing import Literal

from fastapi import Response

from alerts import check_ins
from alerts.models import CheckIn
from api.deps import CARING, ActorDep, Body, Door, Id, NowDep, PageDep, SessionDep, View, located
from screening import students

door = Door(prefix="/v1/check-ins", tag="check-ins")


class OutcomeBody(Body):
    outcome: Literal["well", "support_offered", "concern_raised", "not_reached"]


class CheckInView(View):
    id: uuid.UUID
    student_id: uuid.UUID
    student_name: str | None = None
    due_on: dt.date
    state: str
    outcome: str | None
    ended_by: uuid.UUID | None
    ended_at: dt.datetime | None


class CheckInsView(View):
    check_ins: list[CheckInView]


@door.get("", roles=CARING)
def listed(session: SessionDep, by: ActorDep, page: PageDep) -> CheckInsView:
    """Those that are planned, by their day; which group a student is in is not said."""
    found = check_ins.listed(session, after=page.after(dt.date.fromisoformat, uuid.UUID), limit=page.limit + 1)
    rows = page.cut(found, lambda each: (each.due_on.isoformat(), each.id))
    names = students.named(session, {each.student_id for each in rows}, by=by)
    return CheckInsView(check_ins=[_view(each, names.get(each.student_id)) for each in rows])


@door.get("/{check_in_id}", roles=CARING)
def show(check_in_id: Id, session: SessionDep) -> CheckInView:
    """One of them."""
    return _view(check_ins.get(session, check_in_id), None)


@door.post("/{check_in_id}/outcome", roles=CARING)
def end(
    check_in_id: Id, body: OutcomeBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> CheckInView:
    """What came of it."""
    made = check_ins.end(session, check_in_id, body.outcome, by=by, now=now)
    located(response, f"/v1/check-ins/{check_in_id}")
    return _view(made, None)


def _view(found: CheckIn, name: str | None) -> CheckInView:
    return CheckInView.model_validate(found).model_copy(update={"student_name": name})
