"""The people who work there: their roles, their shifts, and who may see more."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, of_district, tenant


class Staff(Row):
    __tablename__ = "staff"
    __table_args__ = (
        of_district(),
        UniqueConstraint("district_id", "account_id"),
    )
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    sealed: Mapped[bytes]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class StaffRole(Row):
    """A role at one school, or in the whole district when `school_id` is null."""

    __tablename__ = "staff_roles"
    __table_args__ = (tenant("staff", "staff_id"), tenant("schools", "school_id"))
    staff_id: Mapped[uuid.UUID]
    role: Mapped[str]
    school_id: Mapped[uuid.UUID | None]
    since_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    until_at: Mapped[dt.datetime | None]


class Duty(Row):
    """A shift: who is to be reached for a school, or at the district's desk, from when until when."""

    __tablename__ = "duties"
    __table_args__ = (
        tenant("staff", "staff_id"),
        tenant("schools", "school_id"),
        CheckConstraint("place in ('first', 'deputy')", name="place"),
        CheckConstraint("starts_at < ends_at", name="hours"),
        Index("ix_duties_hours", "district_id", "ends_at", postgresql_where="cancelled_at is null"),
    )
    school_id: Mapped[uuid.UUID | None]
    """None: the district's desk."""
    staff_id: Mapped[uuid.UUID]
    place: Mapped[str]
    starts_at: Mapped[dt.datetime]
    ends_at: Mapped[dt.datetime]
    planned_by: Mapped[uuid.UUID]
    planned_at: Mapped[dt.datetime]
    cancelled_by: Mapped[uuid.UUID | None]
    cancelled_at: Mapped[dt.datetime | None]


class AccessRequest(Row):
    """That one of the staff may see what is kept of one student: assigned, asked for and granted, or in an emergency.

    An `assignment` lasts until somebody ends it; what was asked for or opened by breaking the glass ends by itself.
    """

    __tablename__ = "access_requests"
    __table_args__ = (
        tenant("students", "student_id"),
        tenant("staff", "person_id"),
        CheckConstraint("kind in ('assignment', 'request', 'break_glass')", name="kind"),
        CheckConstraint("state in ('waiting', 'granted', 'refused', 'ended')", name="state"),
        CheckConstraint("kind = 'break_glass' or decided_by is null or decided_by <> person_id", name="two"),
        CheckConstraint(
            "kind <> 'break_glass' or (until_at <= asked_at + interval '4 hours' and review_by is not null)",
            name="glass",
        ),
        CheckConstraint(
            "kind <> 'request' or state = 'waiting' or state = 'refused' or until_at is not null", name="box"
        ),
        Index(None, "district_id", "student_id"),
        Index(None, "district_id", "person_id"),
        Index("ix_access_requests_waiting", "district_id", "school_id", postgresql_where="state = 'waiting'"),
        Index(
            "ix_access_requests_review",
            "district_id",
            "review_by",
            postgresql_where="review_by is not null and reviewed_at is null",
        ),
    )
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    person_id: Mapped[uuid.UUID]
    kind: Mapped[str]
    state: Mapped[str]
    sealed_reason: Mapped[bytes]
    asked_at: Mapped[dt.datetime]
    decided_by: Mapped[uuid.UUID | None]
    decided_at: Mapped[dt.datetime | None]
    until_at: Mapped[dt.datetime | None]
    ended_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[dt.datetime | None]
    review_by: Mapped[dt.datetime | None]
    """By when a broken glass has to be looked into."""
    reviewed_by: Mapped[uuid.UUID | None]
    reviewed_at: Mapped[dt.datetime | None]
    is_justified: Mapped[bool | None]
    sealed_review: Mapped[bytes | None]
