"""What several doors show alike."""

import datetime as dt
import uuid

from sqlalchemy.orm import Session

from alerts import knowing, tying
from api.deps import Tier, View, tier_name
from screening import access
from screening.db import Database
from screening.history import RoundOfStudent, ScoredForm, StandingResult


def needed(session: Session, database: Database, student_id: uuid.UUID, by: access.Actor, now: dt.datetime) -> str:
    """The ground on which what is kept of a student is shown to this reader; opening many is told of.

    Raises NotFound for a student out of scope, AccessNeeded without a ground or with the hour's budget spent, Refused
    once the consent was withdrawn.
    """
    why = knowing.require(session, student_id, by=by, now=now)
    knowing.require_consent(session, student_id, now=now)
    if knowing.has_opened_many(session, student_id, by=by, now=now):
        with database.unit(access.Scope(by.district_id)) as own:
            knowing.alarm(own, by=by, now=now)
        knowing.require_second_person(session, student_id, why, by=by, now=now)
    return why


class SameChildView(View):
    """Another row of the same child (`/v1/merges`), with what is open there."""

    student_id: uuid.UUID
    alert_id: uuid.UUID | None
    case_id: uuid.UUID | None


def same_child(session: Session, student_id: uuid.UUID) -> list[SameChildView]:
    """The other rows of this child with what is open there, as far as the reader's schools go."""
    return [SameChildView.model_validate(each) for each in tying.beside(session, student_id)]


class FormView(View):
    """One form: its scores and bands by scale."""

    instrument: str
    informant: str
    attempt: int
    revision: int
    status: str
    n_missing: int
    scores: dict[str, float | None]
    bands: dict[str, str | None]
    recorded_at: dt.datetime

    @classmethod
    def of(cls, form: ScoredForm) -> "FormView":
        return cls.model_validate(form)


class ResultView(View):
    """What stands of a student's round."""

    revision: int
    tier: Tier
    validity: str
    reasons: list[str]
    recorded_at: dt.datetime

    @classmethod
    def of(cls, result: StandingResult) -> "ResultView":
        return cls(
            revision=result.revision,
            tier=tier_name(result.tier),
            validity=result.validity,
            reasons=list(result.reasons),
            recorded_at=result.recorded_at,
        )


class RoundOfStudentView(View):
    """A student's place in a round; `result` is null while nothing was answered. `student_id` is the row to which it
    came: a child can have several (`/v1/merges`)."""

    student_id: uuid.UUID
    round_id: uuid.UUID
    name: str
    opens_at: dt.datetime
    is_historical: bool
    result: ResultView | None
    forms: list[FormView]

    @classmethod
    def of(cls, place: RoundOfStudent) -> "RoundOfStudentView":
        return cls(
            student_id=place.student_id,
            round_id=place.round_id,
            name=place.name,
            opens_at=place.opens_at,
            is_historical=place.is_historical,
            result=None if place.result is None else ResultView.of(place.result),
            forms=[FormView.of(form) for form in place.forms],
        )
