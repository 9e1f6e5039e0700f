"""What asks a person to look: the weighing, the alert with its reasons, who answered, and what came of looking."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, Tenant, tenant


class Weighing(Tenant):
    """That a result revision was looked at by the rules, whether or not an alert came of it."""

    __tablename__ = "weighings"
    __table_args__ = (
        tenant("results", "round_id", "student_id", "revision"),
        Index("ix_weighings_red", "district_id", "student_id", "round_id", postgresql_where="tier = 3"),
    )
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
        Index(None, "student_id"),
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
        CheckConstraint(
            "outcome in ('case_opened', 'merged', 'monitor', 'not_confirmed', 'wrong_student')", name="outcome"
        ),
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
