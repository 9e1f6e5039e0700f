"""Sheets of codes for students and for guardians: printed, cut into slips, handed out; each is shown this once."""

import csv
import datetime as dt
import io
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from api.deps import ActorDep, Body, DatabaseDep, Door, Id, NowDep, SessionDep, View, Word, school_id
from api.v1.exports import marked
from api.v1.sessions import qr
from api.v1.uploads import CSV, harmless
from screening import codes
from screening.codes import Sheet, Slip
from screening.errors import Refused
from screening.models import Export

door = Door(prefix="/v1/codes", tag="codes")

HANDING_OUT = frozenset({"lead", "school_admin"})
Grade = Annotated[int, Field(ge=0, le=20)]
Drawn = Annotated[bool, Query(description="With a QR code of each link, as SVG.")]
_SHEET: dict[int | str, dict[str, Any]] = {
    201: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "By Accept: JSON or CSV."}
}


class GuardiansBody(Body):
    """Of which school (where the caller has several), grade and class."""

    school: Word | None = None
    grade: Grade | None = None
    class_name: Word | None = None


class StudentsBody(GuardiansBody):
    round_id: Id


class SlipView(View):
    """`link` opens the form by itself; `short_code` with the birth date. `fact` says what is asked for."""

    student_id: uuid.UUID
    name: str
    number: str
    grade: int
    class_name: str
    link: str
    short_code: str | None
    fact: str | None
    qr: str | None


class SheetView(View):
    """`without`: students for whom no second fact is known; complete the roster, then ask again.

    `mark` is what the account knows this sheet by, as `/v1/exports` lists it; more than fifty slips at once need a
    second person's word there.
    """

    purpose: Literal["screening", "consent"]
    mark: uuid.UUID
    expires_at: dt.datetime
    slips: list[SlipView]
    without: list[uuid.UUID]


@door.post("", roles=HANDING_OUT, status=201, repeats="again", responses=_SHEET, response_model=SheetView)
def for_students(
    body: StudentsBody,
    request: Request,
    response: Response,
    session: SessionDep,
    database: DatabaseDep,
    by: ActorDep,
    now: NowDep,
    drawn: Drawn = False,
) -> Any:
    """Codes for those who have not answered yet. Codes that were made for them before end."""
    at = _school(session, body.school)
    sheet = codes.for_students(session, body.round_id, at, grade=body.grade, class_name=body.class_name, by=by)
    made = marked(session, database, "student_codes", at, len(sheet.slips), by=by, now=now)
    return _shown(sheet, made, request, drawn)


@door.post("/guardians", roles=HANDING_OUT, status=201, repeats="again", responses=_SHEET, response_model=SheetView)
def for_guardians(
    body: GuardiansBody,
    request: Request,
    response: Response,
    session: SessionDep,
    database: DatabaseDep,
    by: ActorDep,
    now: NowDep,
    drawn: Drawn = False,
) -> Any:
    """Codes by which guardians decide on their own child's consent. Codes that were made before end."""
    at = _school(session, body.school)
    sheet = codes.for_guardians(session, at, grade=body.grade, class_name=body.class_name, by=by)
    made = marked(session, database, "guardian_codes", at, len(sheet.slips), by=by, now=now)
    return _shown(sheet, made, request, drawn)


def _school(session: SessionDep, code: str | None) -> uuid.UUID:
    found = school_id(session, code)
    if found is None:
        raise Refused("Say for which school this is.", code="school_missing")
    return found


def _shown(sheet: Sheet, made: Export, request: Request, is_drawn: bool) -> SheetView | Response:
    base = request.app.state.settings.base_url
    if "text/csv" in request.headers.get("accept", ""):
        headers = {"Content-Disposition": f'attachment; filename="codes-{made.id}.csv"'}
        return Response(as_csv(sheet.slips, base, made), 201, media_type=CSV, headers=headers)
    slips = [_slip(slip, base, is_drawn) for slip in sheet.slips]
    told = {"purpose": made.purpose, "mark": made.id, "expires_at": sheet.until, "without": list(sheet.without)}
    return SheetView.model_validate(told | {"slips": slips})


def _slip(slip: Slip, base: str, is_drawn: bool) -> SlipView:
    link = _link(slip, base)
    return SlipView(
        student_id=slip.student_id,
        name=slip.name,
        number=slip.number,
        grade=slip.grade,
        class_name=slip.class_name,
        link=link,
        short_code=slip.short_code,
        fact=slip.fact,
        qr=qr(link) if is_drawn else None,
    )


def _link(slip: Slip, base: str) -> str:
    # what stands after # stays in the browser: in no server's log, and in no Referer
    return f"{base}/enter#{slip.code}"


def as_csv(slips: Sequence[Slip], base: str, made: Export) -> str:
    """A sheet as a table that no spreadsheet takes for a formula; each row says what it was made for, and its mark."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["class", "name", "number", "link", "short_code", "fact", "purpose", "mark"])
    for slip in slips:
        cells = (
            *(slip.class_name, slip.name, slip.number, _link(slip, base), slip.short_code, slip.fact),
            *(made.purpose, str(made.id)),
        )
        table.writerow([harmless(cell) for cell in cells])
    return "\ufeff" + out.getvalue()
