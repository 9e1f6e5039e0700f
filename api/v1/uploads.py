"""Files of answers: taken for the worker to load, followed, and answered with a receipt that tells no answer."""

import csv
import datetime as dt
import io
import uuid
from collections.abc import Iterable
from typing import Any

from fastapi import Response
from sqlalchemy.orm import Session

from api.deps import (
    CARING,
    ActorDep,
    Door,
    Id,
    SentDep,
    SessionDep,
    View,
    form_body,
    located,
    school_id,
)
from api.errors import ProblemView
from screening import audit, intake
from screening.errors import Problem
from screening.models import Upload

door = Door(prefix="/v1", tag="uploads")

SENDING = CARING | {"school_admin", "district_admin"}
FIRST_PROBLEMS = 100
CSV = "text/csv; charset=utf-8"


class UploadView(View):
    """A file on its way: received, then loaded or refused; `receipt` counts what became of it, form by form."""

    id: uuid.UUID
    round_id: uuid.UUID
    state: str
    progress: float
    is_dry_run: bool
    is_correction: bool
    received_at: dt.datetime
    finished_at: dt.datetime | None
    receipt: dict[str, Any] | None
    problems: list[ProblemView]


@door.post(
    "/rounds/{round_id}/uploads",
    roles=SENDING,
    status=202,
    is_streamed=True,
    openapi_extra=form_body(
        school="The code of the school whose answers these are; without it, all of the caller's.",
        map='JSON: {"column of the file": "phq9_1"}, where the names do not say it.',
    ),
)
def receive(
    round_id: Id,
    sent: SentDep,
    session: SessionDep,
    by: ActorDep,
    response: Response,
    dry_run: bool = False,
    correction: bool = False,
) -> UploadView:
    """Takes a file of answers (CSV, XLSX, Parquet, FHIR JSON or NDJSON) for a round; the worker loads it, and Location
    tells how it goes.

    The same file again while that load runs joins it. `dry_run` checks and keeps nothing; `correction` makes other
    answers to a form that is stored a further revision.
    """
    form = sent("school", "map")
    upload = intake.receive(
        session,
        round_id,
        form.content(),
        file_name=form.file_name,
        by=by,
        school_id=school_id(session, form.fields.get("school")),
        column_map=form.mapping("map"),
        is_dry_run=dry_run,
        is_correction=correction,
    )
    located(response, f"/v1/uploads/{upload.id}")
    return _shown(session, upload)


@door.get("/uploads/{upload_id}", roles=SENDING)
def show(upload_id: Id, session: SessionDep, by: ActorDep) -> UploadView:
    """How far the load is; at its end the receipt, and the first problems by sheet, row and column."""
    upload = intake.get(session, upload_id)
    audit.record(session, by, "upload.read", "upload", upload_id)
    return _shown(session, upload)


@door.get(
    "/uploads/{upload_id}/problems.csv",
    roles=SENDING,
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "Every problem."}},
)
def problems(upload_id: Id, session: SessionDep, by: ActorDep) -> Response:
    """Every problem of the file, for a spreadsheet."""
    found = intake.problems(session, upload_id)
    audit.record(session, by, "upload.read", "upload", upload_id)
    named = f'attachment; filename="problems-{upload_id}.csv"'
    return Response(as_csv(found), media_type=CSV, headers={"Content-Disposition": named})


def as_csv(found: Iterable[Problem]) -> str:
    """Problems as a table that no spreadsheet takes for a formula."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["sheet", "row", "column", "code", "message"])
    for each in found:
        table.writerow([harmless(cell) for cell in (each.sheet, each.row, each.column, each.code, each.message)])
    return "\ufeff" + out.getvalue()


def harmless(cell: object) -> object:
    """A cell as a spreadsheet may open it: text that would be run as a formula gets an apostrophe before it."""
    if not isinstance(cell, str):
        return "" if cell is None else cell
    text = cell.replace("\x00", "")
    is_formula = text.lstrip(" \u3000").startswith(_FORMULA) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if is_formula else text


_FORMULA = tuple("=+-@＝＋－＠|%")


def _shown(session: Session, upload: Upload) -> UploadView:
    return UploadView(
        id=upload.id,
        round_id=upload.round_id,
        state=upload.state,
        progress=upload.progress,
        is_dry_run=upload.is_dry_run,
        is_correction=upload.is_correction,
        received_at=upload.received_at,
        finished_at=upload.finished_at,
        receipt=upload.receipt,
        problems=[ProblemView.of(each) for each in intake.problems(session, upload.id, limit=FIRST_PROBLEMS)],
    )
