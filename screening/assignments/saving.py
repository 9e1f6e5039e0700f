"""A page of answers is saved; a critical answer is noticed at once, and kept for itself."""

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from screening import access, audit, results, rounds
from screening.assignments.pages import Sent, by_instrument, must_be_open
from screening.assignments.places import Answers, Place, hold_place
from screening.assignments.safety import critical_answers, safety_signals
from screening.results import Signal
from screening.statements import Statement


@dataclass(frozen=True)
class Saved:
    """What came of saving a page. Without consent nothing is kept, and critical answers are signals all the same."""

    is_kept: bool
    signals: tuple[Signal, ...]
    rules: rounds.RoundRules


def save(
    session: Session, assignment_id: uuid.UUID, answers: Sent, *, by: access.Actor, now: dt.datetime | None = None
) -> Saved:
    """Saves a page of answers (item id -> code, None for a blank); the same page again changes nothing.

    It is saved `now`, or at the transaction's own time, for which nobody has to ask the database first.

    A critical answer is kept for itself, so that changing it later does not undo it. Raises NotFound, NotKeptNow when
    the round is not open here, NotKeptAsSent naming every item or code that is not of this form.
    """
    place = hold_place(session, assignment_id, now)
    pages = by_instrument(place, answers)
    must_be_open(place, pages)
    signals = safety_signals(place, pages)
    if place.has_consent:
        _keep_drafts(session, place, pages)
        _keep_safety_answers(session, place, pages)
        audit.record(session, by, "answers.saved", "assignment", assignment_id, items=len(answers))
    return Saved(place.has_consent, signals, place.rules)


def _keep_drafts(session: Session, place: Place, pages: Mapping[str, Answers]) -> None:
    for code, whole in place.with_drafts(pages).items():
        if code in pages:
            _KEEP_DRAFT.later(
                session,
                _owner(session, place)
                | {
                    "instrument": code,
                    "answers": [whole.get(item) for item in results.item_ids(place.rules.instruments[code])],
                    "now": place.now,
                },
            )


def _keep_safety_answers(session: Session, place: Place, pages: Mapping[str, Answers]) -> None:
    for code, page in pages.items():
        for item, answer in critical_answers(place, code, page).items():
            _KEEP_SAFETY_ANSWER.later(
                session,
                _owner(session, place) | {"instrument": code, "item": item, "answer": answer, "now": place.now},
            )


_KEEP_DRAFT = Statement(
    "insert into drafts (district_id, assignment_id, instrument, school_id, answers, saved_at)"
    " values (:district, :assignment, :instrument, :school, :answers, :now)"
    " on conflict (district_id, assignment_id, instrument)"
    " do update set answers = excluded.answers, saved_at = excluded.saved_at"
)
_KEEP_SAFETY_ANSWER = Statement(
    "insert into safety_answers (district_id, assignment_id, item, answer, school_id, instrument, answered_at)"
    " values (:district, :assignment, :item, :answer, :school, :instrument, :now) on conflict do nothing"
)


def _owner(session: Session, place: Place) -> dict[str, Any]:
    return {
        "district": access.scope_of(session).district_id,
        "assignment": place.row["id"],
        "school": place.row["school_id"],
    }
