"""Critical answers of a page, and the signals that come of them at once: kept or not, finished or not."""

from collections.abc import Mapping

from instruments import scoring
from screening import tiers
from screening.assignments.places import Answers, Place
from screening.results import Signal

FIRST_ATTEMPT = 1
"""What is answered online is the first attempt."""


def safety_signals(place: Place, pages: Mapping[str, Answers]) -> tuple[Signal, ...]:
    forms = [
        (code, place.forms[code], scoring.score_one(page, place.rules.instruments[code], place.forms[code]))
        for code, page in pages.items()
        if critical_answers(place, code, page)
    ]
    if not forms:
        return ()
    verdict = tiers.decide_one(
        forms,
        place.rules.policy,
        place.rules.instruments,
        age=place.row["age"],
        prior_tier=0,
        only_safety=True,
    )
    return tuple(
        Signal(
            student_id=place.student_id,
            school_id=place.row["school_id"],
            rule=rule_id,
            tier=place.rules.policy.rule(rule_id).tier,
            is_self_harm=True,
            source=f"safety_answer/{place.round_id}/{FIRST_ATTEMPT}",
            round_id=place.round_id,
        )
        for rule_id in verdict.reasons
    )


def critical_answers(place: Place, code: str, page: Answers) -> dict[str, int]:
    """The critical items of a page that were answered so that somebody should know."""
    instrument, form = place.rules.instruments[code], place.forms[code]
    asked = [c for c in instrument.critical_items if page.get(c.item) is not None and form in (c.forms or (form,))]
    if not asked:
        return {}
    scored = scoring.score_one(page, instrument, form)
    return {
        critical.item: answer
        for critical in asked
        if scored[f"critical_{critical.id}"] and (answer := page[critical.item]) is not None
    }
