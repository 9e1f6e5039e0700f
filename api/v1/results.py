"""What a student's round came to, answer by answer, and why."""

import uuid
from typing import Annotated, Literal

from fastapi import Query, Request
from sqlalchemy.orm import Session

from alerts import knowing
from api.deps import CARING, ActorDep, DatabaseDep, Door, Id, NowDep, SessionDep, Tier, View, tier_name
from api.v1.shown import FormView, ResultView, needed
from screening import history
from screening.history import ScoredForm
from screening.risk_model import reasons as reasons_of_model
from screening.risk_model.reasons import ABOUT, Pointed

door = Door(prefix="/v1/results", tag="results")


class AnsweredFormView(FormView):
    """A form with its answers by item; null is a blank. A lead sees the items of safety alone."""

    answers: dict[str, int | None]


class RoundResultView(View):
    student_id: uuid.UUID
    round_id: uuid.UUID
    name: str
    result: ResultView | None
    forms: list[AnsweredFormView]


class ReasonView(View):
    """A rule that was met, in words."""

    rule: str
    tier: Tier
    words: str


class FeatureView(View):
    feature: str
    words: str


class PointedView(View):
    """That a model raised it, what weighed most with it, and that a person decides."""

    name: str
    words: str
    leading: list[FeatureView]


class ExplanationView(View):
    """Why the tier is what it is: the highest of the reasons' tiers. `model` is null where rules alone decided."""

    student_id: uuid.UUID
    round_id: uuid.UUID
    tier: Tier
    validity: str
    reasons: list[ReasonView]
    model: PointedView | None


@door.get("/{student_id}/{round_id}", roles=CARING)
def show(
    student_id: Id, round_id: Id, session: SessionDep, database: DatabaseDep, by: ActorDep, now: NowDep
) -> RoundResultView:
    """The standing result of one student in one round, with scores and answers: for those who have to do with them.

    The reading is kept account of, with the ground on which it was shown.
    """
    why = needed(session, database, student_id, by, now)
    found = history.of_round(session, student_id, round_id, by=by, because=why)
    return RoundResultView(
        student_id=student_id,
        round_id=round_id,
        name=found.name,
        result=None if found.result is None else ResultView.of(found.result),
        forms=[_form(session, round_id, form, why) for form in found.forms],
    )


def _form(session: Session, round_id: uuid.UUID, form: ScoredForm, why: str) -> AnsweredFormView:
    shown = AnsweredFormView.model_validate(form)
    if why not in knowing.SAFETY_ONLY:
        return shown
    safety = history.safety_items(session, round_id, form.instrument)
    return shown.model_copy(update={"answers": {item: each for item, each in shown.answers.items() if item in safety}})


@door.get("/{student_id}/{round_id}/explanation", roles=CARING)
def explain(
    student_id: Id,
    round_id: Id,
    request: Request,
    session: SessionDep,
    database: DatabaseDep,
    by: ActorDep,
    now: NowDep,
    locale: Annotated[Literal["zh_CN", "en"] | None, Query()] = None,
) -> ExplanationView:
    """The reasons in plain words, and the tier that they add up to; what is told the student who asks why."""
    spoken = locale or request.app.state.settings.locale
    why = needed(session, database, student_id, by, now)
    result, reasons = history.explained(session, student_id, round_id, locale=spoken, by=by, because=why)
    return ExplanationView(
        student_id=student_id,
        round_id=round_id,
        tier=tier_name(result.tier),
        validity=result.validity,
        reasons=[ReasonView(rule=rule, tier=tier_name(tier), words=words) for rule, tier, words in reasons],
        model=_pointed(
            reasons_of_model.of_result(
                session,
                student_id,
                round_id,
                result.revision,
                locale=spoken,
                with_questions=why not in knowing.SAFETY_ONLY,
            ),
            spoken,
        ),
    )


def _pointed(said: Pointed | None, locale: str) -> PointedView | None:
    if said is None:
        return None
    leading = [FeatureView(feature=feature, words=words) for feature, words in said.leading]
    return PointedView(name=said.model, words=ABOUT[locale], leading=leading)
