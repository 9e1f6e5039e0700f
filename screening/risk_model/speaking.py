"""What a model says about results that stand already: kept for later, and heard only where it raises.

It runs after the rules have committed, in a unit of its own. It can append a higher revision of a result and nothing
else; whatever is wrong with it, the rules' tiers stay as they are.
"""

import datetime as dt
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, consent, db, policy, results, rounds
from screening.errors import HouseError
from screening.inserting import as_array
from screening.models import RiskModel
from screening.results import Revision, Revisions
from screening.risk_model import features, registry
from screening.risk_model.fitting import Matrix, Model, Numbers

NONE, YELLOW, ORANGE = 0, 1, 2
REACH = dt.timedelta(days=7)
BATCH = 2_000
SLOWEST = dt.timedelta(seconds=20)
"""For a batch, from the table of features to probabilities: what takes longer is as good as silent."""


def final_tier(rule_tier: int, probability: float, *, yellow_from: float, orange_from: float) -> int:
    """The tier with the model heard: never below the rules' own, never red by the model, whatever it says.

    A probability that is none (NaN, infinite, outside 0 to 1) says nothing.
    """
    if not (math.isfinite(probability) and 0 <= probability <= 1):
        return rule_tier
    said = ORANGE if probability >= orange_from else YELLOW if probability >= yellow_from else NONE
    return max(rule_tier, said)


def leading(model: Model, x: Matrix, count: int = 3) -> list[list[str]]:
    """Of each row the features that speak loudest for a need, as codes: what a counselor is shown as the reason."""
    linear = model.linear
    spoken = np.nan_to_num(np.clip((x - linear.center) / linear.scale, -4, 4)) * linear.weights
    order = np.argsort(-spoken, axis=1)[:, :count]
    return [[model.columns[column] for column in row if spoken[place, column] > 0] for place, row in enumerate(order)]


@dataclass
class Said:
    """What came of asking: new revisions, still to be weighed; how many answers; what is wrong with a model."""

    raised: list[Revisions] = field(default_factory=list)
    asked: int = 0
    problems: list[str] = field(default_factory=list)


def speak(session: Session, *, now: dt.datetime) -> Said:
    """Asks every model of the district about results it has not seen (BATCH of a round at most), and appends what the
    active one raises. Twice is once.
    """
    said = Said()
    models = session.scalars(select(RiskModel).where(RiskModel.state != "retired")).all()
    for model in models:
        db.lock(session, f"model/{model.id}")
        try:
            # a model that fails takes back what it did, and nothing that another one said
            with session.begin_nested():
                raised, asked = _said_by(session, model, now)
            said.raised += raised
            said.asked += asked
            model.problem = None
        except (HouseError, ValueError, ArithmeticError, MemoryError) as error:
            model.problem = getattr(error, "code", type(error).__name__)
            said.problems.append(f"{model.state}_model_silent {model.name} {model.problem}")
    session.flush()
    return said


class ModelSaysNothing(HouseError):
    """What came out of the model is no probability."""

    code = "model_not_a_number"


class ModelTooSlow(HouseError):
    """An answer took so long that others would wait for it."""

    code = "model_slow"


def _said_by(session: Session, model: RiskModel, now: dt.datetime) -> tuple[list[Revisions], int]:
    waiting = _rounds_waiting(session, model, now)
    if not waiting:
        return [], 0
    itself, baseline = registry.opened(session, model)
    yellow_from, orange_from = registry.thresholds(session, model)
    found, asked = [], 0
    for round_id in waiting:
        standing = _standing(session, model, round_id, now)
        if standing.is_empty():
            continue
        started = time.monotonic()
        said = _asked(session, round_id, standing, itself, baseline)
        if time.monotonic() - started > SLOWEST.total_seconds():
            raise ModelTooSlow("The model took too long.")
        tiers = [
            final_tier(tier, probability, yellow_from=yellow_from, orange_from=orange_from)
            for tier, probability in said.select("tier", "probability").iter_rows()
        ]
        said = said.with_columns(pl.Series("final", tiers, dtype=pl.Int8))
        _keep(session, model, round_id, said, now)
        if (one := _append(session, model, round_id, said.filter(pl.col("final") > pl.col("tier")), now)) is not None:
            found.append(one)
        asked += said.height
    return found, asked


