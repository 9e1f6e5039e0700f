"""Whom a round reached: a school's own progress, live; the district's statistics, as they were released.

Nobody can ask for both in one table: those who work at a school see their own schools as they stand, and the
district sees releases, in which small numbers are hidden.
"""

import csv
import dataclasses
import datetime as dt
import io
import uuid
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session

from api.deps import CARING, ActorDep, Body, Door, Id, NowDep, SessionDep, View, located, school_codes
from api.v1.uploads import CSV, harmless
from screening import access, audit, coverage
from screening.coverage import Figures, Rate

door = Door(prefix="/v1/coverage", tag="coverage")

AT_SCHOOL = CARING | {"principal", "school_admin", "class_teacher"}
IN_DISTRICT = frozenset({"district_analyst", "district_admin", "privacy_officer"})

By = Literal["district", "school", "grade", "sex", "school_grade"]
COMPLETION_RATES = (
    "consent_rate",
    "decline_rate",
    "invited_rate",
    "response_rate",
    "valid_coverage",
    "completion_rate",
)
TIER_RATES = ("yellow_rate", "orange_rate", "red_rate")
_LIVE: dict[By, coverage.By | None] = {
    "district": None,
    "school": "school",
    "grade": "grade",
    "sex": "sex",
    "school_grade": "school_grade",
}


class RateView(View):
    """A share with its Wilson 95% interval, and what it divides."""

    value: float
    low: float
    high: float
    part: int
    whole: int


class RowView(View):
    """One school, grade or sex. A null count is hidden (`suppressed`), or not for this reader; a null rate is over
    nobody, or hidden. Released rates are whole percents, their ends coded."""

    school: str | None
    grade: int | None
    sex: str | None
    counts: dict[str, int | None]
    rates: dict[str, RateView | int | str | None]
    suppressed: bool
    hidden: list[str]


class CoverageView(View):
    """`on` and `k` belong to a release."""

    round_id: uuid.UUID
    kind: Literal["live", "released"]
    on: dt.date | None
    k: int | None
    rows: list[RowView]


class ReleaseBody(Body):
    round_id: Id


_TABLES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "By Accept: JSON or CSV."}
}


@door.get("", roles=AT_SCHOOL | IN_DISTRICT, responses=_TABLES, response_model=CoverageView)
def show(
    round: Id,
    request: Request,
    session: SessionDep,
    by_whom: ActorDep,
    by: Annotated[By, Query()] = "district",
    on: Annotated[dt.date | None, Query(description="The date of a release.")] = None,
) -> Any:
    """Coverage of a round: live at the caller's own schools; for the district's roles as released."""
    is_released = by_whom.has(*IN_DISTRICT) and (on is not None or not by_whom.has(*AT_SCHOOL))
    view = released(session, round, by, on) if is_released else _live(session, round, by, by_whom)
    audit.record(session, by_whom, "coverage.read", "round", round, kind=view.kind, table=by)
    if "text/csv" in request.headers.get("accept", ""):
        named = f'attachment; filename="coverage-{round}-{by}.csv"'
        return Response(as_csv(view), media_type=CSV, headers={"Content-Disposition": named})
    return view


@door.post("/releases", roles={"district_admin"}, status=201)
def release(body: ReleaseBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> CoverageView:
    """Releases the statistics of a round as they stand today; asked again today, the same as the first time."""
    on = now.astimezone(session.info["timezone"]).date()
    coverage.release(session, body.round_id, on, by=by)
    located(response, f"/v1/coverage?round={body.round_id}&on={on.isoformat()}")
    return released(session, body.round_id, "district", on)


def _live(session: Session, round_id: uuid.UUID, by: By, reader: access.Actor) -> CoverageView:
    own = reader.scope_as(AT_SCHOOL)
    access.enter(session, own)
    cared_for = reader.schools_as(*CARING)
    sees_tiers = cared_for is None or (own.schools is not None and own.schools <= cared_for)
    codes = school_codes(session)
    return CoverageView(
        round_id=round_id,
        kind="live",
        on=None,
        k=None,
        rows=[
            RowView(
                school=codes[row.school_id] if row.school_id else None,
                grade=row.grade,
                sex=row.sex,
                counts=_counts(row.figures, sees_tiers),
                rates=_rates(row.figures, sees_tiers),
                suppressed=False,
                hidden=[],
            )
            for row in coverage.funnel(session, round_id, _LIVE[by])
        ],
    )


def _counts(figures: Figures, sees_tiers: bool) -> dict[str, int | None]:
    counts: dict[str, int | None] = {**dataclasses.asdict(figures), "eligible": figures.eligible}
    return {name: None if name.startswith("tier_") and not sees_tiers else count for name, count in counts.items()}


def _rates(figures: Figures, sees_tiers: bool) -> dict[str, RateView | int | str | None]:
    names = (*COMPLETION_RATES, *(TIER_RATES if sees_tiers else ()))
    found: dict[str, Rate | None] = {name: getattr(figures, name) for name in names}
    return {name: None if rate is None else RateView.model_validate(rate) for name, rate in found.items()}


def released(session: Session, round_id: uuid.UUID, by: By, on: dt.date | None) -> CoverageView:
    found = coverage.released(session, round_id, by=by, on=on)
    codes = school_codes(session)
    return CoverageView(
        round_id=round_id,
        kind="released",
        on=found.on,
        k=found.k,
        rows=[
            RowView(
                school=codes.get(row.school) if row.school else None,
                grade=row.grade,
                sex=row.sex,
                counts=dict(row.counts),
                rates=dict(row.rates),
                suppressed=bool(row.suppressed),
                hidden=list(row.suppressed),
            )
            for row in found.rows
        ],
    )


def as_csv(view: CoverageView) -> str:
    """One line a row: where, counts, then rates; what is hidden is empty, and named in the last column."""
    out = io.StringIO()
    table = csv.writer(out)
    counts = list(dict.fromkeys(name for row in view.rows for name in row.counts))
    rates = list(dict.fromkeys(name for row in view.rows for name in row.rates))
    table.writerow(["school", "grade", "sex", *counts, *(f"{name}_share" for name in rates), "suppressed"])
    for row in view.rows:
        shares = [rate.value if isinstance(rate, RateView) else rate for rate in map(row.rates.get, rates)]
        cells = [row.school, row.grade, row.sex, *map(row.counts.get, counts), *shares, " ".join(row.hidden)]
        table.writerow([harmless(cell) for cell in cells])
    return "\ufeff" + out.getvalue()
