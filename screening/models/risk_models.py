"""The model beside the rules, and the lot by which missed needs are counted."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, CheckConstraint, Index, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Row, Tenant, of_district, tenant


class RiskModel(Row):
    """A fitted model and its baseline as stored bytes, with what they were made from and what is known of them.

    In `shadow` it is asked and nobody hears it; `active` it may raise; at most one of a district is.
    """

    __tablename__ = "risk_models"
    __table_args__ = (
        of_district(),
        UniqueConstraint("district_id", "name"),
        CheckConstraint("state in ('shadow', 'active', 'retired')", name="state"),
        Index("uq_risk_models_active", "district_id", unique=True, postgresql_where="state = 'active'"),
    )
    name: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="shadow")
    features_version: Mapped[int] = mapped_column(SmallInteger)
    body: Mapped[bytes] = mapped_column(deferred=True)
    baseline_body: Mapped[bytes] = mapped_column(deferred=True)
    digest: Mapped[str]
    """SHA-256 of both bodies, one after the other."""
    libraries: Mapped[dict[str, Any]]
    card: Mapped[dict[str, Any]]
    """Counts and figures of the training, without any student."""
    trained_by: Mapped[uuid.UUID | None]
    trained_at: Mapped[dt.datetime]
    retired_by: Mapped[uuid.UUID | None]
    retired_at: Mapped[dt.datetime | None]
    problem: Mapped[str | None]
    """Why it could not be asked when it was last tried; None: it could."""


class RiskModelApproval(Row):
    """That somebody stands for a model going live: for these bytes, with these gates and these thresholds."""

    __tablename__ = "risk_model_approvals"
    __table_args__ = (
        tenant("risk_models", "model_id"),
        UniqueConstraint("district_id", "model_id", "by"),
    )
    model_id: Mapped[uuid.UUID]
    digest: Mapped[str]
    gates: Mapped[dict[str, Any]]
    yellow_from: Mapped[float] = mapped_column(sa.Double)
    orange_from: Mapped[float] = mapped_column(sa.Double)
    by: Mapped[uuid.UUID]
    at: Mapped[dt.datetime]


class RiskModelCheck(Tenant):
    """What a month's look at a model found: drift of features, scores, calibration and yield."""

    __tablename__ = "risk_model_checks"
    __table_args__ = (tenant("risk_models", "model_id"),)
    model_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    month: Mapped[dt.date] = mapped_column(primary_key=True)
    figures: Mapped[dict[str, Any]]
    problems: Mapped[list[str]]
    checked_at: Mapped[dt.datetime]


class RiskScore(Tenant):
    """What a model said of one result revision, in shadow or not, beside what its baseline said."""

    __tablename__ = "risk_scores"
    __table_args__ = (
        tenant("risk_models", "model_id"),
        tenant("students", "student_id"),
        Index(None, "district_id", "student_id"),
    )
    model_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    probability: Mapped[float] = mapped_column(sa.Double)
    baseline: Mapped[float] = mapped_column(sa.Double)
    rule_tier: Mapped[int] = mapped_column(SmallInteger)
    is_raised: Mapped[bool]
    reasons: Mapped[list[str]]
    """The features that weighed most, as codes."""
    scored_at: Mapped[dt.datetime]


class RoutineChat(Row):
    """A student below every threshold, drawn by lot and offered a talk, so that missed needs can be counted."""

    __tablename__ = "routine_chats"
    __table_args__ = (
        tenant("rounds", "round_id"),
        tenant("students", "student_id"),
        UniqueConstraint("district_id", "round_id", "student_id"),
        CheckConstraint("state in ('offered', 'held', 'declined')", name="state"),
        CheckConstraint("(state = 'held') = (is_concern_confirmed is not null)", name="outcome"),
        CheckConstraint("probability > 0 and probability <= 1", name="probability"),
        Index(None, "district_id", "student_id"),
        Index("ix_routine_chats_offered", "district_id", "school_id", postgresql_where="state = 'offered'"),
    )
    round_id: Mapped[uuid.UUID]
    student_id: Mapped[uuid.UUID]
    school_id: Mapped[uuid.UUID]
    seed: Mapped[int] = mapped_column(BigInteger)
    probability: Mapped[float] = mapped_column(sa.Double)
    """With which this student could be drawn."""
    state: Mapped[str] = mapped_column(server_default="offered")
    is_concern_confirmed: Mapped[bool | None]
    drawn_at: Mapped[dt.datetime]
    answered_by: Mapped[uuid.UUID | None]
    answered_at: Mapped[dt.datetime | None]


class RoutineDraw(Tenant):
    """That the lot was drawn for a round, from how many, with which seed and probability: once."""

    __tablename__ = "routine_draws"
    __table_args__ = (tenant("rounds", "round_id"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    probability: Mapped[float] = mapped_column(sa.Double)
    eligible: Mapped[int]
    drawn: Mapped[int]
    drawn_at: Mapped[dt.datetime]
