"""What students and guardians decide and ask for, and what leaves by name: consent, erasure, requests, exports."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, tenant


class Consent(Row):
    """One decision by one person; the latest by each giver is the one in force."""

    __tablename__ = "consents"
    __table_args__ = (
        tenant("students", "student_id"),
        Index(None, "district_id", "student_id", "given_by", "decided_at"),
        CheckConstraint("decision in ('granted', 'declined', 'withdrawn')", name="decision"),
        CheckConstraint("given_by in ('guardian', 'student')", name="given_by"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    decision: Mapped[str]
    given_by: Mapped[str]
    notice_version: Mapped[str]
    channel: Mapped[str]
    decided_at: Mapped[dt.datetime]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    recorded_by: Mapped[uuid.UUID | None]


class Erasure(Row):
    """That a student's answers, or all that is known of the person, are to be erased; the fact outlives the content."""

    __tablename__ = "erasures"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("extent in ('answers', 'person')", name="extent"),
        CheckConstraint("reason in ('withdrawal', 'request', 'retention')", name="reason"),
        CheckConstraint("state in ('waiting', 'done', 'taken_back')", name="state"),
        Index(
            "uq_erasures_waiting",
            "district_id",
            "student_id",
            "extent",
            unique=True,
            postgresql_where="state = 'waiting'",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    extent: Mapped[str]
    reason: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    asked_by: Mapped[uuid.UUID | None]
    asked_at: Mapped[dt.datetime]
    due_at: Mapped[dt.datetime]
    narrowed_at: Mapped[dt.datetime | None]
    """Since when an open red keeps it waiting: until that is resolved, what is left serves safety alone."""
    ended_at: Mapped[dt.datetime | None]


class RightsRequest(Row):
    """What a student or a guardian asks for as of right: to see, copy, correct or delete, or that a person looks again.

    It is answered in writing by a day, granted or not.
    """

    __tablename__ = "rights_requests"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("kind in ('see', 'copy', 'correct', 'delete', 'review')", name="kind"),
        CheckConstraint("asked_as in ('student', 'guardian')", name="asked_as"),
        CheckConstraint("state in ('waiting', 'granted', 'refused')", name="state"),
        CheckConstraint("(state = 'waiting') = (decided_by is null)", name="decided"),
        CheckConstraint("(state = 'waiting') = (sealed_answer is null)", name="answered"),
        CheckConstraint("extent in ('answers', 'person')", name="extent"),
        Index(
            "uq_rights_requests_waiting",
            "district_id",
            "student_id",
            "kind",
            "asked_as",
            unique=True,
            postgresql_where="state = 'waiting'",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    asked_as: Mapped[str]
    asked_by: Mapped[uuid.UUID]
    """Whoever asked, or wrote down what was asked on paper."""
    sealed_words: Mapped[bytes]
    asked_at: Mapped[dt.datetime]
    due_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    sealed_answer: Mapped[bytes | None]
    parts: Mapped[list[str]] = mapped_column(server_default="{}")
    """What may be seen and copied."""
    until_at: Mapped[dt.datetime | None]
    """Until when."""
    extent: Mapped[str | None]
    """What is erased: answers or the person."""


class Export(Row):
    """Rows by name that left in one piece: for which purpose, how many, and who said so where they were many.

    Its id is the mark that stands in each row of what was handed out.
    """

    __tablename__ = "exports"
    __table_args__ = (
        tenant("schools", "school_id"),
        CheckConstraint("what in ('student_codes', 'guardian_codes')", name="what"),
        CheckConstraint("purpose in ('screening', 'consent')", name="purpose"),
        CheckConstraint("state in ('waiting', 'granted', 'refused', 'done')", name="state"),
        CheckConstraint("decided_by is null or decided_by <> person_id", name="two"),
        CheckConstraint("state <> 'done' or row_count <= 50 or decided_by is not null", name="many"),
        Index(None, "district_id", "asked_at"),
    )
    school_id: Mapped[uuid.UUID]
    person_id: Mapped[uuid.UUID]
    what: Mapped[str]
    purpose: Mapped[str]
    state: Mapped[str]
    row_count: Mapped[int]
    asked_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    until_at: Mapped[dt.datetime | None]
