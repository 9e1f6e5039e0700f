"""Keeping account: one line per act in the act's own transaction, without a lock; codes and pseudonyms only."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from screening import access
from screening.models import AuditEntry

ACTIONS = frozenset(
    {
        "account.created",
        "alert.acknowledged",
        "alert.escalated",
        "alert.identified",
        "alert.raised",
        "alert.read",
        "alert.triage_confirmed",
        "alert.triaged",
        "answers.corrected",
        "answers.saved",
        "answers.submitted",
        "case.closed",
        "case.closure_proposed",
        "case.closure_rejected",
        "case.joined",
        "case.noted",
        "case.opened",
        "case.raised",
        "case.read",
        "concern.raised",
        "consent.recorded",
        "coverage.read",
        "coverage.released",
        "delivery.refused",
        "district.created",
        "file.erased",
        "follow_up.done",
        "follow_up.missed",
        "follow_up.overdue",
        "follow_up.planned",
        "interview.written",
        "queue.read",
        "result.appended",
        "result.read",
        "role.granted",
        "role.revoked",
        "roster.committed",
        "roster.proposed",
        "roster.received",
        "round.closed",
        "round.created",
        "round.opened",
        "round.reds_read",
        "school.created",
        "student.exempted",
        "student.named",
        "token.issued",
        "token.revoked",
        "upload.loaded",
        "upload.read",
        "upload.received",
        "upload.refused",
    }
)


def record_many(
    session: Session, by: access.Actor, action: str, subject: str, subject_ids: Sequence[uuid.UUID]
) -> None:
    """Adds a line for each of many subjects of one act, in one statement."""
    _must_be_known(action)
    if not subject_ids:
        return
    session.execute(
        text(
            "insert into audit_entries (district_id, actor_id, role, action, subject, subject_id)"
            " select :district, :actor, :role, :action, :subject, n::text from unnest(cast(:ids as uuid[])) n"
        ),
        {
            "district": access.scope_of(session).district_id,
            "actor": by.account_id,
            "role": by.leading_role,
            "action": action,
            "subject": subject,
            "ids": list(subject_ids),
        },
    )


def record(
    session: Session, by: access.Actor, action: str, subject: str, subject_id: uuid.UUID | str, **detail: Any
) -> None:
    """Adds one line in the session's transaction.

    `action` is one of ACTIONS (ValueError otherwise); `subject` a table's singular noun; `detail` holds codes and
    counts, never names, answers or free text.
    """
    _must_be_known(action)
    session.execute(
        insert(AuditEntry.__table__),  # type: ignore[arg-type]
        {
            "district_id": access.scope_of(session).district_id,
            "actor_id": by.account_id,
            "role": by.leading_role,
            "action": action,
            "subject": subject,
            "subject_id": str(subject_id),
            "detail": detail,
        },
    )


def _must_be_known(action: str) -> None:
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is not an action that is kept account of")
