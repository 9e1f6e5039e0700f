"""Keeping account: one line per act in the act's own transaction, without a lock; codes and pseudonyms only."""

import uuid
from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy.orm import Session

from screening import access
from screening.db import Database
from screening.inserting import as_array
from screening.statements import Statement

ACTIONS = frozenset(
    {
        "access.asked",
        "access.assigned",
        "access.budget_spent",
        "access.ended",
        "access.glass_broken",
        "access.glass_opened",
        "access.glass_refused",
        "access.granted",
        "access.read",
        "access.refused",
        "access.reviewed",
        "account.created",
        "account.disabled",
        "account.signed_out",
        "alert.acknowledged",
        "alert.escalated",
        "alert.identified",
        "alert.handed_over",
        "alert.misplaced",
        "alert.moved",
        "alert.raised",
        "alert.read",
        "alert.triage_confirmed",
        "alert.triaged",
        "answers.corrected",
        "answers.saved",
        "answers.submitted",
        "calendar.changed",
        "case.closed",
        "case.closure_proposed",
        "case.closure_rejected",
        "case.handed_over",
        "case.joined",
        "case.noted",
        "case.opened",
        "case.raised",
        "case.read",
        "check_in.done",
        "check_in.missed",
        "code.entered",
        "code.issued",
        "concern.raised",
        "conference.confirmed",
        "conference.written",
        "consent.recorded",
        "coverage.read",
        "coverage.released",
        "delivery.passed_on",
        "database.restored",
        "delivery.refused",
        "destination.added",
        "destination.retired",
        "district.created",
        "door.refused",
        "duty.cancelled",
        "duty.planned",
        "fault.told",
        "erasure.asked",
        "erasure.done",
        "erasure.narrowed",
        "erasure.taken_back",
        "exit.asked",
        "exit.confirmed",
        "exit.handed_over",
        "export.asked",
        "export.decided",
        "export.made",
        "export.read",
        "feed.made",
        "feed.revoked",
        "file.erased",
        "follow_up.done",
        "follow_up.left",
        "follow_up.missed",
        "follow_up.overdue",
        "follow_up.planned",
        "interview.written",
        "keys.rotated",
        "licence.recorded",
        "invitation.accepted",
        "invitation.issued",
        "merge.confirmed",
        "merge.proposed",
        "merge.read",
        "merge.refused",
        "merge.split",
        "merge.split_asked",
        "merge.split_refused",
        "merge.split_withdrawn",
        "merge.withdrawn",
        "model.approved",
        "model.promoted",
        "model.retired",
        "model.trained",
        "password.changed",
        "person.recused",
        "plan.written",
        "queue.read",
        "recovery_codes.issued",
        "referral.accepted",
        "referral.declined",
        "referral.linked",
        "referral.made",
        "referral.read",
        "referral.refused",
        "referral.visit",
        "referral.withdrawn",
        "result.appended",
        "result.read",
        "rights.asked",
        "rights.copied",
        "rights.decided",
        "rights.read",
        "role.granted",
        "role.revoked",
        "roster.committed",
        "roster.proposed",
        "roster.received",
        "round.closed",
        "round.created",
        "round.opened",
        "round.reds_read",
        "round.unreleased_allowed",
        "routine_chat.answered",
        "routine_chats.drawn",
        "school.created",
        "second_factor.added",
        "second_factor.failed",
        "second_factor.proved",
        "second_factor.reset",
        "session.begun",
        "session.ended",
        "sign_in.failed",
        "sign_in.linked",
        "student.exempted",
        "student.named",
        "token.issued",
        "token.revoked",
        "transfer.accepted",
        "transfer.declined",
        "transfer.proposed",
        "transfer.read",
        "transfer.withdrawn",
        "upload.loaded",
        "upload.read",
        "upload.received",
        "upload.refused",
        "webhook.added",
        "webhook.ended",
        "wording.loaded",
        "yield.read",
    }
)

NOWHERE = uuid.UUID(int=0)
"""Stands for the district where none is known: an address that nobody has was tried."""


def record_many(
    session: Session, by: access.Actor, action: str, subject: str, subject_ids: Sequence[uuid.UUID]
) -> None:
    """Adds a line for each of many subjects of one act, in one statement."""
    _must_be_known(action)
    if not subject_ids:
        return
    _RECORD_MANY.later(
        session,
        {
            "district": access.scope_of(session).district_id,
            "actor": by.account_id,
            "role": by.leading_role,
            "action": action,
            "subject": subject,
            "ids": as_array("uuid", subject_ids),
        },
    )


_RECORD_MANY = Statement(
    "insert into audit_entries (district_id, actor_id, role, action, subject, subject_id)"
    " select :district, :actor, :role, :action, :subject, n::text from unnest(cast(:ids as uuid[])) n"
)


def record(
    session: Session, by: access.Actor, action: str, subject: str, subject_id: uuid.UUID | str, **detail: Any
) -> None:
    """Adds one line in the session's transaction.

    `action` is one of ACTIONS (ValueError otherwise); `subject` a table's singular noun; `detail` holds codes and
    counts, never names, answers or free text.
    """
    _must_be_known(action)
    _RECORD.later(
        session,
        {
            "district": access.scope_of(session).district_id,
            "actor": by.account_id,
            "role": by.leading_role,
            "action": action,
            "subject": subject,
            "subject_id": str(subject_id),
            "detail": Jsonb(detail),
        },
    )


_RECORD = Statement(
    "insert into audit_entries (district_id, actor_id, role, action, subject, subject_id, detail)"
    " values (:district, :actor, :role, :action, :subject, :subject_id, :detail)"
)


def security_event(
    database: Database,
    action: str,
    subject: str,
    subject_id: uuid.UUID | str,
    *,
    district_id: uuid.UUID | None,
    account_id: uuid.UUID | None = None,
    role: str = "none",
    **detail: Any,
) -> None:
    """Adds a line in a unit of its own, for what is refused: the refusal rolls the request's unit back.

    Without a district, because nobody knows whose it was, the line stands under NOWHERE.
    """
    where = district_id or NOWHERE
    by = access.Actor(account_id, where, roles=(access.RoleAt(role),))
    with database.unit(access.Scope(where, frozenset())) as session:
        record(session, by, action, subject, subject_id, **detail)


def _must_be_known(action: str) -> None:
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is not an action that is kept account of")
