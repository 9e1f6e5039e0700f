"""How an alert or a case goes from one school to another."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, tenant


class Transfer(Row):
    """That a student's alert or case went from one school to another. It belongs to both: each sees it.

    An open alert has `passed` at once. A case waits until the new school takes it over; `announced` is one whose
    student does not stand on the new school's list yet.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("cases", "case_id"),
        tenant("alerts", "alert_id"),
        CheckConstraint("tier between 1 and 3", name="tier"),
        CheckConstraint(
            "state in ('announced', 'waiting', 'accepted', 'declined', 'withdrawn', 'passed')", name="state"
        ),
        CheckConstraint("(state = 'passed') = (case_id is null)", name="case"),
        CheckConstraint("(state <> 'waiting') or (accept_by is not null)", name="clock"),
        CheckConstraint("from_school_id <> to_school_id", name="schools"),
        Index(
            "uq_transfers_open",
            "district_id",
            "case_id",
            unique=True,
            postgresql_where="state in ('announced', 'waiting')",
        ),
        Index(None, "district_id", "to_school_id", "state"),
        Index(None, "district_id", "from_school_id", "state"),
        Index(None, "district_id", "student_id"),
        Index("ix_transfers_clock", "district_id", "accept_by", postgresql_where="state = 'waiting'"),
    )
    student_id: Mapped[uuid.UUID]
    case_id: Mapped[uuid.UUID | None]
    alert_id: Mapped[uuid.UUID | None]
    from_school_id: Mapped[uuid.UUID]
    to_school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str]
    sealed_summary: Mapped[bytes | None]
    """The minimum that the old school's counselor wants the new one to know; all other words stay where they are."""
    proposed_by: Mapped[uuid.UUID | None]
    """None: the list of students moved the child."""
    proposed_at: Mapped[dt.datetime]
    accept_by: Mapped[dt.datetime | None]
    answered_by: Mapped[uuid.UUID | None]
    answered_at: Mapped[dt.datetime | None]
    declined_reason: Mapped[str | None]
    sealed_answer: Mapped[bytes | None]
