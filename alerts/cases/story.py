"""A case's story: all that happened in it, in order of time."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from alerts import forms
from alerts.cases.holding import get, unseal
from alerts.models import Case, CaseEntry, Closure, FollowUp, Interview, Triage
from screening import access, sealing


@dataclass(frozen=True)
class Line:
    """One thing that happened in a case; `words` are opened from their seal."""

    at: dt.datetime
    kind: str
    subject_id: uuid.UUID
    by: uuid.UUID | None
    words: str | None = None
    fields: Mapping[str, str | bool] | None = None
    """The answers of a form."""


@dataclass(frozen=True)
class Story:
    case: Case
    lines: tuple[Line, ...]
    triages: tuple[Triage, ...]
    interviews: tuple[Interview, ...]
    follow_ups: tuple[FollowUp, ...]
    closures: tuple[Closure, ...]


def story(session: Session, case_id: uuid.UUID) -> Story:
    """All that happened in a case in order of time. The door that shows it keeps account of the reading."""
    case = get(session, case_id)
    here = {"district_id": case.district_id, "case_id": case.id}
    entries = session.scalars(_own(session, CaseEntry, here)).all()
    found = Story(
        case=case,
        lines=(),
        triages=tuple(session.scalars(_own(session, Triage, here).order_by(Triage.proposed_at))),
        interviews=tuple(session.scalars(_own(session, Interview, here).order_by(Interview.held_at))),
        follow_ups=tuple(session.scalars(_own(session, FollowUp, here).order_by(FollowUp.due_at))),
        closures=tuple(session.scalars(_own(session, Closure, here).order_by(Closure.proposed_at))),
    )
    lines = sorted([*_told(session, entries), *_lines(session, found)], key=lambda line: (line.at, line.kind))
    return Story(case, tuple(lines), found.triages, found.interviews, found.follow_ups, found.closures)


_Part = TypeVar("_Part", CaseEntry, Triage, Interview, FollowUp, Closure)


def _own(session: Session, part: type[_Part], here: Mapping[str, uuid.UUID]) -> Select[Any]:
    """What the scope's schools wrote: of a case that came from another school its past stays there."""
    return select(part).filter_by(**here).where(access.of_scope(session, part.school_id))


def _told(session: Session, entries: Sequence[CaseEntry]) -> Iterator[Line]:
    for entry in entries:
        words = unseal(session, entry.case_id, entry.id, entry.sealed)
        if words is not None and entry.kind.split("/")[0] in forms.FORMS:
            told = json.loads(words)
            yield Line(entry.at, entry.kind, entry.id, entry.by, told["words"], told["fields"])
        else:
            yield Line(entry.at, entry.kind, entry.id, entry.by, words)


def _lines(session: Session, told: Story) -> Iterator[Line]:
    case = told.case
    yield Line(case.opened_at, "opened", case.id, case.opened_by)
    for triage in told.triages:
        words = sealing.keys(session).open_text(triage.sealed_note, f"alert/{triage.alert_id}/{triage.id}")
        yield Line(triage.proposed_at, f"triage/{triage.outcome}", triage.id, triage.proposed_by, words)
    for held in told.interviews:
        form = unseal(session, case.id, held.id, held.sealed_form)
        words_found = unseal(session, case.id, held.id, held.sealed_note)
        kind = f"safety_check/{held.outcome}" if held.outcome else "interview"
        yield Line(held.held_at, kind, held.id, held.by, words_found, json.loads(form) if form else None)
    for follow_up in told.follow_ups:
        yield Line(follow_up.planned_at, "follow_up/planned", follow_up.id, follow_up.planned_by)
        if follow_up.ended_at:
            words_of_end = unseal(session, case.id, follow_up.id, follow_up.sealed_note)
            kind = f"follow_up/{follow_up.state}"
            yield Line(follow_up.ended_at, kind, follow_up.id, follow_up.ended_by, words_of_end)
    for closure in told.closures:
        words_why = unseal(session, case.id, closure.id, closure.sealed_note)
        yield Line(closure.proposed_at, f"closure/{closure.reason}", closure.id, closure.proposed_by, words_why)
        if closure.confirmed_at:
            yield Line(closure.confirmed_at, "closure/confirmed", closure.id, closure.confirmed_by)
