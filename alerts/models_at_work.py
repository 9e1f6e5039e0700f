"""A model's life among people: trained on what they found, judged by it, promoted by two, watched each month."""

import datetime as dt
import hashlib
import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import labels
from screening import access, rounds
from screening.errors import Refused
from screening.models import RiskModel
from screening.risk_model import features, fitting, gates, judging, registry, storing
from screening.risk_model.fitting import Matrix, Numbers
from screening.risk_model.gates import Evidence, Gate

LEAST_TO_LEARN = 50
CAPACITY = 0.02
"""Of all students, how many more counselors are taken to be able to see, unless somebody says otherwise."""
LIMITS = (
    "It was made from the questionnaires and talks of this district alone, and says nothing about another.",
    "It diagnoses nothing: it asks a person to look. It can never be the reason of a red, nor lower anything.",
    "Which schools are rural is told by whoever judges it; it is no feature, and neither is any special group.",
)
URBAN, RURAL = "urban", "rural"


@dataclass(frozen=True)
class Promotion:
    """Whether the gates are open, each with its number, and whether a second person made the model active."""

    gates: tuple[Gate, ...]
    is_open: bool
    is_active: bool


@dataclass(frozen=True)
class _Lesson:
    """Labelled students with their features."""

    table: pl.DataFrame
    truth: Numbers
    weight: Numbers
    schools: npt.NDArray[Any]
    columns: tuple[features.Feature, ...]
    totals: tuple[features.Feature, ...]

    def matrix(self, chosen: Sequence[features.Feature]) -> Matrix:
        return features.matrix(self.table, [feature.name for feature in chosen])


# -- training ---------------------------------------------------------------------------------------------------------


def train(
    session: Session, name: str, *, by: access.Actor, now: dt.datetime, settings: fitting.Settings = fitting.Settings()
) -> RiskModel:
    """Fits a model and its baseline on every outcome known by now, and stores them in shadow.

    Raises Refused where the labels cannot carry a model: too few, of one kind, of one school, or of flagged students
    only, of whom a model would learn nothing about those that are missed.
    """
    known = labels.known(session, at=now)
    _must_carry(known)
    lesson = _lesson(session, known)
    fitted = [
        _fit(lesson, columns, settings, is_baseline)
        for columns, is_baseline in ((lesson.columns, False), (lesson.totals, True))
    ]
    (model, out_of_school), (baseline, baseline_out) = fitted
    card = _card(known, lesson, out_of_school, baseline_out, settings)
    return registry.store(session, name, model, baseline, card=card, by=by, now=now)


def _must_carry(known: pl.DataFrame) -> None:
    if known.height < LEAST_TO_LEARN:
        raise Refused(f"{known.height} outcomes are known; {LEAST_TO_LEARN} are needed.", code="labels_too_few")
    if not known.get_column("is_by_lot").any():
        raise Refused(
            "Every outcome is of a student who was flagged. Hold the routine chats first: without them a model is"
            " judged only on those it was told about.",
            code="labels_flagged_only",
        )
    if known.get_column("is_confirmed").n_unique() < 2:
        raise Refused("The outcomes are all alike.", code="labels_one_kind")
    if known.get_column("school_id").n_unique() < 3:
        raise Refused("The outcomes come from fewer than three schools.", code="labels_few_schools")


def _lesson(session: Session, known: pl.DataFrame) -> _Lesson:
    latest = _latest_round(session, known)
    frames = []
    for (round_id,), group in known.group_by("round_id", maintain_order=True):
        table = features.table(session, uuid.UUID(str(round_id)), group.get_column("student_id").to_list())
        frames.append(group.join(table, on="student_id", how="inner"))
    # in one order whatever the database answered, so that the same outcomes make the same model
    whole = pl.concat(frames, how="diagonal").sort("round_id", "student_id")
    rules = rounds.rules_of(session, latest)
    return _Lesson(
        table=whole,
        truth=whole.get_column("is_confirmed").cast(pl.Float64).to_numpy(),
        weight=whole.get_column("weight").to_numpy(),
        schools=whole.get_column("school_id").to_numpy(),
        columns=tuple(features.columns(rules)),
        totals=tuple(features.totals(rules)),
    )


def _latest_round(session: Session, known: pl.DataFrame) -> uuid.UUID:
    found: uuid.UUID = session.execute(
        text(
            "select id from rounds where district_id = :district and id = any(cast(:rounds as uuid[]))"
            " order by opens_at desc, id limit 1"
        ),
        {
            "district": access.scope_of(session).district_id,
            "rounds": [uuid.UUID(one) for one in known.get_column("round_id").unique()],
        },
    ).scalar_one()
    return found


