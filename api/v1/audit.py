"""The account of who did what to which pseudonym: codes only."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from api.deps import Door, Id, PageDep, Sender, SessionDep, View
from screening import access, own_copy
from screening.models import AuditEntry, AuditSeal

door = Door(prefix="/v1/audit", tag="audit")


class LineView(View):
    id: int
    at: dt.datetime
    actor_id: uuid.UUID | None
    role: str
    action: str
    subject: str
    subject_id: str
    detail: dict[str, Any]
    sequence: int | None = None
    """Its place in the district's chain; none in the first seconds."""
    seal: str | None = None
    """The hash of that place, as signed heads know it."""


class LinesView(View):
    entries: list[LineView]


@door.get("", roles={"auditor", "privacy_officer"})
def listed(session: SessionDep, page: PageDep, action: Sender | None = None, actor: Id | None = None) -> LinesView:
    """The lines of account, the latest first."""
    wanted = select(AuditEntry).where(AuditEntry.district_id == access.scope_of(session).district_id)
    if action is not None:
        wanted = wanted.where(AuditEntry.action == action)
    if actor is not None:
        wanted = wanted.where(AuditEntry.actor_id == actor)
    after = page.after(_position)
    if after is not None:
        wanted = wanted.where(AuditEntry.id < after[0])
    found = list(session.scalars(wanted.order_by(AuditEntry.id.desc()).limit(page.limit + 1)))
    rows = page.cut(found, lambda line: (line.id,))
    seals = _seals(session, [line.id for line in rows])
    return LinesView(entries=[_view(line, seals.get(line.id)) for line in rows])


class ReadingView(View):
    """That somebody opened something about a student: when, in which role, and whether it was the name or more."""

    at: dt.datetime
    role: str
    what: Literal["name", "record"]


class ReadingsView(View):
    readings: list[ReadingView]


@door.get("/{student_id}", roles={"student", "guardian"})
def readings(session: SessionDep, page: PageDep, student_id: Id) -> ReadingsView:
    """Who opened one's own, or one's child's, record: the latest first. That there is a case is not told by it."""
    after = page.after(_position)
    found = session.execute(
        _READINGS,
        {
            "district": access.scope_of(session).district_id,
            "student": student_id,
            "before": after[0] if after else 2**63 - 1,
            "limit": page.limit + 1,
        },
    ).all()
    rows = page.cut(found, lambda row: (row.id,))
    return ReadingsView(readings=[ReadingView.model_validate(row, from_attributes=True) for row in rows])


_READINGS = text(
    "select id, at, role, case action when 'student.named' then 'name' else 'record' end as what from audit_entries"  # noqa: S608 - our own SQL
    f" where district_id = :district and {own_copy.OPENED}"
    " and subject_id in (select cast(:student as uuid)::text"
    " union all select id::text from alerts where district_id = :district and student_id = :student"
    " union all select id::text from cases where district_id = :district and student_id = :student)"
    " and id < :before order by id desc limit :limit"
)


def _view(line: AuditEntry, seal: AuditSeal | None) -> LineView:
    view = LineView.model_validate(line)
    if seal is not None:
        view.sequence, view.seal = seal.sequence, seal.hash.hex()
    return view


def _seals(session: Session, ids: Sequence[int]) -> dict[int, AuditSeal]:
    found = session.scalars(
        select(AuditSeal).where(
            AuditSeal.district_id == access.scope_of(session).district_id, AuditSeal.entry_id.in_(ids)
        )
    )
    return {seal.entry_id: seal for seal in found}


def _position(text: str) -> int:
    found = int(text[:20])
    if not 0 <= found < 2**63:
        raise ValueError(text)
    return found
