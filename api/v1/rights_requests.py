"""What students and guardians ask for as of right, who answers it, and a student's own copy."""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import rights_asked
from api.deps import ActorDep, Body, Door, Id, NowDep, PageDep, SessionDep, View, Words, located, moment, school_codes
from screening import audit, own_copy, rights
from screening.models import RightsRequest

door = Door(prefix="/v1/rights-requests", tag="rights-requests")

WRITING_DOWN = rights.DECIDERS | {"school_admin"}
Kind = Literal["see", "copy", "correct", "delete", "review"]
State = Literal["waiting", "granted", "refused"]
Part = Literal["identity", "consents", "rounds", "answers", "results", "readings"]


class AskBody(Body):
    """`words`: what is wanted, and for a correction what is right."""

    kind: Kind
    words: Words


class WrittenDownBody(AskBody):
    """A request on paper or by word of mouth, written down by the school."""

    student_id: Id
    asked_as: Literal["student", "guardian"]


class DecisionBody(Body):
    """`answer` goes to whoever asked, with the reasons of a refusal; `parts` to see or copy, `extent` to delete."""

    is_granted: bool
    answer: Words
    parts: Annotated[list[Part], Field(max_length=6)] = []  # noqa: RUF012 - pydantic copies it
    extent: Literal["answers", "person"] | None = None


class OwnRequestView(View):
    id: uuid.UUID
    kind: Kind
    state: State
    words: str | None
    asked_at: dt.datetime
    due_at: dt.datetime
    decided_at: dt.datetime | None
    answer: str | None
    parts: list[Part]
    until_at: dt.datetime | None


class WrittenDownView(View):
    """For whoever wrote it down: that it waits, and until when; what it says is for those who decide."""

    id: uuid.UUID
    kind: Kind
    state: State
    asked_at: dt.datetime
    due_at: dt.datetime


class OwnRequestsView(View):
    requests: list[OwnRequestView]


class RequestView(OwnRequestView):
    student_id: uuid.UUID
    school: str
    asked_as: Literal["student", "guardian"]
    is_late: bool
    decided_by: uuid.UUID | None
    extent: Literal["answers", "person"] | None


class RequestsView(View):
    requests: list[RequestView]


class CopyView(View):
    """`mark` is the request by which it was had, under which the account knows it."""

    purpose: Literal["rights"]
    mark: uuid.UUID
    until_at: dt.datetime | None
    parts: dict[Part, list[dict[str, Any]]]


# -- whose it is ----------------------------------------------------------------------------------------


@door.post("/students/{student_id}", roles=rights.ASKING, status=201, repeats="again")
def ask(
    student_id: Id, body: AskBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> OwnRequestView:
    """Asks for it, for oneself or one's child; somebody who may decide is told at once."""
    made = rights_asked.ask(session, student_id, body.kind, body.words, asked_as=by.leading_role, by=by, now=now)
    located(response, f"/v1/rights-requests/students/{student_id}")
    return _own(session, made)


@door.get("/students/{student_id}", roles=rights.ASKING)
def own(student_id: Id, session: SessionDep, by: ActorDep) -> OwnRequestsView:
    """What one asked for, and what was answered."""
    found = rights.of_student(session, student_id, asked_as=by.leading_role)
    return OwnRequestsView(requests=[_own(session, each) for each in found])


@door.get("/students/{student_id}/copy", roles=rights.ASKING)
def copy(student_id: Id, request: Request, session: SessionDep, by: ActorDep, now: NowDep) -> CopyView:
    """One's own copy, of the parts that were granted, for thirty days."""
    found = rights.open_copy(session, student_id, asked_as=by.leading_role, now=now)
    parts = own_copy.of_student(session, found, locale=request.app.state.settings.locale, by=by)
    return CopyView.model_validate({"purpose": "rights", "mark": found.id, "until_at": found.until_at, "parts": parts})


# -- who answers ----------------------------------------------------------------------------------------


@door.get("", roles=rights.DECIDERS)
def listed(session: SessionDep, by: ActorDep, page: PageDep, now: NowDep, state: State | None = None) -> RequestsView:
    """What was asked for at the caller's schools, the first due first."""
    after = page.after(moment, uuid.UUID)
    found = rights.listed(
        session, state=state, after=None if after is None else (after[0], after[1]), limit=page.limit + 1
    )
    rows = page.cut(found, lambda each: (each.due_at.isoformat(), each.id))
    audit.record(session, by, "rights.read", "rights_request", "many", count=len(rows))
    codes = school_codes(session)
    return RequestsView(requests=[_view(session, each, now, codes[each.school_id]) for each in rows])


@door.post("", roles=WRITING_DOWN, status=201, repeats="again")
def write_down(
    body: WrittenDownBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> WrittenDownView:
    """Writes down what a student or a guardian asked for on paper."""
    made = rights_asked.ask(session, body.student_id, body.kind, body.words, asked_as=body.asked_as, by=by, now=now)
    located(response, f"/v1/rights-requests/{made.id}")
    return WrittenDownView.model_validate(made)


@door.get("/{rights_request_id}", roles=rights.DECIDERS)
def show(rights_request_id: Id, session: SessionDep, by: ActorDep, now: NowDep) -> RequestView:
    """One request."""
    found = rights.get(session, rights_request_id)
    audit.record(session, by, "rights.read", "rights_request", found.id)
    return _view(session, found, now, school_codes(session)[found.school_id])


@door.post("/{rights_request_id}/decision", roles=rights.DECIDERS)
def decide(
    rights_request_id: Id, body: DecisionBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> RequestView:
    """The answer in writing, and what follows from it."""
    found = rights.decide(
        session,
        rights_request_id,
        is_granted=body.is_granted,
        answer=body.answer,
        parts=body.parts,
        extent=body.extent,
        by=by,
        now=now,
    )
    located(response, f"/v1/rights-requests/{found.id}")
    return _view(session, found, now, school_codes(session)[found.school_id])


def _own(session: Session, found: RightsRequest) -> OwnRequestView:
    return OwnRequestView.model_validate(_columns(session, found))


def _view(session: Session, found: RightsRequest, now: dt.datetime, school: str) -> RequestView:
    is_late = found.state == "waiting" and found.due_at < now
    return RequestView.model_validate(_columns(session, found) | {"school": school, "is_late": is_late})


def _columns(session: Session, found: RightsRequest) -> dict[str, Any]:
    words, answer = rights.words_of(session, found)
    columns = {name: getattr(found, name) for name in RequestView.model_fields if hasattr(found, name)}
    return columns | {"words": words, "answer": answer}
