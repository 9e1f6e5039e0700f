"""The models of a district: kept as bytes, in shadow until two persons stand for the gates, ended in one step."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import access, audit
from screening.errors import NotFound, Refused
from screening.models import RiskModel, RiskModelApproval
from screening.risk_model import features, storing
from screening.risk_model.fitting import Model
from screening.risk_model.storing import ModelUnusable
from screening.statements import Later, Statement

APPROVERS = frozenset({"district_admin"})
"""Two different people who administer the district."""


def store(
    session: Session,
    name: str,
    model: Model,
    baseline: Model,
    *,
    card: Mapping[str, Any],
    by: access.Actor,
    now: dt.datetime,
) -> RiskModel:
    """Keeps a model with its baseline, in shadow: it is asked from now on, and nobody hears it.

    Raises Refused for a name that is taken.
    """
    if session.execute(select(RiskModel.id).where(RiskModel.name == name)).first():
        raise Refused(f"There is a model {name} already.", code="model_name_taken")
    body, baseline_body = storing.dump(model), storing.dump(baseline)
    made = RiskModel(
        district_id=access.scope_of(session).district_id,
        id=uuid.uuid4(),
        name=name,
        state="shadow",
        features_version=features.VERSION,
        body=body,
        baseline_body=baseline_body,
        digest=storing.digest_of(body + baseline_body),
        libraries=storing.libraries(),
        card=dict(card),
        trained_by=by.account_id,
        trained_at=now,
    )
    session.add(made)
    session.flush()
    audit.record(session, by, "model.trained", "model", made.id, digest=made.digest)
    return made


def listed(session: Session) -> Sequence[RiskModel]:
    """Every model of the district, the newest first."""
    return session.scalars(select(RiskModel).order_by(RiskModel.trained_at.desc())).all()


def get(session: Session, name: str) -> RiskModel:
    """By its name or id. Raises NotFound."""
    is_id = len(name) == 36 and name.count("-") == 4
    wanted = RiskModel.id == uuid.UUID(name) if is_id else RiskModel.name == name
    found = session.scalars(select(RiskModel).where(wanted)).one_or_none()
    if found is None:
        raise NotFound("There is no such model.")
    return found


def approvals(session: Session, model: RiskModel) -> Sequence[RiskModelApproval]:
    """Who stands for it, in order."""
    wanted = select(RiskModelApproval).where(RiskModelApproval.model_id == model.id)
    return session.scalars(wanted.order_by(RiskModelApproval.at)).all()


def approve(
    session: Session,
    model: RiskModel,
    *,
    gates: Mapping[str, Any],
    yellow_from: float,
    orange_from: float,
    by: access.Actor,
    now: dt.datetime,
) -> bool:
    """One person stands for these bytes and gates; with the second the model is active, and the one before retires.

    Returns whether it is active now. Raises Refused for somebody who may not, the same person twice, or a model that
    was retired.
    """
    if not by.has(*APPROVERS):
        raise Refused("A model is approved by two who administer the district.", code="not_yours")
    if model.state != "shadow":
        raise Refused(f"The model is {model.state}.", code="model_not_in_shadow")
    before = [one for one in approvals(session, model) if one.digest == model.digest]
    if any(one.by == by.person for one in before):
        raise Refused("Another person has to confirm it.", code="second_person")
    row = RiskModelApproval(
        district_id=model.district_id, id=uuid.uuid4(), model_id=model.id, digest=model.digest, gates=dict(gates),
        yellow_from=yellow_from, orange_from=orange_from, by=by.person, at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit.record(session, by, "model.approved", "model", model.id, digest=model.digest)
    if not before:
        return False
    standing = active(session)
    if standing is not None:
        retire(session, standing, by=by, now=now)
    model.state = "active"
    session.flush()
    audit.record(session, by, "model.promoted", "model", model.id, digest=model.digest)
    return True


def active(session: Session) -> RiskModel | None:
    """The model that may raise, if there is one."""
    return session.scalars(select(RiskModel).where(RiskModel.state == "active")).one_or_none()


def silent(session: Session) -> Later:
    """The name of the active model that could not be asked when it was last tried, and its problem, if so it was."""
    return _SILENT.later(session, {"district": access.scope_of(session).district_id})


_SILENT = Statement(
    "select name, problem from risk_models"
    " where district_id = :district and state = 'active' and problem is not null limit 1"
)


def retire(session: Session, model: RiskModel, *, by: access.Actor, now: dt.datetime) -> RiskModel:
    """One step back to the rules: from the next result on the model says nothing. What it raised stays for people."""
    if model.state != "retired":
        model.state, model.retired_at, model.retired_by = "retired", now, by.account_id
        session.flush()
        audit.record(session, by, "model.retired", "model", model.id)
    return model


def opened(session: Session, model: RiskModel) -> tuple[Model, Model]:
    """The model and its baseline, built from their bytes. Raises ModelUnusable, and runs nothing of theirs.

    An active model must be the bytes that two persons stood for, which only their own rows say.
    """
    wanted = {model.digest}
    if model.state == "active":
        stood_for = [one.digest for one in approvals(session, model)]
        wanted = {digest for digest in stood_for if stood_for.count(digest) > 1}
    if storing.digest_of(model.body + model.baseline_body) not in wanted:
        raise ModelUnusable("The stored model is not the one that was approved.", code="model_digest")
    if model.features_version != features.VERSION:
        raise ModelUnusable("The model learned from another table of features.", code="model_features")
    return _built(model.body, tuple(sorted(model.libraries.items()))), _built(
        model.baseline_body, tuple(sorted(model.libraries.items()))
    )


@lru_cache(maxsize=8)
def _built(body: bytes, versions: tuple[tuple[str, str], ...]) -> Model:
    return storing.load(body, digest=storing.digest_of(body), versions=dict(versions))


def thresholds(session: Session, model: RiskModel) -> tuple[float, float]:
    """From which probability it raises to yellow and to orange: the more careful of its two approvals.

    Infinite for a model that nobody approved: it raises nobody.
    """
    found = [one for one in approvals(session, model) if one.digest == model.digest]
    if model.state != "active" or len(found) < 2:
        return float("inf"), float("inf")
    return max(one.yellow_from for one in found), max(one.orange_from for one in found)
