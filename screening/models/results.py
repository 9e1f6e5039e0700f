"""Answers and results, and what of them is counted and released."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ARRAY, REAL, CheckConstraint, Computed, ForeignKeyConstraint, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from screening.models.base import Tenant, tenant


class Administration(Tenant):
    """One instrument, filled in once: the answers in the definition's order, and what they score.

    A correction is a further revision by a named person; a retest is a further attempt. Nothing is overwritten.
    """

    __tablename__ = "administrations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["district_id", "round_id", "student_id", "informant"],
            [
                "assignments.district_id",
                "assignments.round_id",
                "assignments.student_id",
                "assignments.informant",
            ],
        ),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    informant: Mapped[str] = mapped_column(primary_key=True)
    instrument: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default="1")
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default="1")
    school_id: Mapped[uuid.UUID]
    answers: Mapped[list[int]]
    status: Mapped[str]
    missing_count: Mapped[int] = mapped_column(SmallInteger)
    scores: Mapped[list[float | None]] = mapped_column(ARRAY(REAL))
    """One number per scale, in the definition's order; null where the scale could not be scored."""
    upload_id: Mapped[uuid.UUID | None]
    recorded_by: Mapped[uuid.UUID | None]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Result(Tenant):
    """A student's round in sum. Append-only: the highest revision stands, and holds the inputs it was decided from."""

    __tablename__ = "results"
    __table_args__ = (
        tenant("students", "student_id"),
        # one check for both: a result is decided under the rule set of its round, and no other
        ForeignKeyConstraint(
            ["district_id", "round_id", "rule_set_id"],
            ["rounds.district_id", "rounds.id", "rounds.rule_set_id"],
        ),
        CheckConstraint("tier between 0 and 3", name="tier"),
        CheckConstraint("validity in ('valid', 'suspect', 'invalid')", name="validity"),
        Index(None, "district_id", "student_id"),
        Index("ix_results_recorded", "recorded_at", postgresql_using="brin"),
    )
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    student_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    school_id: Mapped[uuid.UUID]
    tier: Mapped[int] = mapped_column(SmallInteger)
    validity: Mapped[str]
    reasons: Mapped[list[str]]
    """The ids of the policy's rules that were met; the tier is the highest of theirs."""
    forms: Mapped[list[str]]
    """The administrations it was decided from: instrument/informant/attempt/revision."""
    prior_tier: Mapped[int] = mapped_column(SmallInteger)
    """The highest tier of this student's other rounds in the policy's look-back, as it was then."""
    age: Mapped[int | None] = mapped_column(SmallInteger)
    rule_set_id: Mapped[uuid.UUID]
    upload_id: Mapped[uuid.UUID | None]
    recorded_by: Mapped[uuid.UUID | None]
    recorded_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    model_id: Mapped[uuid.UUID | None]
    """The model that raised it, in a revision of its own; None: the rules alone decided."""
    model_tier: Mapped[int | None] = mapped_column(SmallInteger)


class CoverageSummary(Tenant):
    """Counts of one round, school, grade and sex; recounted for a touched school, never counted up."""

    __tablename__ = "coverage_summaries"
    __table_args__ = (tenant("rounds", "round_id"), tenant("schools", "school_id"))
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    school_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    grade: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    sex: Mapped[str] = mapped_column(primary_key=True)
    enrolled: Mapped[int]
    exempt: Mapped[int]
    consented: Mapped[int]
    declined: Mapped[int]
    invited: Mapped[int]
    submitted: Mapped[int]
    valid: Mapped[int]
    suspect: Mapped[int]
    invalid: Mapped[int]
    tier_none: Mapped[int]
    tier_yellow: Mapped[int]
    tier_orange: Mapped[int]
    tier_red: Mapped[int]
    eligible: Mapped[int] = mapped_column(Computed("enrolled - exempt"))
    counted_at: Mapped[dt.datetime]


class CoverageRelease(Tenant):
    """Statistics as they were released on a date: what statistics doors serve, and all they serve."""

    __tablename__ = "coverage_releases"
    __table_args__ = (tenant("rounds", "round_id"),)
    round_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    released_on: Mapped[dt.date] = mapped_column(primary_key=True)
    tables: Mapped[dict[str, Any]]
    released_by: Mapped[uuid.UUID | None]
    released_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
