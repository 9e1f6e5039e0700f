"""Whom care reached, at the caller's own schools."""

import datetime as dt
import uuid

from alerts import outcomes
from api.deps import CARING, Door, Id, NowDep, SessionDep, View
from screening import rounds

door = Door(prefix="/v1/outcomes", tag="outcomes")


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


@door.get("", roles=CARING)
def show(session: SessionDep, now: NowDep, round: Id | None = None) -> OutcomesView:
    """What came of the alerts of a round, or of all, at the caller's schools by now."""
    if round is not None:
        rounds.get(session, round)
    found = outcomes.funnel(session, round, at=now)
    names = [name for name in OutcomesView.model_fields if name not in ("round_id", "at")]
    return OutcomesView(round_id=round, at=now, **{name: getattr(found, name) for name in names})
