"""Looking after special groups, outside any alert and case."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, tenant


class CheckIn(Row):
    """A friendly look at a student of a special group: scheduled by membership alone, which raises no tier."""

    __tablename__ = "check_ins"
    __table_args__ = (
        tenant("students", "student_id"),
        CheckConstraint("state in ('planned', 'done', 'missed')", name="state"),
        Index("uq_check_ins_waiting", "district_id", "student_id", unique=True, postgresql_where="state = 'planned'"),
        Index("ix_check_ins_due", "district_id", "school_id", "due_on", postgresql_where="state = 'planned'"),
        Index(None, "district_id", "student_id"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    due_on: Mapped[dt.date]
    state: Mapped[str] = mapped_column(server_default="planned")
    outcome: Mapped[str | None]
    ended_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[dt.datetime | None]
