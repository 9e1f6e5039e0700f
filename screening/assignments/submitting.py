"""A form is handed in: scored, decided and appended as a result revision, and the same again is once."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from instruments import scoring
from screening import access, audit, results, rounds, tiers
from screening.assignments.pages import NotKeptBeside, NotKeptNow, Sent, by_instrument, must_be_open
from screening.assignments.places import Answers, Place, hold_place
from screening.errors import Refused
from screening.results import Revision, Revisions
from screening.statements import Statement


@dataclass(frozen=True)
class Submitted:
    """What came of handing in. `revisions` is None when exactly the same was handed in before."""

    student_id: uuid.UUID
    round_id: uuid.UUID
    revisions: Revisions | None
    rules: rounds.RoundRules


def submit(
    session: Session,
    assignment_id: uuid.UUID,
    *,
    by: access.Actor,
    now: dt.datetime | None = None,
    answers: Sent | None = None,
) -> Submitted:
    """Hands in what was saved, with `answers` as its last page: scored, decided and appended as a result revision.

    It is handed in `now`, or at the transaction's own time. Handing in the same again is once. Raises what `save`
    raises, Conflict (`differs`) when other answers were handed in before, Refused (`no_consent`, `nothing_answered`).
    """
    place = hold_place(session, assignment_id, now)
    pages = place.with_drafts(by_instrument(place, answers or {}))
    must_be_open(place, pages)
    if not place.has_consent:
        words = "There is no consent in force for this student."
        raise NotKeptNow(words, code="no_consent", place=place, pages=pages)
    new, repeated = _new_forms(place, pages)
    if not new:
        if repeated:
            return Submitted(place.student_id, place.round_id, None, place.rules)
        raise Refused("Nothing was answered yet.", code="nothing_answered")
    revisions = _append(session, place, new, by)
    audit.record(session, by, "answers.submitted", "assignment", assignment_id, forms=len(new))
    return Submitted(place.student_id, place.round_id, revisions, place.rules)


@dataclass(frozen=True)
class _Form:
    """One instrument as it stands for the student: new (attempt 1, revision 1), or stored."""

    code: str
    form: str
    attempt: int
    revision: int
    answers: tuple[int | None, ...]
    scored: Mapping[str, object]

    @property
    def label(self) -> str:
        return f"{self.code}/{results.informant_of(self.form)}/{self.attempt}/{self.revision}"


def _new_forms(place: Place, pages: Mapping[str, Answers]) -> tuple[list[_Form], bool]:
    """The forms that were answered and are not stored yet; and whether others are there already."""
    stored = {code: answers for code, informant, _, _, answers in place.stored if informant == place.row["informant"]}
    new: list[_Form] = []
    repeated = False
    for code, page in pages.items():
        answers = tuple(page.get(item) for item in results.item_ids(place.rules.instruments[code]))
        if all(answer is None for answer in answers):
            continue
        if code not in stored:
            new.append(_form(place, code, place.forms[code], 1, 1, answers))
        elif stored[code] == answers:
            repeated = True
        else:
            words = f"Other answers to {code} were handed in before."
            raise NotKeptBeside(words, code="differs", place=place, pages=pages)
    return new, repeated


def _form(place: Place, code: str, form: str, attempt: int, revision: int, answers: tuple[int | None, ...]) -> _Form:
    instrument = place.rules.instruments[code]
    by_item = dict(zip(results.item_ids(instrument), answers, strict=True))
    return _Form(code, form, attempt, revision, answers, scoring.score_one(by_item, instrument, form))


def _append(session: Session, place: Place, new: Sequence[_Form], by: access.Actor) -> Revisions:
    forms = [*new, *_stored_forms(place)]
    verdict = tiers.decide_one(
        [(form.code, form.form, form.scored) for form in forms],
        place.rules.policy,
        place.rules.instruments,
        age=place.row["age"],
        prior_tier=place.prior_tier,
    )
    revision, reasons_before, forms_before = place.row["standing"] or (0, (), ())
    parameters: dict[str, Any] = {
        "district": access.scope_of(session).district_id,
        "round": place.round_id,
        "student": place.student_id,
        "revision": revision + 1,
        "school": place.row["school_id"],
        "tier": verdict.tier,
    }
    _APPEND.later(
        session,
        parameters
        | _columns(place, new)
        | {
            "by": by.person,
            "now": place.now,
            "rules": place.rules.rule_set_id,
            "assignment": place.row["id"],
            "validity": verdict.validity,
            "reasons": list(verdict.reasons),
            "forms": sorted(form.label for form in forms),
            "prior_tier": place.prior_tier,
            "age": place.row["age"],
        },
    )
    attempt, before = max(form.attempt for form in forms), results.latest_attempt(forms_before)
    return Revisions(
        round_id=place.round_id,
        is_historical=False,
        relation=results.ONE_NEW,
        parameters=parameters,
        with_reasons=(
            Revision(
                student_id=place.student_id,
                school_id=place.row["school_id"],
                reasons=verdict.reasons,
                reasons_before=tuple(reasons_before),
                attempt=attempt,
                is_new_attempt=attempt > before > 0,
            ),
        ),
    )


def _stored_forms(place: Place) -> list[_Form]:
    """What the student has in this round already: of every attempt the revision that stands."""
    standing = {
        (code, informant, attempt): (revision, answers)
        for code, informant, attempt, revision, answers in sorted(place.stored, key=lambda stored: stored[3])
    }
    return [
        _form(place, code, results.form_of(place.rules.instruments[code], informant), attempt, revision, answers)
        for (code, informant, attempt), (revision, answers) in standing.items()
    ]


def _columns(place: Place, new: Sequence[_Form]) -> dict[str, list[Any]]:
    return {
        "instrument": [form.code for form in new],
        "answers": [_array_text(form.answers) for form in new],
        "status": [form.scored["status"] for form in new],
        "missing": [form.scored["n_missing"] for form in new],
        "scores": [
            _array_text([form.scored[scale.id] for scale in place.rules.instruments[form.code].scales]) for form in new
        ],
    }


def _array_text(values: Sequence[object]) -> str:
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"


_APPEND = Statement(
    "with filled_in as (insert into administrations (district_id, round_id, student_id, informant, instrument, attempt,"
    "  revision, school_id, answers, status, missing_count, scores, recorded_by, recorded_at)"
    " select a.district_id, a.round_id, a.student_id, a.informant, n.instrument, 1, 1, :school,"
    "  cast(n.answers as smallint[]), n.status, n.missing, cast(n.scores as real[]), :by, :now from assignments a,"
    " unnest(cast(:instrument as text[]), cast(:answers as text[]), cast(:status as text[]),"
    "  cast(:missing as smallint[]), cast(:scores as text[])) as n (instrument, answers, status, missing, scores)"
    " where a.district_id = :district and a.id = :assignment),"
    " handed_in as (delete from drafts where district_id = :district and assignment_id = :assignment)"
    " insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons, forms,"
    " prior_tier, age, rule_set_id, recorded_by, recorded_at)"
    " values (:district, :round, :student, :revision, :school, :tier, :validity, :reasons, :forms, :prior_tier, :age,"
    " :rules, :by, :now)"
)
