"""If another policy had ruled: every standing result of a round decided again from its stored answers under a draft.

Reads only. What was an alert and would be none, or a lower one, is told by school, and the reds that would be lost
first of all: no draft may lose one unseen.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, policy, results, rounds
from screening.errors import Problem
from screening.policy import Policy

RED = 3
_BATCH = 20_000


@dataclass(frozen=True)
class Shift:
    """One school: how many students there are, whose alerts would be new, lost, raised or lowered, and reds lost."""

    school: str
    students: int
    alerts: int
    alerts_then: int
    new: int
    lost: int
    raised: int
    lowered: int
    reds: int
    reds_then: int
    reds_lost: int


@dataclass(frozen=True)
class Simulation:
    """What came of it, by school. `problems` are names in the draft that the round's instruments do not have."""

    shifts: tuple[Shift, ...]
    problems: tuple[Problem, ...]

    @property
    def reds_lost(self) -> int:
        return sum(shift.reds_lost for shift in self.shifts)


def simulate(session: Session, round_id: uuid.UUID, draft: Policy) -> Simulation:
    """Decides the round's standing results again under `draft`, with the round's own instruments and inputs.

    An alert is a result above none. A result that the draft cannot decide because a name is unknown is none, and the
    name stands in `problems`. Raises NotFound for no such round.
    """
    own = rounds.rules_of(session, round_id)
    problems = tuple(policy.check(draft, own.instruments))
    drafted = replace(own, policy=draft)
    if any(problem.code == "unknown_name" for problem in problems):
        return Simulation((), problems)
    frames = [_decided(session, round_id, batch, drafted) for batch in _batches(session, round_id)]
    if not frames:
        return Simulation((), problems)
    return Simulation(_by_school(session, pl.concat(frames)), problems)


def _batches(session: Session, round_id: uuid.UUID) -> list[pl.DataFrame]:
    rows = session.execute(
        text(
            "select distinct on (student_id) student_id::text as student_id, school_id::text as school_id, tier,"
            " prior_tier, age from results where district_id = :district and round_id = :round"
            " order by student_id, revision desc"
        ),
        {"district": access.scope_of(session).district_id, "round": round_id},
    ).all()
    schema: Mapping[str, type[pl.DataType]] = {
        "student_id": pl.String,
        "school_id": pl.String,
        "tier": pl.Int8,
        "prior_tier": pl.Int8,
        "age": pl.Int16,
    }
    whole = pl.DataFrame([tuple(row) for row in rows], schema=dict(schema), orient="row")
    return [part.with_row_index("key") for part in whole.iter_slices(_BATCH)]


def _decided(session: Session, round_id: uuid.UUID, batch: pl.DataFrame, rules: rounds.RoundRules) -> pl.DataFrame:
    """The tier as it stands and as the draft would have it; a form's latest revision of each attempt is what counts."""
    stored = results.administrations(session, round_id, batch.get_column("student_id").to_list())
    latest = (
        stored.sort("revision")
        .group_by(["student_id", "instrument", "informant", "attempt"], maintain_order=True)
        .last()
    )
    used = latest.join(batch.select("key", "student_id"), on="student_id")
    forms = results.unpacked(used, rules)
    again = results.decided(batch.select("key", "age", "prior_tier"), forms, rules)
    return batch.join(again.select("key", pl.col("tier").alias("tier_then")), on="key").select(
        "school_id", "tier", "tier_then"
    )


def _by_school(session: Session, decided: pl.DataFrame) -> tuple[Shift, ...]:
    tier, then = pl.col("tier"), pl.col("tier_then")
    counted = decided.group_by("school_id").agg(
        pl.len().alias("students"),
        (tier > 0).sum().alias("alerts"),
        (then > 0).sum().alias("alerts_then"),
        ((tier == 0) & (then > 0)).sum().alias("new"),
        ((tier > 0) & (then == 0)).sum().alias("lost"),
        ((tier > 0) & (then > tier)).sum().alias("raised"),
        ((then > 0) & (then < tier)).sum().alias("lowered"),
        (tier == RED).sum().alias("reds"),
        (then == RED).sum().alias("reds_then"),
        ((tier == RED) & (then < RED)).sum().alias("reds_lost"),
    )
    codes = {
        str(row.id): row.code
        for row in session.execute(
            text("select id, code from schools where district_id = :district"),
            {"district": access.scope_of(session).district_id},
        )
    }
    shifts = [Shift(school=codes[row.pop("school_id")], **row) for row in counted.iter_rows(named=True)]
    return tuple(sorted(shifts, key=lambda shift: shift.school))
