"""A model's life among people: trained on what they found, judged by it, promoted by two, watched each month."""

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
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
from screening.models import RiskModel, RiskModelCheck
from screening.risk_model import features, fitting, judging, registry, storing
from screening.risk_model.fitting import Matrix, Numbers
from screening.risk_model.judging import Evidence, Gate

LEAST_TO_LEARN = 50
CAPACITY = 0.02
"""Of all students, how many more counselors are taken to be able to see, unless somebody says otherwise."""
LIMITS = (
    "It was made from the questionnaires and talks of this district alone, and says nothing about another.",
    "It diagnoses nothing: it asks a person to look. It can never be the reason of a red, nor lower anything.",
    "Whether schools are urban or rural is not recorded here, so nobody can say whether it errs more in one of them.",
)
SHIFTED, MISSING_SHIFTED, LEAST_OF_A_MONTH = 0.2, 0.2, 30


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
        "schools_left_out": _plain(asdict(judged)),
        "baseline_auroc": _plain(judging.auroc(lesson.truth, baseline_out, lesson.weight)),
        "reference_deciles": _plain(_deciles(out, lesson.weight)),
        "reference_missing": _plain(dict(zip([f.name for f in lesson.columns], np.isnan(x).mean(0), strict=True))),
        "limits": list(LIMITS),
    }


# -- judging ----------------------------------------------------------------------------------------------------------

_SCORED = text(
    "select distinct on (s.round_id, s.student_id) s.round_id::text as round_id, s.student_id::text as student_id,"
    " s.probability, s.baseline, s.rule_tier, p.sex, a.grade,"
    " array(select g.group_code from special_groups g where g.district_id = s.district_id"
    "  and g.student_id = s.student_id and (g.until_on is null or g.until_on > s.scored_at::date)) as special"
    " from risk_scores s join students p on p.district_id = s.district_id and p.id = s.student_id"
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


def evidence(session: Session, model: RiskModel, *, capacity: float = CAPACITY, now: dt.datetime) -> Evidence:
    """What is known of the model from students it did not learn from: what it said then, and what people found."""
    scored = _scored(session, model)
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
        groups=_groups(rows),
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
            "sex": pl.String,
            "grade": pl.Int64,
            "special": pl.List(pl.String),
        },
    )


