"""The account of who did what to which pseudonym: codes only."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import select

from api.deps import Door, Id, PageDep, Sender, SessionDep, View
from screening import access
from screening.models import AuditEntry

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
    return LinesView(entries=[LineView.model_validate(line) for line in rows])


def _position(text: str) -> int:
    found = int(text[:20])
    if not 0 <= found < 2**63:
        raise ValueError(text)
    return found
