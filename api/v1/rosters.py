"""Lists of students: a file in, what it would change, and the word that makes it so."""

import datetime as dt
import uuid
from collections.abc import Mapping

from fastapi import Response

from alerts import following
from api.deps import (
    ActorDep,
    Body,
    Door,
    Id,
    NowDep,
    PageDep,
    SentDep,
    SessionDep,
    View,
    Word,
    form_body,
    located,
    school_id,
    small_row,
)
from api.errors import ProblemView
from screening import access, role_matrix, roster
from screening.roster import ProposedRow

door = Door(prefix="/v1/rosters", tag="rosters")

KEEPING = frozenset({"school_admin", "district_admin"})


class ListedView(View):
    """What a row says of a student."""

    school_code: str | None
    student_number: str
    student_name: str
    sex: str | None
    grade: int | None
    class_name: str | None
    born_on: dt.date | None


class RowView(View):
    """A row of the proposal: what would come of it. `listed` is for those who know the school's students by name."""

    row: int
    change: str
    student_id: uuid.UUID | None
    listed: ListedView | None
    differences: list[str]
    problems: list[ProblemView]

    @classmethod
    def of(cls, row: ProposedRow, *, is_named: bool) -> "RowView":
        said = row.listed if is_named else None
        return cls(
            row=row.row,
            change=row.change,
            student_id=row.student_id,
            listed=None
            if said is None
            else ListedView(
                school_code=said.school_code,
                student_number=said.number,
                student_name=said.name,
                sex=said.sex,
                grade=said.grade,
                class_name=said.class_name,
                born_on=said.born_on,
            ),
            differences=list(row.differences),
            problems=[ProblemView.of(problem) for problem in row.problems],
        )


class RosterView(View):
    """A list: received, proposed, committed or refused; with the proposal's counts, rows and problems.

    `missing_from_list` are students enrolled at the list's schools whom it leaves out; they stay as they are.
    """

    id: uuid.UUID
    state: str
    received_at: dt.datetime
    committed_at: dt.datetime | None
    counts: Mapping[str, int]
    rows: list[RowView]
    problems: list[ProblemView]
    missing_from_list: list[uuid.UUID]


class CommitBody(Body):
    notice_version: Word = "roster"


@door.post(
    "",
    roles=KEEPING,
    status=202,
    is_streamed=True,
    openapi_extra=form_body(school="The code of the school.", map="JSON: column of the file -> what it is."),
)
def receive(sent: SentDep, session: SessionDep, by: ActorDep, page: PageDep, response: Response) -> RosterView:
    """Takes a list of students (CSV, XLSX or Parquet), to be made a proposal of."""
    form = sent("school", "map")
    received = roster.receive(
        session,
        form.content(),
        form.file_name,
        by=by,
        school_id=school_id(session, form.fields.get("school")),
        column_map=form.mapping("map"),
    )
    located(response, f"/v1/rosters/{received.id}")
    return _shown(session, received.id, by, page)


@door.get("/{roster_id}", roles=KEEPING)
def show(roster_id: Id, session: SessionDep, by: ActorDep, page: PageDep) -> RosterView:
    """The proposal: new, changed, moved, same, refused; a page of its rows."""
    return _shown(session, roster_id, by, page)


@door.post("/{roster_id}/commit", roles=KEEPING)
def commit(
    roster_id: Id, body: CommitBody, session: SessionDep, by: ActorDep, now: NowDep, page: PageDep, response: Response
) -> RosterView:
    """Does what the proposal says; refused rows are left out."""
    on = now.astimezone(session.info["timezone"]).date()
    roster.commit(session, roster_id, by=by, on=on, follow=following.follow, notice_version=body.notice_version)
    located(response, f"/v1/rosters/{roster_id}")
    return _shown(session, roster_id, by, page)


def _shown(session: SessionDep, roster_id: uuid.UUID, by: access.Actor, page: PageDep) -> RosterView:
    is_named = by.has(*role_matrix.openers("roster", changes=False))
    (after,) = page.after(small_row) or (-1,)
    found = roster.proposal(session, roster_id, after=after, limit=page.limit + 1)
    rows = page.cut(found.rows, lambda row: (row.row,))
    last = rows[-1].row if len(rows) < len(found.rows) else None
    return RosterView(
        id=found.roster.id,
        state=found.roster.state,
        received_at=found.roster.received_at,
        committed_at=found.roster.committed_at,
        counts=dict(found.counts),
        rows=[RowView.of(row, is_named=is_named) for row in rows],
        problems=[ProblemView.of(p) for p in found.problems if last is None or (p.row or 0) <= last],
        missing_from_list=list(found.missing) if after < 0 else [],
    )
