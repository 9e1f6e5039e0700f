"""A form filled in page by page: saved, noticed at once where it must be, and handed in."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import raising
from api.deps import CARING, ActorDep, Body, DatabaseDep, Door, Id, SessionDep, View, located
from instruments.definition import Instrument
from screening import access, assignments, codes, db, wordings
from screening.db import Database

door = Door(prefix="/v1/assignments", tag="assignments")

FILLING = CARING | {"student"}
ItemId = Annotated[str, Field(max_length=60)]
Language = Annotated[str | None, Query(pattern="^[a-z]{2}(_[A-Z]{2})?$")]
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


class ItemView(View):
    id: str
    number: int
    text: str | None
    answer_set: str
    is_optional: bool


class OptionView(View):
    code: int
    text: str | None


class FormView(View):
    """One instrument. Its texts are null where none is there in this language: the paper beside it has them."""

    instrument: str
    edition: str
    form: str
    title: str
    stem: str | None
    has_text: bool
    items: list[ItemView]
    answer_sets: dict[str, list[OptionView]]
    saved: dict[str, int | None] | None
    """The own page so far; null for whoever fills it in for somebody else."""
    is_handed_in: bool


class QuestionsView(View):
    assignment_id: uuid.UUID
    round_id: uuid.UUID
    is_open: bool
    language: str
    forms: list[FormView]


@door.get("/{assignment_id}", roles=FILLING, is_brief=True)
def questions(
    assignment_id: Id, session: SessionDep, by: ActorDep, request: Request, language: Language = None
) -> QuestionsView:
    """The questions in a language (by default the service's), and one's own answers so far."""
    found = assignments.waiting(session, assignment_id)
    wanted = language or request.app.state.settings.locale
    on = db.now(session).astimezone(session.info["timezone"]).date()
    forms = []
    for instrument, form in found.forms:
        text = wordings.shown(session, instrument, wanted, on)
        own = found.saved.get(instrument.code, {}) if by.own else None
        forms.append(_form(instrument, form, wanted, text, own, is_handed_in=instrument.code in found.handed_in))
    return QuestionsView(
        assignment_id=assignment_id, round_id=found.round_id, is_open=found.is_open, language=wanted, forms=forms
    )


def _form(
    instrument: Instrument,
    form: str,
    language: str,
    text: wordings.Text | None,
    saved: Mapping[str, int | None] | None,
    *,
    is_handed_in: bool,
) -> FormView:
    sets = {item.answer_set: item.options for item in instrument.items}
    words = text.answers if text else {}
    return FormView(
        instrument=instrument.code,
        edition=instrument.edition,
        form=form,
        title=instrument.title.get(language, instrument.title["en"]),
        stem=text.stem if text else None,
        has_text=text is not None,
        items=[
            ItemView(
                id=item.id,
                number=item.number,
                text=text.items.get(item.id) if text else None,
                answer_set=item.answer_set,
                is_optional=not item.is_scored,
            )
            for item in instrument.items
        ],
        answer_sets={
            name: [OptionView(code=one.code, text=words.get(name, {}).get(str(one.code))) for one in options]
            for name, options in sets.items()
        },
        saved=None if saved is None else dict(saved),
        is_handed_in=is_handed_in,
    )


@door.put("/{assignment_id}/answers", roles=FILLING, is_brief=True)
def save(assignment_id: Id, body: AnswersBody, session: SessionDep, by: ActorDep, database: DatabaseDep) -> SavedView:
    """Saves a page; the same page again changes nothing."""
    with _heard(database, session, by):
        saved = assignments.save(session, assignment_id, body.answers, by=by)
    raising.raise_alerts(session, saved.signals, now=db.now(session), policy=saved.rules.policy)
    return SavedView(assignment_id=assignment_id, is_kept=saved.is_kept)


@door.post("/{assignment_id}/submit", roles=FILLING, repeats="again", is_brief=True)
def submit(
    assignment_id: Id,
    session: SessionDep,
    by: ActorDep,
    database: DatabaseDep,
    response: Response,
    body: AnswersBody | None = None,
) -> SubmittedView:
    """Hands in what was saved, with `answers` as its last page; handing in the same again is once."""
    with _heard(database, session, by):
        done = assignments.submit(session, assignment_id, answers=body.answers if body else None, by=by)
    if done.revisions is not None:
        raising.weigh(session, done.revisions, now=db.now(session), policy=done.rules.policy)
    if by.own:
        codes.spend(session, by)
    located(response, f"/v1/results/{done.student_id}/{done.round_id}")
    return SubmittedView(assignment_id=assignment_id, student_id=done.student_id, round_id=done.round_id)


@contextlib.contextmanager
def _heard(database: Database, session: Session, by: access.Actor) -> Iterator[None]:
    """Critical answers that are refused reach a person all the same: the refusal does not undo this transaction."""
    try:
        yield
    except assignments.NotKept as refused:
        with database.unit(by.scope_as(FILLING)) as aside:
            raising.raise_alerts(aside, refused.signals, now=db.now(session), policy=refused.rules.policy)
        raise
