"""Who is told: the message and where it goes, the next rung, and what stood still on the way."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, SmallInteger, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models import Row, of_district, tenant


class Escalation(Row):
    """That a clock ran out and the next person was told; once per subject, school, clock and rung."""

    __tablename__ = "escalations"
    __table_args__ = (
        UniqueConstraint(
            "district_id",
            "subject",
            "subject_id",
            "school_id",
            "clock_at",
            "rung",
            name="uq_escalations_rung",
            postgresql_nulls_not_distinct=True,  # of no school is a place too
        ),
        CheckConstraint("subject in ('alert', 'follow_up', 'transfer', 'referral', 'check_in')", name="subject"),
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


class Webhook(Row):
    """Where one of the staff hears instead of by mail: address and secret are sealed, the host is not."""

    __tablename__ = "webhooks"
    __table_args__ = (
        tenant("staff", "staff_id"),
        CheckConstraint("body in ('generic', 'wecom', 'dingtalk', 'feishu')", name="body"),
        Index("uq_webhooks_staff", "district_id", "staff_id", unique=True, postgresql_where="ended_at is null"),
    )
    staff_id: Mapped[uuid.UUID]
    body: Mapped[str]
    host: Mapped[str]
    sealed: Mapped[bytes]
    added_by: Mapped[uuid.UUID]
    added_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class Fault(Row):
    """That something on the way from an answer to a person stood still, since when, and when somebody was told."""

    __tablename__ = "faults"
    __table_args__ = (
        of_district(),
        Index("uq_faults_open", "district_id", "name", "place", unique=True, postgresql_where="ended_at is null"),
    )
    name: Mapped[str]
    place: Mapped[str]
    since_at: Mapped[dt.datetime]
    told_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]
