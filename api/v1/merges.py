"""Two student rows that are one child: tied by two persons with a reason, and taken apart by two again.

What is kept of either row stays where it is; whoever decides sees what speaks against it, and never a tier or a case.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import tying
from api.deps import (
    ActorDep,
    Body,
    Door,
    Id,
    NowDep,
    PageDep,
    SessionDep,
    View,
    Words,
    located,
    moment,
    school_codes,
)
from api.v1.students import KNOWING_NAMES
from screening import access, audit, contradictions, merges, students
from screening.errors import NotFound
from screening.merges import Pair
from screening.models import StudentMerge
from screening.students import Enrolled

door = Door(prefix="/v1/merges", tag="merges")

DECIDING = frozenset(merges.DECIDING)
LOOKING = DECIDING | {"counselor"}
State = Literal["proposed", "merged", "refused", "withdrawn", "split"]
WarningCode = Literal[
    "name_differs", "sex_differs", "birth_differs", "school_differs", "both_answered", "answers_differ"
]


class MergeBody(Body):
    """`student_id` is the row under which the child is counted from then on, `duplicate_id` the other."""

    student_id: Id
    duplicate_id: Id
    reason: Words


class ConfirmationBody(Body):
    """`seen`: the warnings that were looked at, as the merge shows them."""

    seen: list[WarningCode] = Field(default=[], max_length=len(contradictions.WARNINGS))


class RefusalBody(Body):
    reason: Words


class SplitBody(Body):
    reason: Words


class WarningView(View):
    code: WarningCode
    words: str


class RowView(View):
    """One of the two rows. What is null is not for this reader, or not there."""

    student_id: uuid.UUID
    school: str
    student_name: str | None = None
    sex: str | None = None
    born_month: dt.date | None = None
    grade: int | None = None
    class_name: str | None = None


class MergeView(View):
    """A merge; while it is `merged`, the two rows are one child. `split_asked_by`: somebody asks to take it apart."""

    id: uuid.UUID
    state: State
    student: RowView
    duplicate: RowView
    warnings: list[WarningView]
    reason: str | None
    refusal: str | None
    split_reason: str | None
    proposed_by: uuid.UUID
    proposed_at: dt.datetime
    decided_by: uuid.UUID | None
    decided_at: dt.datetime | None
    split_asked_by: uuid.UUID | None
    split_asked_at: dt.datetime | None
    split_by: uuid.UUID | None
    split_at: dt.datetime | None


class MergesView(View):
    merges: list[MergeView]


@door.post("", roles=DECIDING, status=201)
def propose(body: MergeBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> MergeView:
    """Says that two rows are one child, for a second person. A row that is not the caller's looks like none."""
    made = merges.propose(session, body.student_id, body.duplicate_id, body.reason, by=by, now=now)
    return _answered(session, made.id, by, response)


@door.get("", roles=LOOKING)
def listed(
    session: SessionDep,
    by: ActorDep,
    page: PageDep,
    state: Annotated[list[State] | None, Query()] = None,
) -> MergesView:
    """What waits for a second person at the caller's schools (or is in `state`), the latest first."""
    after = page.after(moment, uuid.UUID)
    found = merges.listed(
        session, states=state, after=None if after is None else (after[0], after[1]), limit=page.limit + 1
    )
    rows = page.cut(found, lambda each: (each.merge.proposed_at.isoformat(), each.merge.id))
    audit.record(session, by, "merge.read", "student_merge", "many", count=len(rows))
    return MergesView(merges=_views(session, rows, by))


@door.get("/{merge_id}", roles=LOOKING)
def show(merge_id: Id, session: SessionDep, by: ActorDep) -> MergeView:
    """One merge, with what speaks against it; the reading is kept account of."""
    found = merges.shown(session, merge_id)
    audit.record(session, by, "merge.read", "student_merge", merge_id)
    return _views(session, [found], by)[0]


