"""One student over rounds: what was answered each time, what it scored, and the tier that stands."""

import contextlib
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from instruments import scoring
from screening import access, audit, results, rounds, same_child, students, tiers
from screening.errors import NotFound


@dataclass(frozen=True)
class ScoredForm:
    """One form as it was filled in; `scores` and `bands` by scale id, None where a scale could not be scored."""

    instrument: str
    informant: str
    attempt: int
    revision: int
    status: str
    n_missing: int
    scores: Mapping[str, float | None]
    bands: Mapping[str, str | None]
    answers: Mapping[str, int | None]
    recorded_at: dt.datetime


@dataclass(frozen=True)
class StandingResult:
    """A student's round in sum, by its latest revision. `tier` is 0 none to 3 red."""

    revision: int
    tier: int
    validity: str
    reasons: tuple[str, ...]
    prior_tier: int
    recorded_at: dt.datetime


@dataclass(frozen=True)
class RoundOfStudent:
    """A student's place in one round; `result` is None while nothing was answered.

    `student_id` is the row to which it came: a child can have several.
    """

    student_id: uuid.UUID
    round_id: uuid.UUID
    name: str
    opens_at: dt.datetime
    is_historical: bool
    result: StandingResult | None
    forms: tuple[ScoredForm, ...]


_ROUNDS = text(
    "select o.id, o.name, o.opens_at, o.is_historical, r.revision, r.tier, r.validity, r.reasons, r.forms,"  # noqa: S608 - our own SQL
    " r.prior_tier, r.recorded_at from rounds o"
    " left join lateral (select * from results x where x.district_id = o.district_id and x.round_id = o.id"
    f"  and x.student_id = :student and {access.within('x.school_id')} order by x.revision desc limit 1) r on true"
    " where o.district_id = :district and (cast(:round as uuid) is null or o.id = :round)"
    " and exists (select from assignments a where a.district_id = o.district_id and a.round_id = o.id"
    f"  and a.student_id = :student and {access.within('a.school_id')}) order by o.opens_at, o.id"
)
_FORMS = text(
    "select round_id, instrument, informant, attempt, revision, status, missing_count, scores, answers, recorded_at"  # noqa: S608 - our own SQL
    f" from administrations where district_id = :district and student_id = :student and {access.within('school_id')}"
    " and (cast(:round as uuid) is null or round_id = :round)"
    " order by recorded_at, instrument, informant, attempt, revision"
)


def of_student(
    session: Session, student_id: uuid.UUID, *, by: access.Actor, because: str = "role"
) -> list[RoundOfStudent]:
    """Every round in which the student has a place, earliest first; the reading and its ground are kept account of.

    Raises NotFound for a student out of scope.
    """
    students.school_of(session, student_id)
    found = _read(session, student_id, None)
    audit.record(session, by, "result.read", "student", student_id, rounds=len(found), because=because)
    return found


def of_child(
    session: Session, student_id: uuid.UUID, *, by: access.Actor, because: str = "role"
) -> list[RoundOfStudent]:
    """Like `of_student`, of every row of the same child that stands in the scope."""
    found = of_student(session, student_id, by=by, because=because)
    for other in sorted(same_child.others(session, [student_id]).get(student_id, ())):
        with contextlib.suppress(NotFound):  # at a school that is not this reader's
            found += of_student(session, other, by=by, because=because)
    return sorted(found, key=lambda place: (place.opens_at, place.round_id, place.student_id))


def of_round(
    session: Session, student_id: uuid.UUID, round_id: uuid.UUID, *, by: access.Actor, because: str = "role"
) -> RoundOfStudent:
    """One student's round. Raises NotFound when the student has no place in it, or is out of scope."""
    found = _read(session, student_id, round_id)
    if not found:
        raise NotFound("There is no such result.")
    audit.record(session, by, "result.read", "student", student_id, round=str(round_id), because=because)
    return found[0]


def safety_items(session: Session, round_id: uuid.UUID, instrument: str) -> frozenset[str]:
    """The items of an instrument, as that round asks it, whose answers matter alone."""
    return frozenset(each.item for each in rounds.rules_of(session, round_id).instruments[instrument].critical_items)


def explained(
    session: Session,
    student_id: uuid.UUID,
    round_id: uuid.UUID,
    *,
    locale: str,
    by: access.Actor,
    because: str = "role",
) -> tuple[StandingResult, list[tuple[str, int, str]]]:
    """The standing result, and why: (rule, tier, words) of each reason; the highest of their tiers is the result's.

    Raises NotFound when there is no result.
    """
    found = of_round(session, student_id, round_id, by=by, because=because)
    if found.result is None:
        raise NotFound("There is no such result.")
    policy = rounds.rules_of(session, round_id).policy
    return found.result, tiers.explain(found.result.reasons, policy, locale)


def _read(session: Session, student_id: uuid.UUID, round_id: uuid.UUID | None) -> list[RoundOfStudent]:
    wanted = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "student": student_id,
        "round": round_id,
    }
    forms: dict[uuid.UUID, list[Row[Any]]] = defaultdict(list)
    for row in session.execute(_FORMS, wanted):
        forms[row.round_id].append(row)
    return [_round(session, student_id, row, forms[row.id]) for row in session.execute(_ROUNDS, wanted).all()]


def _round(session: Session, student_id: uuid.UUID, row: Row[Any], forms: Sequence[Row[Any]]) -> RoundOfStudent:
    standing = None
    if row.revision is not None:
        standing = StandingResult(
            revision=row.revision,
            tier=row.tier,
            validity=row.validity,
            reasons=tuple(row.reasons),
            prior_tier=row.prior_tier,
            recorded_at=row.recorded_at,
        )
    used = set(row.forms or ())
    rules = rounds.rules_of(session, row.id) if forms else None
    return RoundOfStudent(
        student_id=student_id,
        round_id=row.id,
        name=row.name,
        opens_at=row.opens_at,
        is_historical=row.is_historical,
        result=standing,
        forms=tuple(
            _form(form, rules)
            for form in forms
            # what a later correction replaced is kept, but it is not what the result stands on
            if rules is not None and f"{form.instrument}/{form.informant}/{form.attempt}/{form.revision}" in used
        ),
    )


def _form(row: Row[Any], rules: rounds.Rules) -> ScoredForm:
    instrument = rules.instruments[row.instrument]
    answers = dict(zip(results.item_ids(instrument), row.answers, strict=True))
    again = scoring.score_one(answers, instrument, results.form_of(instrument, row.informant))
    return ScoredForm(
        instrument=row.instrument,
        informant=row.informant,
        attempt=row.attempt,
        revision=row.revision,
        status=row.status,
        n_missing=row.missing_count,
        scores={scale.id: score for scale, score in zip(instrument.scales, row.scores, strict=True)},
        bands={
            name.removesuffix("_band"): None if band is None else str(band)
            for name, band in again.items()
            if name.endswith("_band")
        },
        answers=answers,
        recorded_at=row.recorded_at,
    )
