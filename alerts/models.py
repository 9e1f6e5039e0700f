"""What people do about a result: weighing, alert, acknowledgement, triage, case, follow-up, escalation, delivery."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, Tenant, tenant


class Weighing(Tenant):
    """That a result revision was looked at by the rules, whether or not an alert came of it."""

    __tablename__ = "weighings"
    __table_args__ = (tenant("results", "round_id", "student_id", "revision"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    weighed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Alert(Row):
    """Asks a person to look by a time: one per student and open episode, every signal a reason in it.

    An alert is open until `closed_at`: it ends when triage finds nothing to do, or when its case is closed.
    An upload concern has no student: a critical answer in a row that could not be matched to one.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("rounds", "round_id"),
        tenant("uploads", "upload_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint("state in ('new', 'acknowledged', 'triaged')", name="state"),
        CheckConstraint("source in ('result', 'safety_answer', 'concern', 'upload')", name="source"),
        CheckConstraint("(student_id is null) = (source = 'upload')", name="student"),
        Index("uq_alerts_open", "district_id", "student_id", unique=True, postgresql_where="closed_at is null"),
        Index(None, "district_id", "student_id"),
        Index(
            "uq_alerts_upload_row",
            "district_id",
            "round_id",
            "file_digest",
            "place",
            unique=True,
            postgresql_where="source = 'upload'",
        ),
        Index(
            "ix_alerts_queue",
            "district_id",
            "school_id",
            "tier",
            "answer_by",
            "id",
            postgresql_where="closed_at is null",
        ),
        Index(
            "ix_alerts_clock",
            "district_id",
            "answer_by",
            postgresql_where="closed_at is null and state = 'new'",
        ),
    )
    school_id: Mapped[uuid.UUID | None]
    student_id: Mapped[uuid.UUID | None]
    round_id: Mapped[uuid.UUID | None]
    upload_id: Mapped[uuid.UUID | None]
    file_digest: Mapped[bytes | None]
    """Keyed hash of the file's bytes, so that the same file sent again does not ring again."""
    place: Mapped[str | None]
    """Sheet and row in the uploaded file, as the spreadsheet shows them."""
    source: Mapped[str]
    tier: Mapped[int] = mapped_column(SmallInteger)
    has_self_harm: Mapped[bool]
    state: Mapped[str] = mapped_column(server_default="new")
    opened_at: Mapped[dt.datetime]
    raised_at: Mapped[dt.datetime]
    """When it was last raised: the clocks run from here."""
    answer_by: Mapped[dt.datetime]
    see_by: Mapped[dt.datetime]
    owner_id: Mapped[uuid.UUID | None]
    closed_at: Mapped[dt.datetime | None]


class AlertReason(Tenant):
    """A signal in an alert: which rule, from which source, once each."""

    __tablename__ = "alert_reasons"
    __table_args__ = (tenant("alerts", "alert_id"),)
    alert_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    """result/<round>/<attempt>, safety_answer/<round>/<attempt>, upload/<file digest>/<place>, concern/<id>."""
    school_id: Mapped[uuid.UUID | None]
    tier: Mapped[int] = mapped_column(SmallInteger)
    noticed_at: Mapped[dt.datetime]
    sealed: Mapped[bytes | None]
    """What a person wrote when raising a concern."""


class Acknowledgement(Row):
    __tablename__ = "acknowledgements"
    __table_args__ = (tenant("alerts", "alert_id"), Index(None, "district_id", "alert_id"))
    alert_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID | None]
    raised_at: Mapped[dt.datetime]
    """Of the alert that was answered: an alert raised again wants a new answer."""
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class Triage(Row):
    """What a person found on looking: the alert's outcome, never a lower tier."""

    __tablename__ = "triages"
    __table_args__ = (
        tenant("alerts", "alert_id"),
        tenant("cases", "case_id"),
        Index(None, "district_id", "alert_id"),
        CheckConstraint("outcome in ('case_opened', 'merged', 'monitor', 'not_confirmed')", name="outcome"),
    )
    alert_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID | None]
    case_id: Mapped[uuid.UUID | None]
    outcome: Mapped[str]
    contact: Mapped[str]
    is_student_seen: Mapped[bool]
    tier: Mapped[int] = mapped_column(SmallInteger)
    sealed_note: Mapped[bytes]
    proposed_by: Mapped[uuid.UUID]
    proposed_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    """The second person, without whom an orange or red alert cannot end as monitor or not_confirmed."""
    confirmed_at: Mapped[dt.datetime | None]


