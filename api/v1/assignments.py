"""A form filled in page by page: saved, noticed at once where it must be, and handed in."""

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Annotated

from fastapi import Response
from pydantic import Field

from alerts import raising
from api.deps import CARING, ActorDep, Body, DatabaseDep, Door, Id, NowDep, SessionDep, View, located
from screening import access, assignments, codes
from screening.db import Database

door = Door(prefix="/v1/assignments", tag="assignments")

FILLING = CARING | {"student"}
ItemId = Annotated[str, Field(max_length=60)]
Code = int | float | bool | Annotated[str, Field(max_length=60)]
"""Whatever stands there is taken in and named by the form: a critical answer beside it must not be turned away."""


class AnswersBody(Body):
    """Item -> code, null for a blank. A page may hold any of the form's items."""

    answers: Annotated[dict[ItemId, Code | None], Field(max_length=1_000)]


class SavedView(View):
    """`is_kept` is false without consent in force: then nothing is stored."""

    assignment_id: uuid.UUID
    is_kept: bool


class SubmittedView(View):
    """Nothing of what it means: that is not for whoever fills in a form."""

    assignment_id: uuid.UUID
    student_id: uuid.UUID
    round_id: uuid.UUID


@door.put("/{assignment_id}/answers", roles=FILLING)
def save(
    assignment_id: Id, body: AnswersBody, session: SessionDep, by: ActorDep, now: NowDep, database: DatabaseDep
) -> SavedView:
    """Saves a page; the same page again changes nothing."""
    with _heard(database, by, now):
        saved = assignments.save(session, assignment_id, body.answers, by=by, now=now)
    raising.raise_alerts(session, saved.signals, now=now, policy=saved.rules.policy)
    return SavedView(assignment_id=assignment_id, is_kept=saved.is_kept)


@door.post("/{assignment_id}/submit", roles=FILLING, repeats="again")
def submit(
    assignment_id: Id,
    session: SessionDep,
    by: ActorDep,
    now: NowDep,
    database: DatabaseDep,
    response: Response,
    body: AnswersBody | None = None,
) -> SubmittedView:
    """Hands in what was saved, with `answers` as its last page; handing in the same again is once."""
    with _heard(database, by, now):
        done = assignments.submit(session, assignment_id, answers=body.answers if body else None, by=by, now=now)
    if done.revisions is not None:
        raising.weigh(session, done.revisions, now=now, policy=done.rules.policy)
    if by.own:
        codes.spend(session, by)
    located(response, f"/v1/results/{done.student_id}/{done.round_id}")
    return SubmittedView(assignment_id=assignment_id, student_id=done.student_id, round_id=done.round_id)


@contextlib.contextmanager
def _heard(database: Database, by: access.Actor, now: dt.datetime) -> Iterator[None]:
    """Critical answers that are refused reach a person all the same: the refusal does not undo this transaction."""
    try:
        yield
    except assignments.NotKept as refused:
        with database.unit(by.scope_as(FILLING)) as aside:
            raising.raise_alerts(aside, refused.signals, now=now, policy=refused.rules.policy)
        raise
