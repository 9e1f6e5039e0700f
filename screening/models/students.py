"""Students: the pseudonym, the vault, enrollment, and that two rows are one child."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, Tenant, tenant


class Student(Row):
    """A pseudonym: what screening needs to know, and nothing that names the child."""

    __tablename__ = "students"
    __table_args__ = (
        tenant("schools", "school_id"),
        Index(None, "school_id"),
        CheckConstraint("sex in ('f', 'm', 'x')", name="sex"),
    )
    school_id: Mapped[uuid.UUID]
    sex: Mapped[str] = mapped_column(server_default="x")
    born_month: Mapped[dt.date | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Identity(Tenant):
    """The vault: name, number, birth date and phone of one student, sealed under that student's own key."""

    __tablename__ = "identities"
    __table_args__ = (tenant("students", "student_id"),)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID]
    wrapped_key: Mapped[bytes]
    sealed: Mapped[bytes]
    name_hash: Mapped[bytes]


class SpecialGroup(Row):
    """Membership of a special group, kept apart from both the vault and the answers."""

    __tablename__ = "special_groups"
    __table_args__ = (
        tenant("students", "student_id"),
        Index(None, "district_id", "student_id"),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    group_code: Mapped[str]
    since_on: Mapped[dt.date]
    until_on: Mapped[dt.date | None]


class Enrollment(Row):
    """A student's span at a school, in a grade and a class, under the number that school gave."""

    __tablename__ = "enrollments"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("schools", "school_id"),
        Index(
            "uq_enrollments_current",
            "district_id",
            "student_id",
            unique=True,
            postgresql_where="until_on is null",
        ),
        Index(
            "uq_enrollments_number",
            "district_id",
            "number_hash",
            "school_id",
            unique=True,
            postgresql_where="until_on is null",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    grade: Mapped[int] = mapped_column(SmallInteger)
    class_name: Mapped[str] = mapped_column(server_default="")
    number_hash: Mapped[bytes]
    since_on: Mapped[dt.date]
    until_on: Mapped[dt.date | None]


class StudentMerge(Row):
    """That two student rows are one child: proposed by one person, confirmed by another, and undone by two again.

    Nothing that is kept of either row is moved or written anew; while it stands (`merged`), both are read as one.
    It belongs to the schools of both rows: each sees it.
    """

    __tablename__ = "student_merges"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("students", "duplicate_id"),
        CheckConstraint("student_id <> duplicate_id", name="rows"),
        CheckConstraint("state in ('proposed', 'merged', 'refused', 'withdrawn', 'split')", name="state"),
        CheckConstraint("(state = 'proposed') = (decided_by is null)", name="decided"),
        CheckConstraint("state = 'withdrawn' or decided_by is null or decided_by <> proposed_by", name="two"),
        CheckConstraint("(state = 'split') = (split_by is not null)", name="split"),
        CheckConstraint(
            "split_by is null or (split_asked_by is not null and split_by <> split_asked_by)", name="apart"
        ),
        Index(
            "uq_student_merges_standing",
            "district_id",
            "duplicate_id",
            unique=True,
            postgresql_where="state in ('proposed', 'merged')",
        ),
        Index("ix_student_merges_merged", "district_id", "student_id", postgresql_where="state = 'merged'"),
    )
    student_id: Mapped[uuid.UUID]
    """The row under which the child is counted."""
    duplicate_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    duplicate_school_id: Mapped[uuid.UUID]
    state: Mapped[str]
    warnings: Mapped[list[str]] = mapped_column(server_default="{}")
    """What spoke against it, as codes, and was seen by whoever confirmed it."""
    sealed_reason: Mapped[bytes]
    proposed_by: Mapped[uuid.UUID]
    proposed_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    sealed_refusal: Mapped[bytes | None]
    sealed_split_reason: Mapped[bytes | None]
    split_asked_by: Mapped[uuid.UUID | None]
    split_asked_at: Mapped[dt.datetime | None]
    split_by: Mapped[uuid.UUID | None]
    split_at: Mapped[dt.datetime | None]
