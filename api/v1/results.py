"""What a student's round came to, answer by answer, and why."""

import uuid
from typing import Annotated, Literal

from fastapi import Query, Request

from api.deps import CARING, ActorDep, Door, Id, SessionDep, Tier, View, tier_name
from api.v1.shown import FormView, ResultView
from screening import history

door = Door(prefix="/v1/results", tag="results")


class AnsweredFormView(FormView):
    """A form with its answers by item; null is a blank."""

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


class ExplanationView(View):
    """Why the tier is what it is: the highest of the reasons' tiers."""

    student_id: uuid.UUID
    round_id: uuid.UUID
    tier: Tier
    validity: str
    reasons: list[ReasonView]


@door.get("/{student_id}/{round_id}", roles=CARING)
def show(student_id: Id, round_id: Id, session: SessionDep, by: ActorDep) -> RoundResultView:
    """The standing result of one student in one round, with scores and answers; the reading is kept account of."""
    found = history.of_round(session, student_id, round_id, by=by)
    return RoundResultView(
        student_id=student_id,
        round_id=round_id,
        name=found.name,
        result=None if found.result is None else ResultView.of(found.result),
        forms=[AnsweredFormView.model_validate(form) for form in found.forms],
    )


@door.get("/{student_id}/{round_id}/explanation", roles=CARING)
def explain(
    student_id: Id,
    round_id: Id,
    request: Request,
    session: SessionDep,
    by: ActorDep,
    locale: Annotated[Literal["zh_CN", "en"] | None, Query()] = None,
) -> ExplanationView:
    """The reasons in plain words, and the tier that they add up to."""
    spoken = locale or request.app.state.settings.locale
    result, reasons = history.explained(session, student_id, round_id, locale=spoken, by=by)
    return ExplanationView(
        student_id=student_id,
        round_id=round_id,
        tier=tier_name(result.tier),
        validity=result.validity,
        reasons=[ReasonView(rule=rule, tier=tier_name(tier), words=words) for rule, tier, words in reasons],
    )
