"""Answer-by and see-by times, the rungs of the ladder, and the next contact: pure, from the policy's clocks."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from screening.policy import Policy, Rung, Span
from screening.school_days import Calendar


@dataclass(frozen=True)
class Clocks:
    """By when somebody answers an alert, and by when the student is seen."""

    answer_by: dt.datetime
    see_by: dt.datetime


def due(policy: Policy, tier: int, has_self_harm: bool, at: dt.datetime, calendar: Calendar) -> Clocks:
    """The clocks of an alert raised at `at`: red and self-harm run day and night, others on the school's calendar."""
    clock = policy.clock(tier, has_self_harm)
    answer = clock.acknowledge if calendar.is_school_hours(at) else clock.acknowledge_off_hours
    return Clocks(_after(at, answer, calendar), _after(at, clock.see, calendar))


def rungs(
    policy: Policy, tier: int, has_self_harm: bool, opened_at: dt.datetime, answer_by: dt.datetime, calendar: Calendar
) -> tuple[tuple[int, str, dt.datetime], ...]:
    """Who hears next while nobody answers: (number, role, when), from 1 on; rung 0 heard when the alert was raised.

    `opened_at` is when it was last raised. A clock that runs in school days calls nobody outside school hours.
    """
    is_in_school = policy.clock(tier, has_self_harm).is_in_school_days
    found = []
    for number, rung in enumerate(policy.ladder[1:], start=1):
        for moment in _moments(rung, tier, opened_at, answer_by, calendar):
            found.append((number, rung.role, calendar.next_school_hours(moment) if is_in_school else moment))
    return tuple(found)


def follow_up_by(policy: Policy, tier: int, at: dt.datetime) -> dt.datetime:
    """By when the next contact is promised, unless a person says otherwise: calendar time from `at`."""
    return _exact(at) + _length(policy.clock(tier, False).follow_up)


def rescreens_at(policy: Policy, tier: int, has_self_harm: bool, at: dt.datetime) -> tuple[dt.datetime, ...]:
    """When a student whose alert was raised at `at` is asked the questions again: calendar time, the next first."""
    return tuple(_exact(at) + _length(span) for span in policy.clock(tier, has_self_harm).rescreens)


def _moments(
    rung: Rung, tier: int, opened_at: dt.datetime, answer_by: dt.datetime, calendar: Calendar
) -> Iterator[dt.datetime]:
    """When this rung is reached: once, or never for a tier that it does not know."""
    if rung.share is not None:
        began = _exact(opened_at)
        yield began + (_exact(answer_by) - began) * rung.share
    elif tier in rung.after:
        yield _after(answer_by, rung.after[tier], calendar)


def _after(at: dt.datetime, span: Span, calendar: Calendar) -> dt.datetime:
    return calendar.add_school_days(at, span.amount) if span.unit == "school day" else _exact(at) + _length(span)


def _exact(at: dt.datetime) -> dt.datetime:
    """In a zone whose wall clock jumps, hours are added in UTC: Python would add them on the wall."""
    return at.astimezone(dt.UTC)


def _length(span: Span) -> dt.timedelta:
    match span.unit:
        case "min":
            return dt.timedelta(minutes=span.amount)
        case "h":
            return dt.timedelta(hours=span.amount)
        case _:
            return dt.timedelta(days=span.amount)
