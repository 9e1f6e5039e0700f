"""The student's open concern, its story and its end, and who must not decide about it."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, tenant


class Case(Row):
    """The student's open concern: at most one at a time; its tier is the highest of every signal."""

    __tablename__ = "cases"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint(
            "state in ('open', 'assessing', 'conference', 'plan_active', 'referred', 'follow_up', 'crisis',"
            " 'on_leave', 'return_assessment', 'closure_proposed', 'closed')",
            name="state",
        ),
        Index("uq_cases_open", "district_id", "student_id", unique=True, postgresql_where="state <> 'closed'"),
        Index(None, "school_id", "state"),
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
    """A line of the case's story; the words (and the fields of a form) are sealed, the kind is not."""

    __tablename__ = "case_entries"
    __table_args__ = (tenant("cases", "case_id"), Index(None, "district_id", "case_id", "at"))
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    sealed: Mapped[bytes | None]
    by: Mapped[uuid.UUID | None]
    at: Mapped[dt.datetime]


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


class Recusal(Row):
    """That somebody must not decide about a student: is the subject of what is said, or close to the family."""

    __tablename__ = "recusals"
    __table_args__ = (
        tenant("students", "student_id"),
        UniqueConstraint("district_id", "student_id", "person_id"),
        CheckConstraint("reason in ('subject', 'relative', 'other')", name="reason"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    person_id: Mapped[uuid.UUID]
    reason: Mapped[str]
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]