class Case(Row):
    """The student's open concern: at most one at a time; its tier is the highest of every signal."""

    __tablename__ = "cases"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint("state in ('open', 'follow_up', 'closure_proposed', 'closed')", name="state"),
        Index("uq_cases_open", "district_id", "student_id", unique=True, postgresql_where="state <> 'closed'"),
        Index(None, "district_id", "school_id", "state"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(server_default="open")
    owner_id: Mapped[uuid.UUID]
    opened_by: Mapped[uuid.UUID]
    opened_at: Mapped[dt.datetime]
    prior_case_id: Mapped[uuid.UUID | None]
    closed_at: Mapped[dt.datetime | None]


class CaseEntry(Row):
    """A line of the case's story; the words are sealed, the kind is not."""

    __tablename__ = "case_entries"
    __table_args__ = (tenant("cases", "case_id"), Index(None, "district_id", "case_id", "at"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    sealed: Mapped[bytes | None]
    by: Mapped[uuid.UUID | None]
    at: Mapped[dt.datetime]


class Interview(Row):
    __tablename__ = "interviews"
    __table_args__ = (
        tenant("cases", "case_id"),
        Index(None, "district_id", "case_id"),
        CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name="mode"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    mode: Mapped[str]
    is_student_seen: Mapped[bool]
    has_current_risk: Mapped[bool]
    is_concern_confirmed: Mapped[bool]
    sealed_note: Mapped[bytes]
    by: Mapped[uuid.UUID]
    held_at: Mapped[dt.datetime]
    written_at: Mapped[dt.datetime]


class FollowUp(Row):
    """A contact that was promised by a time."""

    __tablename__ = "follow_ups"
    __table_args__ = (
        tenant("cases", "case_id"),
        CheckConstraint("mode in ('meeting', 'home_visit', 'video', 'phone')", name="mode"),
        CheckConstraint("state in ('planned', 'due', 'overdue', 'done', 'missed')", name="state"),
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
    sealed_note: Mapped[bytes | None]


class Closure(Row):
    """How a case ended: proposed by one person and, for orange and red, confirmed by another."""

    __tablename__ = "closures"
    __table_args__ = (tenant("cases", "case_id"), Index(None, "district_id", "case_id"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    reason: Mapped[str]
    sealed_note: Mapped[bytes]
    proposed_by: Mapped[uuid.UUID]
    proposed_at: Mapped[dt.datetime]
    confirmed_by: Mapped[uuid.UUID | None]
    confirmed_at: Mapped[dt.datetime | None]
    rejected_at: Mapped[dt.datetime | None]


class Escalation(Row):
    """That a clock ran out and the next person was told; once per subject, clock and rung."""

    __tablename__ = "escalations"
    __table_args__ = (
        UniqueConstraint("district_id", "subject", "subject_id", "clock_at", "rung"),
        CheckConstraint("subject in ('alert', 'follow_up')", name="subject"),
    )
    school_id: Mapped[uuid.UUID | None]
    subject: Mapped[str]
    subject_id: Mapped[uuid.UUID]
    clock_at: Mapped[dt.datetime]
    """The instant that ran out, so that an alert raised again climbs again."""
    rung: Mapped[int] = mapped_column(SmallInteger)
    role: Mapped[str]
    due_at: Mapped[dt.datetime]
    at: Mapped[dt.datetime]


class Delivery(Row):
    """A message that somebody should look; written before it is sent, never with anything clinical in it."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("district_id", "subject", "subject_id", "occasion", "recipient_id"),
        CheckConstraint("state in ('pending', 'sent', 'refused')", name="state"),
        Index("ix_deliveries_pending", "district_id", "try_at", postgresql_where="state = 'pending'"),
    )
    school_id: Mapped[uuid.UUID | None]
    recipient_id: Mapped[uuid.UUID]
    subject: Mapped[str]
    subject_id: Mapped[uuid.UUID]
    occasion: Mapped[str]
    """raised/<instant>, rung/<n>/<instant>, overdue: the same occasion is told once."""
    urgency: Mapped[str]
    due_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="pending")
    channel: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    try_at: Mapped[dt.datetime]
    sent_at: Mapped[dt.datetime | None]
    problem: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
