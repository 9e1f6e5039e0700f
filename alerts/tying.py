"""What people do about a child whose rows were tied as one, or taken apart: cases only rise, and alerts only ring.

Alerts and cases stay with the row that they came to. A further signal about either row is an alert like any other;
cases of the other rows rise with it here, and `cases.open` joins the one that stands open at the same school. It is
done with each merge, each split and each move, and stands on the timetable too: a signal need not wait for what is
next door.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from alerts import cases, clocks, delivery, routing
from alerts.models import Case
from alerts.rules import RED
from screening import access, audit, calendars, same_child, shared_refusals
from screening.inserting import as_array
from screening.policy import Policy
from screening.school_days import Calendar


def follow(session: Session, students: Collection[uuid.UUID] | None, by: access.Actor, now: dt.datetime) -> int:
    """Raises the open cases of these children (of all) to the highest that is known of any row, calls a crisis for a
    red that nobody has triaged, and lets ring again whatever was left in a case of another row that is another child's
    by now, or another school's. In the whole district's scope refusals of consent reach the other rows' schools.

    Returns how much that was. Nothing falls, nothing closes, and no clock is pushed back.
    """
    rows = None if students is None else set(students).union(*same_child.others(session, students).values())
    about = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "students": None if rows is None else as_array("uuid", rows),
    }
    if access.scope_of(session).schools is None:
        shared_refusals.share(session, rows, by=by, now=now)
    raised = _raise_cases(session, about, by, now)
    called = _call_crisis(session, about, by, now)
    return raised + called + _ring_again(session, about, by, now)


@dataclass(frozen=True)
class Beside:
    """Another row of the same child, with what is open there, as far as the scope reaches."""

    student_id: uuid.UUID
    alert_id: uuid.UUID | None
    case_id: uuid.UUID | None


def beside(session: Session, student_id: uuid.UUID) -> list[Beside]:
    """What is open of the same child under its other rows."""
    about = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "student": student_id,
    }
    return [Beside(*row) for row in session.execute(_BESIDE, about)]


_BESIDE = text(
    f"select o.other_id, a.id, c.id from {same_child.OTHERS} o"  # noqa: S608 - our own SQL
    " left join alerts a on a.district_id = :district and a.student_id = o.other_id and a.closed_at is null"
    f" and {access.within('a.school_id')}"
    " left join cases c on c.district_id = :district and c.student_id = o.other_id and c.state <> 'closed'"
    f" and {access.within('c.school_id')}"
    " where o.student_id = :student order by o.other_id"
)
_OF = "(cast(:students as uuid[]) is null or {0} = any(cast(:students as uuid[])))"

# -- cases ----------------------------------------------------------------------------------------------

_BELOW = text(
    "select c.id, max(n.tier) as tier from cases c"  # noqa: S608 - our own SQL
    f" join {same_child.OTHERS} o on o.student_id = c.student_id"
    " join (select student_id, tier from alerts where district_id = :district and closed_at is null"
    f"   and {access.within('school_id')}"
    "  union all select student_id, tier from cases where district_id = :district and state <> 'closed'"
    f"   and {access.within('school_id')}) n"
    "  on n.student_id = o.other_id"
    f" where c.district_id = :district and c.state <> 'closed' and {_OF.format('c.student_id')}"
    f" and {access.within('c.school_id')}"
    " group by c.id, c.tier having max(n.tier) > c.tier order by c.id"
)
_REDS = text(
    "select distinct on (c.id) c.id, a.id as alert_id from cases c"  # noqa: S608 - our own SQL
    f" join {same_child.OTHERS} o on o.student_id = c.student_id"
    " join alerts a on a.district_id = c.district_id and a.student_id = o.other_id and a.closed_at is null"
    f"  and a.tier = {RED} and a.state <> 'triaged'"
    f" where c.district_id = :district and c.state not in ('closed', 'crisis') and {_OF.format('c.student_id')}"
    f" and {access.within('c.school_id')} and {access.within('a.school_id')}"
    # once for each time that it was raised: what people have come to since stands
    " and not exists (select from case_entries e where e.district_id = c.district_id and e.case_id = c.id"
    "  and e.kind = 'same_child/' || a.id and e.at >= a.raised_at) order by c.id, a.raised_at desc"
)


def _raise_cases(session: Session, about: Mapping[str, Any], by: access.Actor, now: dt.datetime) -> int:
    found = session.execute(_BELOW, about).all()
    for row in found:
        case = _open_case(session, row.id)
        if case is not None and case.tier < row.tier:
            case.tier = row.tier
            cases.tell(session, case, f"raised_to_{row.tier}", by, now)
            audit.record(session, by, "case.raised", "case", case.id, tier=row.tier, because="same_child")
    return len(found)


def _call_crisis(session: Session, about: Mapping[str, Any], by: access.Actor, now: dt.datetime) -> int:
    found = session.execute(_REDS, about).all()
    for row in found:
        case = _open_case(session, row.id)
        if case is not None:
            cases.go_on(session, case, by=by, now=now)
            case.state = "crisis"
            cases.tell(session, case, f"same_child/{row.alert_id}", by, now)
    return len(found)


def _open_case(session: Session, case_id: uuid.UUID) -> Case | None:
    """The case, held against others; None when it has ended meanwhile."""
    case = cases.held(session, case_id)
    return None if case.state == "closed" else case


# -- alerts that were left in a case of another row -----------------------------------------------------

_LEFT = text(
    "select a.id, a.school_id, a.round_id, a.tier, a.has_self_harm, a.see_by from alerts a"  # noqa: S608 - our own SQL
    " join lateral (select t.case_id from triages t where t.district_id = a.district_id and t.alert_id = a.id"
    "  and t.case_id is not null order by t.proposed_at desc limit 1) l on true"
    " join cases c on c.district_id = a.district_id and c.id = l.case_id"
    " where a.district_id = :district and a.closed_at is null and a.state = 'triaged' and c.student_id <> a.student_id"
    " and a.student_id in (select unnest(array[m.student_id, m.duplicate_id]) from student_merges m"
    f"  where m.district_id = :district and m.state in ('merged', 'split')) and {_OF.format('a.student_id')}"
    f" and (c.school_id <> a.school_id or not exists (select from {same_child.OTHERS} o"
    "  where o.student_id = a.student_id and o.other_id = c.student_id)) order by a.student_id for no key update of a"
)
_RING = text(
    "update alerts a set state = 'new', owner_id = null, raised_at = :now, answer_by = n.answer_by, see_by = n.see_by"
    " from unnest(cast(:id as uuid[]), cast(:answer_by as timestamptz[]), cast(:see_by as timestamptz[]))"
    " as n (id, answer_by, see_by) where a.district_id = :district and a.id = n.id"
)


def _ring_again(session: Session, about: Mapping[str, Any], by: access.Actor, now: dt.datetime) -> int:
    left = session.execute(_LEFT, about).all()
    if not left:
        return 0
    policies = routing.policies(session, {alert.round_id for alert in left})
    schools = calendars.of_schools(session, {alert.school_id for alert in left})
    rows = [_rung(alert, policies[alert.round_id], schools[alert.school_id], now) for alert in left]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    session.execute(_RING, columns | {"district": about["district"], "now": now})
    ids = [alert.id for alert in left]
    audit.record_many(session, by, "alert.raised", "alert", ids)
    delivery.announce(session, ids, now=now)
    return len(ids)


def _rung(alert: Row[Any], policy: Policy, calendar: Calendar, now: dt.datetime) -> Mapping[str, Any]:
    """New again for whoever cares for this child: it was in the hands of those who care for another."""
    due = clocks.due(policy, alert.tier, alert.has_self_harm, now, calendar)
    see_by = min(due.see_by, alert.see_by)
    return {"id": alert.id, "answer_by": min(due.answer_by, max(see_by, now)), "see_by": see_by}