def _fit(
    lesson: _Lesson, columns: Sequence[features.Feature], settings: fitting.Settings, is_baseline: bool
) -> tuple[fitting.Model, Numbers]:
    x, names = lesson.matrix(columns), [feature.name for feature in columns]
    directions = [feature.direction for feature in columns]
    model = fitting.fit(
        x, lesson.truth, lesson.schools, columns=names, directions=directions, weights=lesson.weight,
        settings=settings, is_baseline=is_baseline,
    )  # fmt: skip
    try:
        out = fitting.left_out(
            x, lesson.truth, lesson.schools, columns=names, directions=directions, weights=lesson.weight,
            settings=settings, is_baseline=is_baseline,
        )  # fmt: skip
    except ValueError:  # without one of few schools the rest is all alike
        out = model.probability(x)
    return model, out


def _card(
    known: pl.DataFrame, lesson: _Lesson, out: Numbers, baseline_out: Numbers, settings: fitting.Settings
) -> dict[str, Any]:
    x = lesson.matrix(lesson.columns)
    judged = judging.judge(lesson.truth, out, lesson.schools, weight=lesson.weight, draws=200)
    content = hashlib.sha256(x.tobytes() + lesson.truth.tobytes() + lesson.weight.tobytes()).hexdigest()
    return {
        "purpose": "May raise a student to yellow or orange for a person to look at; nothing else.",
        "features_version": features.VERSION,
        "features": [feature.name for feature in lesson.columns],
        "symptoms": [feature.name for feature in lesson.columns if feature.direction],
        "baseline_features": [feature.name for feature in lesson.totals],
        "labels": known.height,
        "labels_by_lot": int(known.get_column("is_by_lot").sum()),
        "confirmed": int(known.get_column("is_confirmed").sum()),
        "schools": int(known.get_column("school_id").n_unique()),
        "rounds": sorted(known.get_column("round_id").unique().to_list()),
        "training_digest": content,
        "settings": asdict(settings),
        "libraries": storing.libraries(),
        "schools_left_out": plain(asdict(judged)),
        "baseline_auroc": plain(judging.auroc(lesson.truth, baseline_out, lesson.weight)),
        "reference_deciles": plain(judging.deciles(out, lesson.weight)),
        "reference_missing": plain(dict(zip([f.name for f in lesson.columns], np.isnan(x).mean(0), strict=True))),
        "limits": list(LIMITS),
    }


# -- judging ----------------------------------------------------------------------------------------------------------

_SCORED = text(
    "select distinct on (s.round_id, s.student_id) s.round_id::text as round_id, s.student_id::text as student_id,"
    " s.probability, s.baseline, s.rule_tier, c.code as school_code, p.sex, a.grade,"
    " array(select g.group_code from special_groups g where g.district_id = s.district_id"
    "  and g.student_id = s.student_id and (g.until_on is null or g.until_on > s.scored_at::date)) as special"
    " from risk_scores s join students p on p.district_id = s.district_id and p.id = s.student_id"
    " join schools c on c.district_id = s.district_id and c.id = s.school_id"
    " join assignments a on a.district_id = s.district_id and a.round_id = s.round_id and a.student_id = s.student_id"
    " where s.district_id = :district and s.model_id = :model order by s.round_id, s.student_id, s.revision desc"
)
_SHADOWED = text(
    "select count(*) filter (where n.seen >= 0.9 * n.standing) from ("
    " select o.id, count(distinct r.student_id) as standing, count(distinct s.student_id) as seen from rounds o"
    " join results r on r.district_id = o.district_id and r.round_id = o.id"
    " left join risk_scores s on s.district_id = r.district_id and s.round_id = r.round_id"
    "  and s.student_id = r.student_id and s.model_id = :model"
    " where o.district_id = :district and o.state = 'closed' and not o.is_historical and o.opens_at >= :since"
    " group by o.id) n"
)


def evidence(
    session: Session,
    model: RiskModel,
    *,
    capacity: float = CAPACITY,
    rural: Collection[str] | None = None,
    now: dt.datetime,
) -> Evidence:
    """What is known of the model from students it did not learn from: what it said then, and what people found.

    `rural`: the codes of the rural schools; None: nobody said, so it cannot be told whether it errs more there.
    """
    scored, by = _grouped(_scored(session, model), rural)
    known = labels.known(session, at=now).filter(~pl.col("round_id").is_in(list(model.card["rounds"])))
    rows = known.join(scored, on=["round_id", "student_id"], how="inner").sort("round_id", "student_id")
    whole = session.execute(
        _SHADOWED, {"district": model.district_id, "model": model.id, "since": model.trained_at}
    ).scalar_one()
    return Evidence(
        truth=rows.get_column("is_confirmed").cast(pl.Float64).to_numpy(),
        probability=rows.get_column("probability").to_numpy(),
        baseline=rows.get_column("baseline").to_numpy(),
        weight=rows.get_column("weight").to_numpy(),
        is_below=rows.get_column("is_by_lot").to_numpy(),
        rule_tier=rows.get_column("rule_tier").to_numpy(),
        schools=rows.get_column("school_id").to_numpy(),
        groups={name: rows.get_column(f"by {name}").to_numpy() for name in by},
        kinds={name: scored.get_column(f"by {name}").drop_nulls().unique().sort().to_list() for name in by},
        capacity=capacity,
        whole_rounds_in_shadow=int(whole),
    )


