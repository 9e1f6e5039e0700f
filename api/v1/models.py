"""The models of a district: what each was made from, what is known of it, and the two persons who stand for it."""

import datetime as dt
import uuid
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from sqlalchemy.orm import Session

from alerts import model_cards, models_at_work
from api.deps import ActorDep, Body, Door, NowDep, Sender, SessionDep, View, school_id
from screening.errors import Problem, Refused
from screening.models import RiskModel
from screening.risk_model import registry

door = Door(prefix="/v1/models", tag="models")

READING = frozenset({"counselor", "lead", "district_analyst", "district_admin", "privacy_officer", "auditor"})

JUDGING = frozenset({"district_analyst", "district_admin", "privacy_officer", "auditor"})
"""Who sees the whole district: of one school alone the figures would be others."""


class PromotionBody(Body):
    """`capacity`: of all students, the share that counselors can see beyond those whom the rules find.

    `rural_schools`: codes of the rural schools, [] where all are urban; null leaves unsaid whether it errs more there,
    which keeps the model in shadow.
    """

    capacity: Annotated[float, Field(gt=0, le=0.5)] = models_at_work.CAPACITY
    rural_schools: list[Sender] | None = None


class ApprovalView(View):
    by: uuid.UUID
    at: dt.datetime
    yellow_from: float
    orange_from: float
    gates: dict[str, Any]


class CheckView(View):
    """What was seen in a month; `problems` are told with the loop's health until the month is over."""

    month: dt.date
    figures: dict[str, Any]
    problems: list[str]


class ModelView(View):
    """The model card; `problem` is why it could not be asked when it was last tried."""

    id: uuid.UUID
    name: str
    state: str
    trained_at: dt.datetime
    retired_at: dt.datetime | None
    digest: str
    problem: str | None
    card: dict[str, Any]
    approvals: list[ApprovalView]
    checks: list[CheckView]


class ModelsView(View):
    models: list[ModelView]


class GateView(View):
    """`is_met` null: not enough to say, which keeps the model in shadow."""

    name: str
    is_met: bool | None
    seen: str
    needed: str


class FoundView(View):
    """The share of those in need whom somebody looks at, corrected for those whom nobody asked, and its interval."""

    sensitivity: float | None
    interval: tuple[float, float]


class MissedView(View):
    """Of those in need in a group, the share that is missed; null where they are too few to tell."""

    group: str
    cases: int
    missed: float | None
    interval: tuple[float, float]


class GapView(View):
    """`gap` null: too few cases in one of the groups to say."""

    by: str
    groups: list[MissedView]
    gap: float | None
    interval: tuple[float, float] | None


class EvaluationView(View):
    """What is known of a model from students it did not learn from: every gate, and whom it misses."""

    labels: int
    capacity: float
    gates: list[GateView]
    rules: FoundView
    rules_and_model: FoundView
    fairness: list[GapView]


class PromotionView(View):
    """All gates are open. `is_active` is false until a second person has stood for the model too."""

    is_active: bool
    gates: list[GateView]


@door.get("", roles=READING)
def listed(session: SessionDep) -> ModelsView:
    """The cards of all models, the newest first."""
    return ModelsView(models=[_shown(session, model) for model in registry.listed(session)])


@door.get("/{name}", roles=READING)
def show(name: str, session: SessionDep) -> ModelView:
    """One model's card, by its name."""
    return _shown(session, registry.get(session, name))


@door.get("/{name}/evaluation", roles=JUDGING)
def evaluate(
    name: str,
    session: SessionDep,
    now: NowDep,
    capacity: Annotated[float, Query(gt=0, le=0.5)] = models_at_work.CAPACITY,
    rural_school: Annotated[list[Sender] | None, Query(description="The code of a rural school.")] = None,
) -> EvaluationView:
    """Every gate with its number, what rules alone and rules with model find, and whom both miss in each group."""
    model, rural = registry.get(session, name), _rural(session, rural_school)
    known = models_at_work.evidence(session, model, capacity=capacity, rural=rural, now=now)
    return EvaluationView.model_validate(models_at_work.plain(asdict(models_at_work.evaluate(known))))


@door.post("/{name}/promotion", roles=registry.APPROVERS)
def promote(name: str, body: PromotionBody, session: SessionDep, actor: ActorDep, now: NowDep) -> PromotionView:
    """Stands for the model if every gate is open; 409 with the failed gates otherwise. Two persons make it active."""
    model = registry.get(session, name)
    rural = _rural(session, body.rural_schools)
    found = models_at_work.promote(session, model, capacity=body.capacity, rural=rural, by=actor, now=now)
    if not found.is_open:
        failed = [
            Problem(code=gate.name, message=f"{gate.seen}; needed: {gate.needed}")
            for gate in found.gates
            if not gate.is_met
        ]
        raise Refused("The model stays in shadow.", code="gates_closed", problems=failed)
    return PromotionView(is_active=found.is_active, gates=[GateView.model_validate(gate) for gate in found.gates])


@door.post("/{name}/retirement", roles=registry.APPROVERS)
def retire(name: str, session: SessionDep, actor: ActorDep, now: NowDep) -> ModelView:
    """Back to the rules alone, in one step; what the model raised stays with the people who look at it."""
    return _shown(session, registry.retire(session, registry.get(session, name), by=actor, now=now))


def _rural(session: Session, codes: list[str] | None) -> list[str] | None:
    for code in codes or ():
        school_id(session, code)
    return codes


def _shown(session: Session, model: RiskModel) -> ModelView:
    stood = [ApprovalView.model_validate(one) for one in registry.approvals(session, model)]
    checks = [CheckView.model_validate(one) for one in model_cards.checks(session, model)]
    names = ("id", "name", "state", "trained_at", "retired_at", "digest", "problem", "card")
    return ModelView(**{name: getattr(model, name) for name in names}, approvals=stood, checks=checks)
