"""The work in a case: talks, promised contacts, plans, conferences."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, tenant


class Interview(Row):
    __tablename__ = "interviews"
    __table_args__ = (
        tenant("cases", "case_id"),
        Index(None, "district_id", "case_id"),
        CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name="mode"),
        CheckConstraint("outcome in ('disclosed', 'denied', 'misclick', 'not_answered')", name="outcome"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    mode: Mapped[str]
    is_student_seen: Mapped[bool]
    has_current_risk: Mapped[bool]
    is_concern_confirmed: Mapped[bool]
    sealed_note: Mapped[bytes]
    outcome: Mapped[str | None]
    """Of a safety check: what the student said when asked. None for any other talk."""
    sealed_form: Mapped[bytes | None]
    """The answers of a safety check."""
    by: Mapped[uuid.UUID]
    held_at: Mapped[dt.datetime]
    written_at: Mapped[dt.datetime]


class FollowUp(Row):
    """A contact that was promised by a time."""

    __tablename__ = "follow_ups"
    __table_args__ = (
        tenant("cases", "case_id"),
        CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name="mode"),
        CheckConstraint("state in ('planned', 'due', 'overdue', 'done', 'missed', 'left')", name="state"),
        Index(None, "district_id", "case_id"),
        Index(
            "ix_follow_ups_waiting",
            "district_id",
            "due_at",
            postgresql_where="state in ('planned', 'due', 'overdue')",
        ),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    mode: Mapped[str]
    due_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="planned")
    planned_by: Mapped[uuid.UUID]
    planned_at: Mapped[dt.datetime]
    ended_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[dt.datetime | None]
    missed_reason: Mapped[str | None]
    left_reason: Mapped[str | None]
    """Why it was taken off the list before its time: without a reason nothing leaves."""
    sealed_note: Mapped[bytes | None]


class Plan(Row):
    """One version of a student's individual plan; a better one is a further version."""

    __tablename__ = "plans"
    __table_args__ = (tenant("cases", "case_id"), UniqueConstraint("district_id", "case_id", "version"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    version: Mapped[int] = mapped_column(SmallInteger)
    owner_id: Mapped[uuid.UUID]
    review_on: Mapped[dt.date]
    sealed: Mapped[bytes]
    """Goals, actions, and who may know what."""
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class Conference(Row):
    """A decision about a case that two people stand for, one of them the school's lead."""

    __tablename__ = "conferences"
    __table_args__ = (
        tenant("cases", "case_id"),
        Index(None, "district_id", "case_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint("confirmed_by <> written_by", name="two"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    attended: Mapped[list[str]]
    """The functions of those who were there, never names."""
    sealed_decision: Mapped[bytes]
    held_at: Mapped[dt.datetime]
    written_by: Mapped[uuid.UUID]
    written_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    confirmed_at: Mapped[dt.datetime | None]
