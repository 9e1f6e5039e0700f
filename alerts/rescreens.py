"""Students whose alert was true are asked the questions again after the policy's days; where that does not happen,
somebody has to look.

Nothing is planned in a table: what is due follows from the alert, its policy and the results since. A result counts
for a day from a week before it on; without one two weeks after it, a yellow reason joins the student's open alert, or
opens one.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from alerts import clocks, raising, routing
from screening import access
from screening.policy import Policy
from screening.results import Signal

RULE = "rescreen_overdue"
EARLY, GRACE = dt.timedelta(days=7), dt.timedelta(days=14)
REACH = dt.timedelta(days=120)
"""Beyond this nothing of an alert is due any more: the longest interval of a policy, and its grace."""
YELLOW = 1


@dataclass(frozen=True)
class Rescreen:
    """That a student should be asked again on a day, because of an alert; `number` counts the alert's own from 1."""

    alert_id: uuid.UUID
    student_id: uuid.UUID
    school_id: uuid.UUID
    round_id: uuid.UUID | None
    number: int
    due_at: dt.datetime

    @property
    def source(self) -> str:
        return f"rescreen/{self.alert_id}/{self.number}"

    def is_overdue(self, now: dt.datetime) -> bool:
        return now >= self.due_at + GRACE


def waiting(session: Session, *, now: dt.datetime) -> list[Rescreen]:
    """What is due by now at the schools of the scope and was not done, the longest first."""
    about = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "since": now - REACH,
    }
    rows = session.execute(_TRUE, about).all()
    policies = routing.policies(session, {row.round_id for row in rows})
    found = [one for row in rows for one in _of(row, policies[row.round_id]) if one.due_at <= now]
    return sorted(found, key=lambda each: (each.due_at, each.alert_id, each.number))


def raise_overdue(session: Session, *, now: dt.datetime) -> int:
    """Lets each that is overdue ring, once; answers how many did."""
    late = [one for one in waiting(session, now=now) if one.is_overdue(now)]
    told = session.execute(
        _TOLD, {"district": access.scope_of(session).district_id, "sources": [one.source for one in late]}
    ).scalars()
    known = set(told)
    fresh = [one for one in late if one.source not in known]
    policies = routing.policies(session, {one.round_id for one in fresh})
    for one in fresh:
        raising.raise_alerts(session, [_signal(one)], now=now, policy=policies[one.round_id])
    return len(fresh)


# Of an alert that was not confirmed, or that was another child's, nothing is asked again; nor is whoever declined.
_TRUE = text(
    "select a.id, a.student_id, s.school_id, a.round_id, a.tier, a.has_self_harm, a.raised_at,"  # noqa: S608 - our own SQL
    " array(select r.recorded_at from results r where r.district_id = a.district_id and r.student_id = a.student_id"
    f"  and r.validity <> 'invalid' and r.recorded_at > a.raised_at and {access.within('r.school_id')}) as asked"
    " from alerts a join students s on s.district_id = a.district_id and s.id = a.student_id"
    " where a.district_id = :district and a.raised_at > :since"
    f" and {access.within('s.school_id')} and {access.within('a.school_id')}"
    " and exists (select from enrollments e where e.district_id = a.district_id and e.student_id = a.student_id"
    f"  and e.until_on is null and {access.within('e.school_id')})"
    " and not exists (select from (select distinct on (given_by) decision from consents"
    f"  where district_id = a.district_id and student_id = a.student_id and {access.within('school_id')}"
    "  order by given_by, decided_at desc, recorded_at desc, decision = 'granted') c where c.decision <> 'granted')"
    " and (select t.outcome from triages t where t.district_id = a.district_id and t.alert_id = a.id"
    f"  and {access.within('t.school_id')}"
    "  order by t.proposed_at desc limit 1) in ('case_opened', 'merged', 'monitor')"
)
_TOLD = text(
    "select source from alert_reasons where district_id = :district and rule = 'rescreen_overdue'"
    " and source = any(:sources)"
)


def _of(row: Row[Any], policy: Policy) -> Iterator[Rescreen]:
    due = clocks.rescreens_at(policy, row.tier, row.has_self_harm, row.raised_at)
    for number, due_at in enumerate(due, start=1):
        if not any(asked >= due_at - EARLY for asked in row.asked):
            yield Rescreen(row.id, row.student_id, row.school_id, row.round_id, number, due_at)


def _signal(one: Rescreen) -> Signal:
    return Signal(
        student_id=one.student_id,
        school_id=one.school_id,
        rule=RULE,
        tier=YELLOW,
        is_self_harm=False,
        source=one.source,
        round_id=one.round_id,
    )
