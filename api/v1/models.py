"""The models of a district: what each was made from, what is known of it, and the two persons who stand for it."""

import datetime as dt
import uuid
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from alerts import models_at_work
from api.deps import ActorDep, Body, Door, NowDep, SessionDep, View
from screening.errors import Problem, Refused
from screening.models import RiskModel
from screening.risk_model import registry

door = Door(prefix="/v1/models", tag="models")

READING = frozenset({"counselor", "lead", "district_analyst", "district_admin", "privacy_officer", "auditor"})


class PromotionBody(Body):
    """`capacity`: of all students, the share that counselors can see beyond those whom the rules find."""

    capacity: Annotated[float, Field(gt=0, le=0.5)] = models_at_work.CAPACITY


class ApprovalView(View):
    by: uuid.UUID
    at: dt.datetime
    yellow_from: float
    orange_from: float
    gates: dict[str, Any]


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


class ModelsView(View):
    models: list[ModelView]


class GateView(View):
    """`is_met` null: not enough to say, which keeps the model in shadow."""

    name: str
    is_met: bool | None
    seen: str
    needed: str


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


@door.post("/{name}/promotion", roles=registry.APPROVERS)
def promote(name: str, body: PromotionBody, session: SessionDep, actor: ActorDep, now: NowDep) -> PromotionView:
    """Stands for the model if every gate is open; 409 with the failed gates otherwise. Two persons make it active."""
    model = registry.get(session, name)
    found = models_at_work.promote(session, model, capacity=body.capacity, by=actor, now=now)
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


def _shown(session: Session, model: RiskModel) -> ModelView:
    stood = [ApprovalView.model_validate(one) for one in registry.approvals(session, model)]
    names = ("id", "name", "state", "trained_at", "retired_at", "digest", "problem", "card")
    return ModelView(**{name: getattr(model, name) for name in names}, approvals=stood)
