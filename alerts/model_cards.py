"""A model's card: what it was made from, how good it is known to be, for whom it errs, and what it cannot say."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening.models import RiskModel, RiskModelCheck
from screening.risk_model import registry


def card(session: Session, model: RiskModel) -> dict[str, Any]:
    """Everything that is kept of a model but its bytes, as JSON knows it; nothing in it is of a single student."""
    stood = registry.approvals(session, model)
    return {
        "name": model.name,
        "state": model.state,
        "trained_at": model.trained_at.isoformat(),
        "retired_at": None if model.retired_at is None else model.retired_at.isoformat(),
        "digest": model.digest,
        "libraries": dict(model.libraries),
        "problem": model.problem,
        "approvals": [
            {"by": str(one.by), "at": one.at.isoformat(), "yellow_from": one.yellow_from,
             "orange_from": one.orange_from, "gates": one.gates}
            for one in stood
        ],
        "checks": [
            {"month": one.month.isoformat(), "figures": one.figures, "problems": list(one.problems)}
            for one in checks(session, model)
        ],
        **model.card,
    }  # fmt: skip


def checks(session: Session, model: RiskModel) -> Sequence[RiskModelCheck]:
    """What each month's look at a model found, the earliest first."""
    wanted = select(RiskModelCheck).where(RiskModelCheck.model_id == model.id)
    return session.scalars(wanted.order_by(RiskModelCheck.month)).all()


def page(found: Mapping[str, Any]) -> str:
    """The card as a page of Markdown."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Model {found['name']}"
    yield ""
    yield f"{found['state']}, trained {found['trained_at']}, SHA-256 {found['digest']}."
    if found["problem"]:
        yield f"**It could not be asked when it was last tried: {found['problem']}.**"
    yield str(found.get("purpose", ""))
    yield from _table("Made from", _made_from(found))
    judged = found.get("schools_left_out") or {}
    if judged:
        yield from _table("At schools left out of the fit", _figures(judged, found.get("baseline_auroc")))
    for stood in found["approvals"]:
        rows = {name: f"{gate['seen']}; needed: {gate['needed']}" for name, gate in stood["gates"].items()}
        yield from _table(f"Stood for by {stood['by']} at {stood['at']}", rows)
    for check in found["checks"]:
        told = check["problems"] or ["nothing has drifted"]
        yield from _table(f"Looked at in {check['month'][:7]}", {**check["figures"], "found": "; ".join(told)})
    yield from ("", "## What it cannot say", "")
    yield from (f"- {limit}" for limit in found.get("limits", ()))


def _made_from(found: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "labels": "outcomes",
        "labels_by_lot": "of them by lot, below every threshold",
        "confirmed": "of them confirmed",
        "schools": "schools",
        "features_version": "table of features, version",
        "training_digest": "SHA-256 of what it learned from",
        "settings": "settings",
        "libraries": "libraries",
        "features": "features",
        "symptoms": "counting upwards or downwards only",
    }
    return {words: _plainly(found[name]) for name, words in names.items() if name in found}


def _figures(judged: Mapping[str, Any], baseline: object) -> dict[str, Any]:
    names = {
        "auroc": "AUROC",
        "auroc_interval": "its 95% interval",
        "brier": "Brier",
        "slope": "calibration slope",
        "ece": "calibration error",
        "ece_recalibrated": "calibration error at the school's own level",
        "sensitivity": "found in the top tenth",
        "ppv": "confirmed in the top tenth",
    }
    return {words: _plainly(judged[name]) for name, words in names.items()} | {"AUROC of the baseline": baseline}


def _plainly(value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else value


def _table(title: str, rows: Mapping[str, object]) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| | |", "|---|---|")
    yield from (f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items())
