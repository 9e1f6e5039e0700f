"""Places outside the school, and who was sent there."""

import datetime as dt
import uuid

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from screening.models import Row, of_district, tenant


class Destination(Row):
    """Where a student can be referred to: an entry of the district's directory."""

    __tablename__ = "destinations"
    __table_args__ = (
        of_district(),
        CheckConstraint("kind in ('counselling_centre', 'hospital', 'guidance_team', 'hotline')", name="kind"),
        UniqueConstraint("district_id", "kind", "name"),
    )
    kind: Mapped[str]
    name: Mapped[str]
    phone: Mapped[str | None]
    address: Mapped[str | None]
    hours: Mapped[str | None]
    is_emergency: Mapped[bool]
    """Whether somebody is there day and night."""
    added_by: Mapped[uuid.UUID]
    added_at: Mapped[dt.datetime]
    retired_at: Mapped[dt.datetime | None]


class Referral(Row):
    """That a student was sent, or offered, to a place outside the school; and whether the first visit was kept."""

    __tablename__ = "referrals"
    __table_args__ = (
        tenant("cases", "case_id"),
        tenant("destinations", "destination_id"),
        CheckConstraint("urgency in ('emergency', 'urgent', 'routine')", name="urgency"),
        CheckConstraint("basis in ('guardian', 'student', 'both', 'override', 'refused')", name="basis"),
        CheckConstraint(
            "state in ('refused', 'sent', 'accepted', 'declined', 'kept', 'not_kept', 'visit_refused', 'withdrawn')",
            name="state",
        ),
        CheckConstraint("(basis in ('override', 'refused')) = (sealed_reason is not null)", name="reason"),
        CheckConstraint("(basis = 'refused') = (state = 'refused')", name="refused"),
        UniqueConstraint("district_id", "code_hash"),
        Index(None, "district_id", "case_id"),
        Index("ix_referrals_waiting", "district_id", "confirm_by", postgresql_where="state in ('sent', 'accepted')"),
    )
    case_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    destination_id: Mapped[uuid.UUID]
    urgency: Mapped[str]
    basis: Mapped[str]
    """Who agreed; `override`: nobody, for a danger that is written down; `refused`: so nobody was sent."""
    state: Mapped[str]
    sealed_shared: Mapped[bytes]
    """What was told to the place, or, of a refusal, what was explained."""
    sealed_reason: Mapped[bytes | None]
    appointment_at: Mapped[dt.datetime | None]
    confirm_by: Mapped[dt.datetime]
    """By when it must be known whether the first visit was kept."""
    made_by: Mapped[uuid.UUID]
    made_at: Mapped[dt.datetime]
    answered_at: Mapped[dt.datetime | None]
    visited_on: Mapped[dt.date | None]
    ended_by: Mapped[uuid.UUID | None]
    """Who said how it ended; None where the place itself did."""
    ended_at: Mapped[dt.datetime | None]
    code_hash: Mapped[bytes | None]
    """Of the link that opens this one referral to the place, together with a second fact."""
    fact_hash: Mapped[bytes | None]
    code_until: Mapped[dt.datetime | None]
