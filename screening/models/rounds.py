"""Rounds, their openings at schools, and students' places in them."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, SmallInteger, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, Tenant, new_id, tenant


class Round(Row):
    __tablename__ = "rounds"
    __table_args__ = (
        tenant("rule_sets", "rule_set_id"),
        UniqueConstraint("district_id", "id", "rule_set_id"),
        CheckConstraint("state in ('planned', 'open', 'closed')", name="state"),
        CheckConstraint("opens_at < closes_at", name="window"),
        Index("ix_rounds_due", "district_id", "state", postgresql_where="state <> 'closed'"),
    )
    name: Mapped[str]
    rule_set_id: Mapped[uuid.UUID]
    grades: Mapped[list[int]]
    opens_at: Mapped[dt.datetime]
    closes_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="planned")
    is_historical: Mapped[bool] = mapped_column(server_default="false")
    is_at_home: Mapped[bool] = mapped_column(server_default="false")
    """Whether forms may be filled in away from school, at hours when nobody is there."""
    created_by: Mapped[uuid.UUID | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class RoundInstrument(Tenant):
    """An instrument of a round, and the forms of it (self, youth, parent, teacher) that are asked for."""

    __tablename__ = "round_instruments"
    __table_args__ = (tenant("rounds", "round_id"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    forms: Mapped[list[str]]
    unreleased_reason: Mapped[str | None]
    """Why an administrator asks it although its definition is not released."""


class Opening(Tenant):
    """One school's part of a round."""

    __tablename__ = "openings"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("schools", "school_id"),
        CheckConstraint("state in ('planned', 'open', 'closed')", name="state"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    opens_at: Mapped[dt.datetime]
    closes_at: Mapped[dt.datetime]
    state: Mapped[str] = mapped_column(server_default="planned")


class Assignment(Tenant):
    """A student's (and informant's) place in a round, with school, grade and class as they were on that day."""

    __tablename__ = "assignments"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("students", "student_id"),
        UniqueConstraint("district_id", "id"),
        # not led by the district: before statistics exist the planner would take such an index for a key's check,
        # and read the whole round for each answer
        Index(None, "school_id", "round_id"),
        Index(None, "student_id"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    informant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(default=new_id, server_default=func.gen_random_uuid())
    school_id: Mapped[uuid.UUID]
    grade: Mapped[int] = mapped_column(SmallInteger)
    class_name: Mapped[str] = mapped_column(server_default="")
    exempt_reason: Mapped[str | None]
    exempted_by: Mapped[uuid.UUID | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Draft(Tenant):
    """Answers saved page by page before the form is submitted."""

    __tablename__ = "drafts"
    __table_args__ = (
        ForeignKeyConstraint(["district_id", "assignment_id"], ["assignments.district_id", "assignments.id"]),
    )
    assignment_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID]
    answers: Mapped[list[int]]
    saved_at: Mapped[dt.datetime]


class SafetyAnswer(Tenant):
    """A critical answer that was given on an unfinished form; it stays when the answer is changed afterwards."""

    __tablename__ = "safety_answers"
    __table_args__ = (
        ForeignKeyConstraint(["district_id", "assignment_id"], ["assignments.district_id", "assignments.id"]),
    )
    assignment_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    instrument: Mapped[str]
    answered_at: Mapped[dt.datetime]
