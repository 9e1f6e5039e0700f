"""Were the alerts right? Of those that a person looked into, how many were confirmed: by rule, instrument or school.

An alert is settled when triage ended it or a first interview of its case is written, and confirmed when an interview
says so. It counts once in each group that one of its reasons belongs to, so that groups do not add up to the whole.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from screening import access, coverage, rounds
from screening.policy import Policy

BY = ("rule", "instrument", "school")
FEWEST_FOR_A_RATE = 30
"""Below this many settled alerts a district sees no rate: an interval would be as wide as the scale."""
COMBINED, PERSON = "combined", "person"


@dataclass(frozen=True)
class Yield:
    """One group. `settled` is n; `rate` and its Wilson interval are of n, None without one or where they are hidden.

    Source of the interval: E. B. Wilson, JASA 22 (1927) 209-212.
    """

    group: str
    raised: int | None
    settled: int | None
    confirmed: int | None
    is_hidden: bool = False

    @property
    def rate(self) -> coverage.Rate | None:
        return None if self.confirmed is None else coverage.rate(self.confirmed, self.settled or 0)


def of_round(session: Session, round_id: uuid.UUID, by: str) -> list[Yield]:
    """The yield of a round's alerts at the scope's schools, the group with most alerts first.

    Named work, for who looks after these students; a district's readers get it through `shielded`.
    """
    if by not in BY:
        raise ValueError(f"by is one of {', '.join(BY)}")
    policy = rounds.rules_of(session, round_id).policy
    parameters = {
        "district": access.scope_of(session).district_id,
        "round": round_id,
        "schools": access.schools_of(session),
    }
    members: dict[str, dict[uuid.UUID, Row[Any]]] = defaultdict(dict)
    for row in session.execute(_ALERTS, parameters):
        for group in _groups(row, by, policy):
            members[group][row.id] = row
    found = [
        Yield(
            group=group,
            raised=len(own),
            settled=sum(row.is_settled for row in own.values()),
            confirmed=sum(row.is_confirmed for row in own.values()),
        )
        for group, own in members.items()
    ]
    return sorted(found, key=lambda each: (-(each.raised or 0), each.group))


def shielded(found: Iterable[Yield], k: int) -> list[Yield]:
    """What a district may see: no count below `k`, none that gives such a count away, no rate of few."""
    return [_shielded(each, k) for each in found]


def _shielded(each: Yield, k: int) -> Yield:
    raised, settled, confirmed = each.raised or 0, each.settled or 0, each.confirmed or 0
    if raised < k:
        return replace(each, raised=None, settled=None, confirmed=None, is_hidden=True)
    if settled < k or 0 < raised - settled < k:
        return replace(each, settled=None, confirmed=None, is_hidden=True)
    if settled < FEWEST_FOR_A_RATE or confirmed < k or settled - confirmed < k:
        return replace(each, confirmed=None, is_hidden=True)
    return each


def _groups(row: Row[Any], by: str, policy: Policy) -> set[str]:
    if by == "school":
        return {row.school or "-"}
    if by == "rule":
        return set(row.rules)
    return {code for rule in row.rules for code in _instruments(rule, policy)}


def _instruments(rule_id: str, policy: Policy) -> Sequence[str]:
    known = {rule.id: rule for rule in policy.all_rules}
    if rule_id not in known:
        return (PERSON,)
    return known[rule_id].instruments or (COMBINED,)


# A concern from an upload whose student was found lives on in the student's own alert; one that turned out to be
# another child's says nothing about its rule.
_ALERTS = text(
    f"""
with own as (
    select a.id, a.school_id, a.closed_at,
    array(select distinct r.rule from alert_reasons r
     where r.district_id = a.district_id and r.alert_id = a.id and {access.within("r.school_id")}) as rules,
    (select t.outcome from triages t where t.district_id = a.district_id and t.alert_id = a.id
     and {access.within("t.school_id")}
     order by t.proposed_at desc limit 1) as outcome,
    exists (select from triages t join interviews i on i.district_id = t.district_id and i.case_id = t.case_id
     where t.district_id = a.district_id and t.alert_id = a.id and i.held_at >= a.opened_at
     and {access.within("t.school_id")} and {access.within("i.school_id")}) as is_talked,
    exists (select from triages t join interviews i on i.district_id = t.district_id and i.case_id = t.case_id
     where t.district_id = a.district_id and t.alert_id = a.id and i.held_at >= a.opened_at
     and {access.within("t.school_id")} and {access.within("i.school_id")}
     and i.is_concern_confirmed) as is_confirmed
    from alerts a where a.district_id = :district and a.round_id = :round and {access.within("a.school_id")}
)
select own.id, s.code as school, own.rules, own.is_confirmed,
own.is_talked or (own.outcome in ('monitor', 'not_confirmed') and own.closed_at is not null) as is_settled
from own left join schools s on s.district_id = :district and s.id = own.school_id
where coalesce(own.outcome, '') <> 'wrong_student'
and not (coalesce(own.outcome, '') = 'merged' and not own.is_talked and own.closed_at is not null)
"""  # noqa: S608 - our own SQL
)
