"""What a round may ask: instruments that are released and licensed, forms that exist, grades that they are for."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy.orm import Session

from instruments import catalogue
from instruments.definition import Form, Instrument
from screening import wordings
from screening.errors import Problem

Wanted = Sequence[tuple[str, Sequence[str]]]
"""(code, form names) in the order in which they are asked."""


def choose(wanted: Wanted, unreleased: Mapping[str, str]) -> tuple[dict[str, Instrument], list[Problem]]:
    """The instruments by code, and every problem of the list.

    `unreleased` gives the reason for each code that is asked although its definition is not released.
    """
    chosen: dict[str, Instrument] = {}
    problems = [] if wanted else [Problem("no_instrument", "Name at least one instrument.", column="instruments")]
    for code, names in wanted:
        try:
            instrument = catalogue.get(code)
        except catalogue.UnknownInstrument as unknown:
            problems.append(Problem("unknown_instrument", f"{unknown}.", column="instruments"))
            continue
        if code in chosen:
            problems.append(Problem("instrument_twice", f"{code} is named twice.", column="instruments"))
        if not instrument.is_released and not unreleased.get(code, "").strip():
            places = ", ".join(place for place, _ in instrument.open_facts) or "nothing is open, but nobody released it"
            message = (
                f"{code} is not released; still to be confirmed: {places}."
                " An administrator may record why it is asked all the same (unreleased_reason)."
            )
            problems.append(Problem("instrument_unreleased", message, column="instruments"))
        problems += _form_problems(instrument, names)
        chosen[code] = instrument
    return chosen, problems


def licence_problems(session: Session, chosen: Mapping[str, Instrument], until: dt.date) -> Iterator[Problem]:
    """Instruments that are off until the district has recorded its licence, and whose licence ends too early."""
    for code, instrument in chosen.items():
        if instrument.needs_licence and wordings.licence_of(session, instrument, until) is None:
            message = (
                f"{code} is asked only under a licence in force until the round closes;"
                f" record it: screening instruments licence {code}."
            )
            yield Problem("licence_missing", message, column="instruments")


def grade_problems(chosen: Mapping[str, Instrument], wanted: Wanted, grades: Sequence[int]) -> Iterator[Problem]:
    """Forms that are not made for the age of a grade, and items that a grade must not be shown."""
    for code, names in wanted:
        known = chosen[code].forms if code in chosen else {}
        for form in (known[name] for name in names if name in known):
            yield from _age_problems(code, form, grades)
            yield from _gated_items(chosen[code], form, grades)


def _form_problems(instrument: Instrument, names: Sequence[str]) -> Iterator[Problem]:
    if not names:
        yield Problem("no_form", f"Say which forms of {instrument.code} are asked.", column="forms")
    for name in names:
        if name not in instrument.forms:
            message = f"{instrument.code} has no {name} form, only {', '.join(instrument.forms)}."
            yield Problem("unknown_form", message, column="forms")
    if {"self", "youth"} <= set(instrument.forms) and "self" in names:
        # one place of the student holds one form of an instrument, and where there is a youth form it is that
        message = f"Students fill in the youth form of {instrument.code}, not the self form."
        yield Problem("form_for_adults", message, column="forms")


def _age_problems(code: str, form: Form, grades: Sequence[int]) -> Iterator[Problem]:
    """Grades none of whose children are of the age for which the form is made (grade 1 is 6 to 7 years old)."""
    for grade in grades:
        youngest, oldest = grade + 5, grade + 6
        if form.min_age > oldest or (form.max_age is not None and form.max_age < youngest):
            made_for = f"{form.min_age} to {form.max_age}" if form.max_age else f"{form.min_age} and above"
            message = f"The {form.name} form of {code} is for ages {made_for}; grade {grade} is {youngest}-{oldest}."
            yield Problem("grade_outside_ages", message, column="grades")


def _gated_items(instrument: Instrument, form: Form, grades: Sequence[int]) -> Iterator[Problem]:
    """Items that would be put to children below the grade from which they may be; adults are asked about anybody."""
    if form.informant not in ("student", "staff"):
        return
    for item in instrument.items:
        too_young = [grade for grade in grades if item.minimum_grade is not None and grade < item.minimum_grade]
        if too_young:
            listed = ", ".join(map(str, too_young))
            message = f"{item.id} ({item.sensitivity}) is for grade {item.minimum_grade} and above, not for {listed}."
            yield Problem("item_gated", message, column="grades")