def _rounds_waiting(session: Session, model: RiskModel, now: dt.datetime) -> list[uuid.UUID]:
    return list(
        session.execute(
            text(
                "select distinct r.round_id from results r join rounds o on o.district_id = r.district_id"
                " and o.id = r.round_id where r.district_id = :district and r.recorded_at >= :since"
                " and not o.is_historical and r.model_id is null and not exists (select from risk_scores s"
                "  where s.district_id = r.district_id and s.model_id = :model and s.round_id = r.round_id"
                "  and s.student_id = r.student_id and s.revision = r.revision)"
            ),
            {"district": model.district_id, "since": now - REACH, "model": model.id},
        ).scalars()
    )


def _standing(session: Session, model: RiskModel, round_id: uuid.UUID, now: dt.datetime) -> pl.DataFrame:
    """The standing results of this round that the model has not seen, of students whose consent is in force."""
    in_force = consent.in_force_sql(rounds.rules_of(session, round_id).policy, at=":now")
    rows = session.execute(
        text(
            "select r.student_id, r.revision, r.school_id, r.tier, r.reasons, r.forms from ("  # noqa: S608 - our own SQL
            " select distinct on (student_id) * from results where district_id = :district and round_id = :round"
            " order by student_id, revision desc) r"
            f" join ({in_force}) f on f.student_id = r.student_id and f.is_in_force"
            " where r.recorded_at >= :since and r.model_id is null and not exists (select from risk_scores s"
            "  where s.district_id = :district and s.model_id = :model and s.round_id = :round"
            "  and s.student_id = r.student_id and s.revision = r.revision)"
            " order by r.student_id limit :batch"
        ),
        {
            "district": model.district_id,
            "round": round_id,
            "model": model.id,
            "now": now,
            "since": now - REACH,
            "batch": BATCH,
        },
    ).all()
    schema: dict[str, Any] = {"student_id": pl.String, "revision": pl.Int16, "school_id": pl.String, "tier": pl.Int8,
              "reasons": pl.List(pl.String), "forms": pl.List(pl.String)}  # fmt: skip
    plain = [(str(r.student_id), r.revision, str(r.school_id), r.tier, list(r.reasons), list(r.forms)) for r in rows]
    return pl.DataFrame(plain, schema=schema, orient="row")


def _asked(
    session: Session, round_id: uuid.UUID, standing: pl.DataFrame, model: Model, baseline: Model
) -> pl.DataFrame:
    table = features.table(session, round_id, standing.get_column("student_id").to_list())
    x = features.matrix(table, model.columns)
    probability = _probability(model, x)
    said = pl.DataFrame(
        {
            "student_id": table.get_column("student_id"),
            "probability": probability,
            "baseline": _probability(baseline, features.matrix(table, baseline.columns)),
            "leading": leading(model, x),
        },
        schema_overrides={"leading": pl.List(pl.String)},
    )
    return standing.join(said, on="student_id")


def _probability(model: Model, x: Matrix) -> Numbers:
    found = model.probability(x)
    if not (np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()):
        raise ModelSaysNothing("What the model said is no probability.")
    return found


