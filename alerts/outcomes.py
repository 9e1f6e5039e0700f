"""Whom care reached: alerts answered and seen in time, cases, promised contacts, loops that closed. Only reads.

The formulas are the district's indicators; a share without a denominator is None, never 0 and never 100%.
"""

import datetime as dt
import uuid
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access


@dataclass(frozen=True)
class Funnel:
    """From alerts raised to loops closed, as counts at one instant. Named work: statistics go through suppression."""

    raised: int
    raised_yellow: int
    raised_orange: int
    raised_red: int
    answer_elapsed: int
    """Alerts that were acknowledged or whose time to be has passed."""
    answered_in_time: int
    see_elapsed: int
    """Alerts whose student was seen, or whose time to be seen has passed."""
    seen_in_time: int
    seen: int
    hours_to_contact: float | None
    """The median time from the alert to the first contact with the student, of those who were seen."""
    loops_closed: int
    """Alerts that ended after a look: without a case, or with a case closed after at least one interview."""
    cases_opened: int
    cases_closed: int
    follow_ups_due: int
    """Contacts that took place or were missed, or whose time has passed."""
    follow_ups_on_time: int
    follow_ups_done: int
    follow_ups_missed: int
    overdue_under_3_days: int
    overdue_3_to_7_days: int
    overdue_over_7_days: int

    @property
    def overdue(self) -> int:
        return self.overdue_under_3_days + self.overdue_3_to_7_days + self.overdue_over_7_days

    @property
    def answered_in_time_share(self) -> float | None:
        return share(self.answered_in_time, self.answer_elapsed)

    @property
    def seen_in_time_share(self) -> float | None:
        return share(self.seen_in_time, self.see_elapsed)

    @property
    def follow_ups_on_time_share(self) -> float | None:
        return share(self.follow_ups_on_time, self.follow_ups_due)

    @property
    def closed_loop_share(self) -> float | None:
        return share(self.loops_closed, self.raised)


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# An upload concern whose student was found lives on in the student's alert, so it is not counted a second time.
_FUNNEL = text(
    f"""
with own as (
    select a.*, (
        select min(k.at) from acknowledgements k where k.district_id = a.district_id and k.alert_id = a.id
        and k.raised_at = a.raised_at and k.at <= :at and {access.within("k.school_id")}
    ) as answered_at, (
        select min(c.at) from (
            select t.proposed_at as at from triages t
            where t.district_id = a.district_id and t.alert_id = a.id and t.is_student_seen
            and {access.within("t.school_id")}
            union all
            select i.held_at from triages t
            join interviews i on i.district_id = t.district_id and i.case_id = t.case_id
            where t.district_id = a.district_id and t.alert_id = a.id and i.is_student_seen and i.held_at >= a.opened_at
            and {access.within("t.school_id")} and {access.within("i.school_id")}
        ) c where c.at <= :at
    ) as seen_at
    from alerts a
    where a.district_id = :district and a.opened_at <= :at and {access.within("a.school_id")}
    and (cast(:round as uuid) is null or a.round_id = :round)
    and not (a.student_id is null and exists (
        select from triages t where t.district_id = a.district_id and t.alert_id = a.id and t.outcome = 'merged'
        and {access.within("t.school_id")}
    ))
), linked as (
    select distinct t.alert_id, t.case_id from own
    join triages t on t.district_id = own.district_id and t.alert_id = own.id
    where t.case_id is not null and t.proposed_at <= :at and {access.within("t.school_id")}
), of_round as (
    select c.* from cases c where c.district_id = :district and c.opened_at <= :at and {access.within("c.school_id")}
    and (cast(:round as uuid) is null or c.id in (select case_id from linked))
), promised as (
    select f.due_at, f.ended_at, case when f.ended_at <= :at then f.state else 'waiting' end as state
    from follow_ups f join of_round c on c.district_id = f.district_id and c.id = f.case_id
    where f.planned_at <= :at and {access.within("f.school_id")}
), alerts_counted as (
    select count(*) as raised,
    count(*) filter (where tier = 1) as raised_yellow,
    count(*) filter (where tier = 2) as raised_orange,
    count(*) filter (where tier = 3) as raised_red,
    count(*) filter (where answered_at is not null or answer_by <= :at) as answer_elapsed,
    count(*) filter (where answered_at <= answer_by) as answered_in_time,
    count(*) filter (where seen_at is not null or see_by <= :at) as see_elapsed,
    count(*) filter (where seen_at <= see_by) as seen_in_time,
    count(seen_at) as seen,
    percentile_cont(0.5) within group (order by extract(epoch from seen_at - opened_at) / 3600) as hours_to_contact,
    count(*) filter (where closed_at <= :at and (
        not exists (select from linked l where l.alert_id = own.id)
        or exists (
            select from linked l join of_round c on c.id = l.case_id
            where l.alert_id = own.id and c.closed_at <= :at
            and exists (select from interviews i where i.district_id = c.district_id and i.case_id = c.id
                and {access.within("i.school_id")})
        )
    )) as loops_closed
    from own
), cases_counted as (
    select count(*) as cases_opened, count(*) filter (where closed_at <= :at) as cases_closed from of_round
), contacts_counted as (
    select count(*) filter (where state <> 'waiting' or due_at <= :at) as follow_ups_due,
    count(*) filter (where state = 'done' and ended_at <= due_at) as follow_ups_on_time,
    count(*) filter (where state = 'done') as follow_ups_done,
    count(*) filter (where state = 'missed') as follow_ups_missed,
    count(*) filter (where state = 'waiting' and due_at < :at and :at - due_at < interval '3 days')
        as overdue_under_3_days,
    count(*) filter (where state = 'waiting' and :at - due_at between interval '3 days' and interval '7 days')
        as overdue_3_to_7_days,
    count(*) filter (where state = 'waiting' and :at - due_at > interval '7 days') as overdue_over_7_days
    from promised
)
select * from alerts_counted cross join cases_counted cross join contacts_counted
"""  # noqa: S608 - our own SQL
)


def funnel(session: Session, round_id: uuid.UUID | None = None, *, at: dt.datetime) -> Funnel:
    """What had come of the alerts of a round (or of all) in the session's scope by `at`."""
    about = {"district": access.scope_of(session).district_id, "schools": access.schools_of(session)}
    counted = session.execute(_FUNNEL, about | {"round": round_id, "at": at}).one()
    return Funnel(**counted._mapping)
