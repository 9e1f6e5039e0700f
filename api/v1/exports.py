"""What left by name in one piece: under which mark, for which purpose, and by whose word where it was many."""

import datetime as dt
import uuid
from typing import Literal

from fastapi import Response
from sqlalchemy.orm import Session

from alerts import breadth
from api.deps import ActorDep, Body, Door, Id, NowDep, PageDep, SessionDep, View, located, moment, school_codes
from screening import access, audit, exports
from screening.db import Database
from screening.errors import AccessNeeded
from screening.models import Export

door = Door(prefix="/v1/exports", tag="exports")

What = Literal["student_codes", "guardian_codes"]


class DecisionBody(Body):
    is_granted: bool


class ExportView(View):
    """`id` is the mark in its rows."""

    id: uuid.UUID
    what: What
    purpose: Literal["screening", "consent"]
    state: Literal["waiting", "granted", "refused", "done"]
    school: str
    person_id: uuid.UUID
    row_count: int
    asked_at: dt.datetime
    decided_by: uuid.UUID | None
    decided_at: dt.datetime | None


class ExportsView(View):
    exports: list[ExportView]


@door.get("", roles=exports.DECIDING | {"auditor"})
def listed(session: SessionDep, by: ActorDep, page: PageDep) -> ExportsView:
    """What left, and what waits for a second person, at the caller's schools, the latest first."""
    after = page.after(moment, uuid.UUID)
    found = exports.listed(session, after=None if after is None else (after[0], after[1]), limit=page.limit + 1)
    rows = page.cut(found, lambda each: (each.asked_at.isoformat(), each.id))
    audit.record(session, by, "export.read", "export", "many", count=len(rows))
    codes = school_codes(session)
    return ExportsView(exports=[_view(each, codes[each.school_id]) for each in rows])


@door.post("/{export_id}/decision", roles=exports.DECIDING)
def decide(
    export_id: Id, body: DecisionBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> ExportView:
    """The second person's word on many rows; good for a day and for one export."""
    found = exports.decide(session, export_id, is_granted=body.is_granted, by=by, now=now)
    located(response, "/v1/exports")
    return _view(found, school_codes(session)[found.school_id])


def marked(
    session: Session,
    database: Database,
    what: What,
    school_id: uuid.UUID,
    row_count: int,
    *,
    by: access.Actor,
    now: dt.datetime,
) -> Export:
    """Notes what leaves now and answers its mark; many rows without a second person's word are asked for and refused.

    The asking is kept though the refusal undoes what was made. Raises AccessNeeded (`second_person`).
    """
    try:
        made = exports.note(session, what, school_id, row_count, by=by, now=now)
    except AccessNeeded:
        with database.unit(access.scope_of(session)) as own:
            asked = exports.ask(own, what, school_id, row_count, by=by, now=now)
            breadth.export_asked(own, asked, by=by, now=now)
        raise
    breadth.export_made(session, made, by=by, now=now)
    return made


def _view(found: Export, school: str) -> ExportView:
    columns = {name: getattr(found, name) for name in ExportView.model_fields if hasattr(found, name)}
    return ExportView.model_validate(columns | {"school": school})