def _scored(session: Session, model: RiskModel) -> pl.DataFrame:
    found = session.execute(_SCORED, {"district": model.district_id, "model": model.id}).all()
    return pl.DataFrame(
        [tuple(row) for row in found],
        orient="row",
        schema={
            "round_id": pl.String,
            "student_id": pl.String,
            "probability": pl.Float64,
            "baseline": pl.Float64,
            "rule_tier": pl.Int64,
            "school_code": pl.String,
            "sex": pl.String,
            "grade": pl.Int64,
            "special": pl.List(pl.String),
        },
    )


def _grouped(scored: pl.DataFrame, rural: Collection[str] | None) -> tuple[pl.DataFrame, list[str]]:
    """Adds groupings by which errors are compared, as columns `by NAME`: they serve this audit and are no feature."""
    stage = pl.when(pl.col("grade") <= 6).then(pl.lit("primary")).when(pl.col("grade") <= 9).then(pl.lit("junior"))
    setting = pl.lit(None, pl.String)
    if rural is not None:
        setting = pl.when(pl.col("school_code").is_in(list(rural))).then(pl.lit(RURAL)).otherwise(pl.lit(URBAN))
    by = {
        "sex": pl.when(pl.col("sex") != "x").then("sex"),
        "stage": stage.otherwise(pl.lit("senior")),
        "setting": setting,
    }
    for code in sorted(scored.get_column("special").explode().drop_nulls().unique()):
        by[code] = pl.when(pl.col("special").list.contains(code)).then(pl.lit("yes")).otherwise(pl.lit("no"))
    return scored.with_columns(of.alias(f"by {name}") for name, of in by.items()), list(by)


@dataclass(frozen=True)
class Found:
    """The share of those in need whom somebody looks at, 0 to 1, with its 95% interval; NaN while nothing is known."""

    sensitivity: float
    interval: judging.Interval


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known of a model by now; sensitivities are corrected for those whom nobody asked."""

    gates: tuple[Gate, ...]
    labels: int
    capacity: float
    rules: Found
    rules_and_model: Found
    fairness: tuple[judging.Gap, ...]


def evaluate(known: Evidence) -> Evaluation:
    """The gates, what the rules alone and with the model find, and whom both miss, from this evidence."""
    arms = (known.rule_tier > 0, gates.found_by_both(known))
    rules, both = (
        Found(*judging.corrected_sensitivity(known.truth, looked_at, known.weight, is_asked_by_lot=known.is_below))
        for looked_at in arms
    )
    return Evaluation(
        gates=tuple(gates.judged(known)),
        labels=len(known.truth),
        capacity=known.capacity,
        rules=rules,
        rules_and_model=both,
        fairness=tuple(gates.fairness(known)),
    )


def promote(
    session: Session,
    model: RiskModel,
    *,
    capacity: float = CAPACITY,
    rural: Collection[str] | None = None,
    by: access.Actor,
    now: dt.datetime,
) -> Promotion:
    """Judges every gate anew; if all are open, this person stands for it, and with the second it goes live."""
    known = evidence(session, model, capacity=capacity, rural=rural, now=now)
    found = gates.judged(known)
    if not gates.is_open(found):
        return Promotion(tuple(found), False, False)
    yellow_from, orange_from = _thresholds(session, model, known)
    seen = {gate.name: {"seen": gate.seen, "needed": gate.needed} for gate in found}
    is_active = registry.approve(
        session, model, gates=seen, yellow_from=yellow_from, orange_from=orange_from, by=by, now=now
    )
    return Promotion(tuple(found), True, is_active)


def _thresholds(session: Session, model: RiskModel, known: Evidence) -> tuple[float, float]:
    """Yellow: as many as can be seen, among all that were scored. Orange: where as many are confirmed as of orange."""
    scored = _scored(session, model)
    tiers, said = scored.get_column("rule_tier").to_numpy(), scored.get_column("probability").to_numpy()
    raised = gates.raised_by(said, tiers, known.capacity)
    yellow_from = float(said[raised].min()) if raised.any() else 1.0
    orange = known.rule_tier == 2
    confirmed = float(np.average(known.truth[orange], weights=known.weight[orange])) if orange.any() else 0.5
    return yellow_from, max(yellow_from, confirmed, 0.5)


def plain(found: Any) -> Any:
    """Numbers as JSON knows them; what is none becomes null."""
    if isinstance(found, dict):
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(one) for one in found]
    if isinstance(found, float | np.floating):
        return round(float(found), 6) if np.isfinite(found) else None
    return found
