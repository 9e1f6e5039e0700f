"""Whom care reached, at the caller's own schools; and whether the alerts were right."""

import datetime as dt
import uuid
from typing import Annotated, Literal

from fastapi import Query

from alerts import outcomes, yields
from api.deps import CARING, ActorDep, Door, Id, NowDep, SessionDep, View
from screening import access, audit, rounds

door = Door(prefix="/v1", tag="outcomes")


class OutcomesView(View):
    """Counts at one instant; a share without a denominator is null, never 0 and never 1."""

    round_id: uuid.UUID | None
    at: dt.datetime
    raised: int
    raised_yellow: int
    raised_orange: int
    raised_red: int
    answer_elapsed: int
    answered_in_time: int
    see_elapsed: int
    seen_in_time: int
    seen: int
    hours_to_contact: float | None
    loops_closed: int
    cases_opened: int
    cases_closed: int
    follow_ups_due: int
    follow_ups_on_time: int
    follow_ups_done: int
    follow_ups_missed: int
    overdue_under_3_days: int
    overdue_3_to_7_days: int
    overdue_over_7_days: int
    overdue: int
    answered_in_time_share: float | None
    seen_in_time_share: float | None
    follow_ups_on_time_share: float | None
    closed_loop_share: float | None


@door.get("/outcomes", roles=CARING)
def show(session: SessionDep, now: NowDep, round: Id | None = None) -> OutcomesView:
    """What came of the alerts of a round, or of all, at the caller's schools by now."""
    if round is not None:
        rounds.get(session, round)
    found = outcomes.funnel(session, round, at=now)
    names = [name for name in OutcomesView.model_fields if name not in ("round_id", "at")]
    return OutcomesView(round_id=round, at=now, **{name: getattr(found, name) for name in names})


YIELD_READERS = frozenset({"lead", "district_analyst", "district_admin"})


class YieldView(View):
    """One group: of `raised` alerts somebody looked into `settled`, and `confirmed` of them were right.

    The share and its 95% interval (Wilson) are of `settled`. What is null and `is_hidden` would tell of few children.
    """

    group: str
    raised: int | None
    settled: int | None
    confirmed: int | None
    share: float | None
    share_low: float | None
    share_high: float | None
    is_hidden: bool


class YieldsView(View):
    round_id: uuid.UUID
    by: str
    groups: list[YieldView]


@door.get("/rounds/{round_id}/yield", roles=YIELD_READERS)
def alert_yield(
    round_id: Id,
    session: SessionDep,
    by: ActorDep,
    group_by: Annotated[Literal["rule", "instrument", "school"], Query(alias="by")] = "rule",
) -> YieldsView:
    """Of a round's alerts, how many were right: a lead's own school, the whole district above the disclosure floor."""
    rounds.get(session, round_id)
    found = yields.of_round(session, round_id, group_by)
    if access.scope_of(session).schools is None:
        found = yields.shielded(found, rounds.rules_of(session, round_id).policy.disclosure_k)
    audit.record(session, by, "yield.read", "round", round_id, grouped=group_by, groups=len(found))
    return YieldsView(round_id=round_id, by=group_by, groups=[_yield(each) for each in found])


def _yield(each: yields.Yield) -> YieldView:
    rate = each.rate
    return YieldView(
        group=each.group,
        raised=each.raised,
        settled=each.settled,
        confirmed=each.confirmed,
        share=None if rate is None else rate.value,
        share_low=None if rate is None else rate.low,
        share_high=None if rate is None else rate.high,
        is_hidden=each.is_hidden,
    )