def _groups(rows: pl.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """Groupings by which errors are compared: flags serve this audit and are no feature."""
    found = {"sex": rows.select(pl.when(pl.col("sex") != "x").then("sex")).to_series().to_numpy()}
    stage = pl.when(pl.col("grade") <= 6).then(pl.lit("primary")).when(pl.col("grade") <= 9).then(pl.lit("junior"))
    found["stage"] = rows.select(stage.otherwise(pl.lit("senior"))).to_series().to_numpy()
    for code in sorted(rows.get_column("special").explode().drop_nulls().unique()):
        of = pl.when(pl.col("special").list.contains(code)).then(pl.lit("yes")).otherwise(pl.lit("no"))
        found[str(code)] = rows.select(of).to_series().to_numpy()
    return found


def fairness(known: Evidence) -> list[judging.Gap]:
    """Whom the rules and the model together miss, in each grouping."""
    found = (known.rule_tier > 0) | judging.raised_by(known.probability, known.rule_tier, known.capacity, known.weight)
    return [judging.missed_by(by, of, known.truth, found, known.weight) for by, of in known.groups.items()]


def promote(
    session: Session, model: RiskModel, *, capacity: float = CAPACITY, by: access.Actor, now: dt.datetime
) -> Promotion:
    """Judges every gate anew; if all are open, this person stands for it, and with the second it goes live."""
    known = evidence(session, model, capacity=capacity, now=now)
    gates = judging.gates(known)
    if not judging.is_open(gates):
        return Promotion(tuple(gates), False, False)
    yellow_from, orange_from = _thresholds(session, model, known)
    seen = {gate.name: {"seen": gate.seen, "needed": gate.needed} for gate in gates}
    is_active = registry.approve(
        session, model, gates=seen, yellow_from=yellow_from, orange_from=orange_from, by=by, now=now
    )
    return Promotion(tuple(gates), True, is_active)


def _thresholds(session: Session, model: RiskModel, known: Evidence) -> tuple[float, float]:
    """Yellow: as many as can be seen, among all that were scored. Orange: where as many are confirmed as of orange."""
    scored = _scored(session, model)
    tiers, said = scored.get_column("rule_tier").to_numpy(), scored.get_column("probability").to_numpy()
    raised = judging.raised_by(said, tiers, known.capacity)
    yellow_from = float(said[raised].min()) if raised.any() else 1.0
    orange = known.rule_tier == 2
    confirmed = float(np.average(known.truth[orange], weights=known.weight[orange])) if orange.any() else 0.5
    return yellow_from, max(yellow_from, confirmed, 0.5)


# -- each month -------------------------------------------------------------------------------------------------------


def check_due(session: Session, *, now: dt.datetime) -> list[str]:
    """Looks at every model that is not retired once a month; what drifted is said again until the month is over."""
    month, problems = now.date().replace(day=1), []
    for model in registry.listed(session):
        if model.state == "retired":
            continue
        made = session.get(RiskModelCheck, (model.district_id, model.id, month))
        if made is None:
            made = _checked(session, model, month, now)
        problems += [f"model_drift {model.name} {problem}" for problem in made.problems]
    return problems


def _checked(session: Session, model: RiskModel, month: dt.date, now: dt.datetime) -> RiskModelCheck:
    figures = _drift(session, model, now)
    made = RiskModelCheck(
        district_id=model.district_id, model_id=model.id, month=month, figures=figures, problems=_drifted(figures),
        checked_at=now,
    )  # fmt: skip
    session.add(made)
    session.flush()
    return made


def _drift(session: Session, model: RiskModel, now: dt.datetime) -> dict[str, Any]:
    since = now - dt.timedelta(days=31)
    recent = session.execute(
        text(
            "select round_id, student_id::text as student_id, probability, is_raised from risk_scores"
            " where district_id = :district and model_id = :model and scored_at >= :since"
            " order by student_id limit 5000"
        ),
        {"district": model.district_id, "model": model.id, "since": since},
    ).all()
    figures: dict[str, Any] = {"scored": len(recent), "raised": sum(row.is_raised for row in recent)}
    if len(recent) < LEAST_OF_A_MONTH:
        return figures
    figures["score_shift"] = _plain(_shift(np.array([r.probability for r in recent]), model.card["reference_deciles"]))
    figures["missing_shift"] = _plain(_missing_shift(session, model, recent))
    known = evidence(session, model, now=now)
    if len(known.truth) >= LEAST_OF_A_MONTH and 0 < known.truth.sum() < len(known.truth):
        slope = fitting.line_through(judging.log_odds(known.probability), known.truth, known.weight)[0]
        figures["calibration_slope"] = _plain(slope)
        figures["auroc"] = _plain(judging.auroc(known.truth, known.probability, known.weight))
    return figures | _yield(session, model, since)


_YIELD = text(
    "select count(*) as looked_at, count(*) filter (where t.case_id is not null) as confirmed from risk_scores s"
    " join alerts a on a.district_id = s.district_id and a.round_id = s.round_id and a.student_id = s.student_id"
    " join triages t on t.district_id = a.district_id and t.alert_id = a.id"
    " where s.district_id = :district and s.model_id = :model and s.is_raised and s.rule_tier = 0"
    " and t.proposed_at >= :since"
)


def _yield(session: Session, model: RiskModel, since: dt.datetime) -> dict[str, int]:
    row = session.execute(_YIELD, {"district": model.district_id, "model": model.id, "since": since}).one()
    return {"raised_looked_at": row.looked_at, "raised_confirmed": row.confirmed}


def _missing_shift(session: Session, model: RiskModel, recent: Sequence[Any]) -> dict[str, float]:
    """By how much more often or less often each feature is missing than when the model learned; only what moved."""
    reference: dict[str, float] = model.card["reference_missing"]
    by_round: dict[uuid.UUID, list[str]] = {}
    for row in recent:
        by_round.setdefault(row.round_id, []).append(row.student_id)
    tables = [features.table(session, round_id, students) for round_id, students in by_round.items()]
    x = np.vstack([features.matrix(table, list(reference)) for table in tables])
    shift = dict(zip(reference, np.isnan(x).mean(0) - np.array(list(reference.values())), strict=True))
    return {name: float(by) for name, by in shift.items() if abs(by) > MISSING_SHIFTED}


def _drifted(figures: dict[str, Any]) -> list[str]:
    found = []
    if figures.get("score_shift", 0) > SHIFTED:
        found.append(f"scores shifted by {figures['score_shift']:.2f}")
    if figures.get("missing_shift"):
        found.append(f"{len(figures['missing_shift'])} features missing otherwise than before")
    slope = figures.get("calibration_slope")
    if slope is not None and not judging.SLOPES[0] <= slope <= judging.SLOPES[1]:
        found.append(f"calibration slope {slope:.2f}")
    looked_at = figures.get("raised_looked_at", 0)
    if looked_at >= LEAST_OF_A_MONTH and figures["raised_confirmed"] == 0:
        found.append(f"none of {looked_at} raised was confirmed")
    return found


def _deciles(probability: Numbers, weight: Numbers) -> list[float]:
    order = np.argsort(probability)
    at = np.searchsorted(np.cumsum(weight[order]), np.arange(1, 10) / 10 * weight.sum())
    return [float(probability[order][min(place, len(order) - 1)]) for place in at]


def _shift(said: Numbers, deciles: Sequence[float]) -> float:
    """Population stability index over the deciles of the reference: 0 the same, above 0.2 another population."""
    edges = np.unique(deciles)
    expected = np.bincount(np.searchsorted(edges, deciles), minlength=len(edges) + 1) / 10
    expected[-1] += 1 - expected.sum()
    seen = np.bincount(np.searchsorted(edges, said), minlength=len(edges) + 1) / len(said)
    expected, seen = np.clip(expected, 0.005, None), np.clip(seen, 0.005, None)
    return float(((seen - expected) * np.log(seen / expected)).sum())


def _plain(found: Any) -> Any:
    """Numbers as JSON knows them; what is none becomes null."""
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(one) for one in found]
    if isinstance(found, float | np.floating):
        return round(float(found), 6) if np.isfinite(found) else None
    return found
