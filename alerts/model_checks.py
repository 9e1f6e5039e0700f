"""Whether a model still sees and says what it did when it learned: looked at once a month, and told while it is so."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts.models_at_work import evidence, plain
from screening.models import RiskModel, RiskModelCheck
from screening.risk_model import features, fitting, gates, judging, registry

SHIFTED, MISSING_SHIFTED, LEAST_OF_A_MONTH = 0.2, 0.2, 30


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
    figures["score_shift"] = plain(
        judging.shift(np.array([r.probability for r in recent]), model.card["reference_deciles"])
    )
    figures["missing_shift"] = plain(_missing_shift(session, model, recent))
    known = evidence(session, model, now=now)
    if len(known.truth) >= LEAST_OF_A_MONTH and 0 < known.truth.sum() < len(known.truth):
        slope = fitting.line_through(judging.log_odds(known.probability), known.truth, known.weight)[0]
        figures["calibration_slope"] = plain(slope)
        figures["auroc"] = plain(judging.auroc(known.truth, known.probability, known.weight))
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
    if slope is not None and not gates.SLOPES[0] <= slope <= gates.SLOPES[1]:
        found.append(f"calibration slope {slope:.2f}")
    looked_at = figures.get("raised_looked_at", 0)
    if looked_at >= LEAST_OF_A_MONTH and figures["raised_confirmed"] == 0:
        found.append(f"none of {looked_at} raised was confirmed")
    return found