@door.post("/{merge_id}/confirmation", roles=DECIDING)
def confirm(
    merge_id: Id, body: ConfirmationBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> MergeView:
    """The second person's word that the two are one; each warning has to be named as seen."""
    merges.confirm(session, merge_id, body.seen, by=by, now=now, follow=tying.follow)
    return _answered(session, merge_id, by, response)


@door.post("/{merge_id}/refusal", roles=DECIDING)
def refuse(
    merge_id: Id, body: RefusalBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> MergeView:
    """The second person's no, to a merge or to taking one apart."""
    merges.refuse(session, merge_id, body.reason, by=by, now=now)
    return _answered(session, merge_id, by, response)


@door.post("/{merge_id}/withdrawal", roles=DECIDING)
def withdraw(merge_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> MergeView:
    """Takes back one's own proposal, or one's own word that it should be taken apart."""
    merges.withdraw(session, merge_id, by=by, now=now)
    return _answered(session, merge_id, by, response)


@door.post("/{merge_id}/split", roles=DECIDING)
def ask_split(
    merge_id: Id, body: SplitBody, session: SessionDep, by: ActorDep, now: NowDep, response: Response
) -> MergeView:
    """Says that the two are two children after all; until a second person confirms it they are one."""
    merges.ask_split(session, merge_id, body.reason, by=by, now=now)
    return _answered(session, merge_id, by, response)


@door.post("/{merge_id}/split/confirmation", roles=DECIDING)
def confirm_split(merge_id: Id, session: SessionDep, by: ActorDep, now: NowDep, response: Response) -> MergeView:
    """The second person's word that they are two; what came to each row stays there, and what was left in the other
    one's case rings again."""
    merges.confirm_split(session, merge_id, by=by, now=now, follow=tying.follow)
    return _answered(session, merge_id, by, response)


def _answered(session: Session, merge_id: uuid.UUID, by: access.Actor, response: Response) -> MergeView:
    session.flush()
    located(response, f"/v1/merges/{merge_id}")
    return _views(session, [merges.shown(session, merge_id)], by)[0]


def _views(session: Session, found: Sequence[Pair], by: access.Actor) -> list[MergeView]:
    codes = school_codes(session)
    ids = {student_id for each in found for student_id in _known_by_name(by, each.merge)}
    schools = {school for each in found for school in (each.merge.school_id, each.merge.duplicate_school_id)}
    with access.widened(session, schools if ids else frozenset()):
        names = students.named(session, ids, by=by)
        enrolled = {student_id: _enrolled(session, student_id) for student_id in ids}
    return [_view(session, each, codes, names, enrolled) for each in found]


def _known_by_name(by: access.Actor, merge: StudentMerge) -> set[uuid.UUID]:
    """Both rows for whoever decides at either school, for nobody can say of half a child who it is; one's own school's
    for a counselor."""
    rows = {merge.student_id: merge.school_id, merge.duplicate_id: merge.duplicate_school_id}
    deciding = KNOWING_NAMES & DECIDING
    is_deciding = any(by.has(*deciding, school_id=school_id) for school_id in rows.values())
    return {row for row, school_id in rows.items() if is_deciding or by.has(*KNOWING_NAMES, school_id=school_id)}


def _enrolled(session: Session, student_id: uuid.UUID) -> Enrolled | None:
    try:
        return students.get(session, student_id)
    except NotFound:  # at a third school by now
        return None


def _view(
    session: Session,
    found: Pair,
    codes: Mapping[uuid.UUID, str],
    names: Mapping[uuid.UUID, str],
    enrolled: Mapping[uuid.UUID, Enrolled | None],
) -> MergeView:
    merge = found.merge
    columns = {name: getattr(merge, name) for name in MergeView.model_fields if hasattr(merge, name)}
    told = {
        "student": _row(merge.student_id, codes[merge.school_id], names, enrolled),
        "duplicate": _row(merge.duplicate_id, codes[merge.duplicate_school_id], names, enrolled),
        "warnings": [WarningView(code=code, words=contradictions.WARNINGS[code]) for code in found.warnings],  # type: ignore[arg-type]  # of the same list
        "reason": merges.words_of(session, merge, "reason"),
        "refusal": merges.words_of(session, merge, "refusal"),
        "split_reason": merges.words_of(session, merge, "split"),
    }
    return MergeView.model_validate(columns | told)


def _row(
    student_id: uuid.UUID,
    school: str,
    names: Mapping[uuid.UUID, str],
    enrolled: Mapping[uuid.UUID, Enrolled | None],
) -> RowView:
    at = enrolled.get(student_id)
    if at is None:
        return RowView(student_id=student_id, school=school)
    return RowView(
        student_id=student_id,
        school=school,
        student_name=names.get(student_id),
        sex=at.sex,
        born_month=at.born_month,
        grade=at.grade,
        class_name=at.class_name,
    )