def _keep(session: Session, model: RiskModel, round_id: uuid.UUID, said: pl.DataFrame, now: dt.datetime) -> None:
    rows = said.to_dicts()
    session.execute(
        text(
            "insert into risk_scores (district_id, model_id, round_id, student_id, revision, school_id, probability,"
            " baseline, rule_tier, is_raised, reasons, scored_at)"
            " select :district, :model, :round, n.student, n.revision, n.school, n.probability, n.baseline, n.tier,"
            "  n.raised, string_to_array(n.reasons, ' '), :now from unnest(cast(:student as uuid[]),"
            "  cast(:revision as smallint[]), cast(:school as uuid[]), cast(:probability as double precision[]),"
            "  cast(:baseline as double precision[]), cast(:tier as smallint[]), cast(:raised as boolean[]),"
            "  cast(:reasons as text[])) as n (student, revision, school, probability, baseline, tier, raised, reasons)"
            " on conflict do nothing"
        ),
        {
            "district": model.district_id,
            "model": model.id,
            "round": round_id,
            "now": now,
            "student": as_array("uuid", [uuid.UUID(row["student_id"]) for row in rows]),
            "revision": as_array("smallint", [row["revision"] for row in rows]),
            "school": as_array("uuid", [uuid.UUID(row["school_id"]) for row in rows]),
            "probability": [row["probability"] for row in rows],
            "baseline": [row["baseline"] for row in rows],
            "tier": as_array("smallint", [row["tier"] for row in rows]),
            "raised": as_array("boolean", [row["final"] > row["tier"] for row in rows]),
            "reasons": as_array("text", [" ".join(row["leading"]) for row in rows]),
        },
    )


_APPEND = text(
    "insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons, forms,"
    " prior_tier, age, rule_set_id, upload_id, recorded_by, recorded_at, model_id, model_tier)"
    " select r.district_id, r.round_id, r.student_id, r.revision + 1, r.school_id, n.tier, r.validity,"
    "  r.reasons || n.reason, r.forms, r.prior_tier, r.age, r.rule_set_id, null, null, :now, :model, n.tier"
    " from unnest(cast(:student as uuid[]), cast(:revision as smallint[]), cast(:tier as smallint[]),"
    "  cast(:reason as text[])) as n (student_id, revision, tier, reason)"
    " join results r on r.district_id = :district and r.round_id = :round and r.student_id = n.student_id"
    "  and r.revision = n.revision and r.tier < n.tier and n.tier in (1, 2)"
    " where not exists (select from results h where h.district_id = r.district_id and h.round_id = r.round_id"
    "  and h.student_id = r.student_id and h.revision > r.revision)"
    " on conflict do nothing returning student_id, revision, school_id, reasons"
)
"""From the revision that the model saw, and only while that one stands: an answer that came since is asked anew."""
_APPENDED = (
    "(select student_id, revision, school_id, tier from results where district_id = :district and round_id = :round"
    " and model_id = :model and recorded_at = :raised_at)"
)


def _append(
    session: Session, model: RiskModel, round_id: uuid.UUID, raised: pl.DataFrame, now: dt.datetime
) -> Revisions | None:
    if raised.is_empty():
        return None
    rows = raised.to_dicts()
    parameters: dict[str, Any] = {"district": model.district_id, "round": round_id, "model": model.id}
    students = [uuid.UUID(row["student_id"]) for row in rows]
    # whoever hands in a form holds the student's place until it is stored
    _hold_places(session, round_id, students)
    added = session.execute(
        _APPEND,
        parameters
        | {
            "now": now,
            "student": as_array("uuid", students),
            "revision": as_array("smallint", [row["revision"] for row in rows]),
            "tier": as_array("smallint", [row["final"] for row in rows]),
            "reason": as_array("text", [policy.model_reason(row["final"]) for row in rows]),
        },
    ).all()
    if not added:
        return None
    forms = {uuid.UUID(row["student_id"]): row["forms"] for row in rows}
    return Revisions(
        round_id=round_id,
        is_historical=False,
        relation=_APPENDED,
        parameters=parameters | {"raised_at": now},
        with_reasons=tuple(
            Revision(
                student_id=row.student_id,
                school_id=row.school_id,
                reasons=tuple(row.reasons),
                reasons_before=tuple(row.reasons[:-1]),
                attempt=results.latest_attempt(forms[row.student_id]),
                is_new_attempt=False,
            )
            for row in added
        ),
    )


def _hold_places(session: Session, round_id: uuid.UUID, students: Sequence[uuid.UUID]) -> None:
    db.lock(session, f"load/{round_id}")
    session.execute(
        text(
            "select from assignments where district_id = :district and round_id = :round"
            " and student_id = any(:students) order by student_id, informant for no key update"
        ),
        {"district": access.scope_of(session).district_id, "round": round_id, "students": list(students)},
    )
