"""A student goes to another school: open alerts go along at once, a case when the new school takes it over.

Both schools are told. No clock is pushed back on the way, and nothing falls to a lower tier. Whoever moves students
calls `follow` in the same transaction; it stands on the timetable too, so that no race and no door can leave an
alert behind where nobody of the student's school sees it.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from alerts import clocks, delivery, routing, tying
from alerts.models import Transfer
from screening import access, audit, calendars, sealing
from screening.inserting import as_array
from screening.policy import Policy
from screening.school_days import Calendar

OPEN = ("announced", "waiting")
"""States of a transfer on which somebody still has to act."""


def follow(session: Session, students: Collection[uuid.UUID] | None, by: access.Actor, now: dt.datetime) -> int:
    """Brings after these students what is open about them and still with another school; returns how much that was.

    None looks at everybody, as a net under those who move students: a case that the student's school has declined is
    then left where it is until somebody proposes it anew.
    """
    about = {
        "district": access.scope_of(session).district_id,
        "students": None if students is None else as_array("uuid", students),
    }
    alerts = session.execute(_ASTRAY, about).all()
    _move_alerts(session, alerts, now)
    cases = session.execute(_APART, about | {"is_sweep": students is None}).all()
    proposed = _propose(session, cases, by, now)
    passed = _passed(session, alerts, {each.student_id for each in cases}, by, now)
    _call_off(session, about, now)
    session.execute(_MOVE_CHECK_INS, about)
    for statement in _MOVE_MERGES:
        session.execute(statement, about)
    audit.record_many(session, by, "alert.moved", "alert", [alert.id for alert in alerts])
    audit.record_many(session, by, "transfer.proposed", "transfer", [each.id for each in proposed])
    _tell(session, alerts, [*proposed, *passed], now)
    tying.follow(session, students, by, now)
    return len(alerts) + len(proposed)


def accept_by(
    session: Session, tier: int, has_self_harm: bool, round_id: uuid.UUID | None, school_id: uuid.UUID, now: dt.datetime
) -> dt.datetime:
    """By when a school should have taken a case over: in the time in which it would have to answer an alert of it."""
    policy = routing.policies(session, [round_id])[round_id]
    calendar = calendars.of_schools(session, [school_id])[school_id]
    return clocks.due(policy, tier, has_self_harm, now, calendar).answer_by


def tell(session: Session, transfer: Transfer, schools: Collection[uuid.UUID], occasion: str, now: dt.datetime) -> None:
    """Writes down that those who care at these schools are to be told of a transfer."""
    notices = _notices_of(routing.rota(session, now=now), transfer, schools, occasion, now)
    with access.widened(session, schools):
        delivery.put(session, notices, now=now)


def carers(rota: routing.Rota, school_id: uuid.UUID, subject_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
    """All counselors and leads of a school; where there are none, whoever the ladder calls instead of them."""
    here = dict.fromkeys([*rota.holding("counselor", school_id), *rota.holding("lead", school_id)])
    return tuple(here) or rota.hearers("counselor", school_id, subject_id)


# -- alerts -------------------------------------------------------------------------------------------

_OF = "(cast(:students as uuid[]) is null or {0} = any(cast(:students as uuid[])))"
_ASTRAY = text(
    "select a.id, a.student_id, a.school_id, s.school_id as to_school_id, a.round_id, a.tier, a.state,"  # noqa: S608 - our own
    " a.has_self_harm, a.raised_at, a.answer_by, a.see_by, a.owner_id from alerts a"
    " join students s on s.district_id = a.district_id and s.id = a.student_id"
    " where a.district_id = :district and a.closed_at is null and a.school_id <> s.school_id"
    f" and {_OF.format('a.student_id')} order by a.student_id for no key update of a"
)
_MOVE_ALERTS = text(
    "update alerts a set school_id = n.school_id, state = n.state, owner_id = null, raised_at = n.raised_at,"
    " answer_by = n.answer_by, see_by = n.see_by"
    " from unnest(cast(:id as uuid[]), cast(:school_id as uuid[]), cast(:state as text[]),"
    "  cast(:raised_at as timestamptz[]), cast(:answer_by as timestamptz[]), cast(:see_by as timestamptz[]))"
    " as n (id, school_id, state, raised_at, answer_by, see_by)"
    " where a.district_id = :district and a.id = n.id"
)
_MOVE_REASONS = text(
    "update alert_reasons r set school_id = n.school_id"
    " from unnest(cast(:id as uuid[]), cast(:school_id as uuid[])) as n (id, school_id)"
    " where r.district_id = :district and r.alert_id = n.id"
)
_TYPES = {
    "id": "uuid",
    "school_id": "uuid",
    "state": "text",
    "raised_at": "timestamptz",
    "answer_by": "timestamptz",
    "see_by": "timestamptz",
}


def _move_alerts(session: Session, astray: Sequence[Row[Any]], now: dt.datetime) -> None:
    if not astray:
        return
    policies = routing.policies(session, {alert.round_id for alert in astray})
    schools = calendars.of_schools(session, {alert.to_school_id for alert in astray})
    moved = [_moved(alert, policies[alert.round_id], schools[alert.to_school_id], now) for alert in astray]
    columns = {name: as_array(kind, [row[name] for row in moved]) for name, kind in _TYPES.items()}
    district = {"district": access.scope_of(session).district_id}
    session.execute(_MOVE_ALERTS, columns | district)
    session.execute(_MOVE_REASONS, {name: columns[name] for name in ("id", "school_id")} | district)


def _moved(alert: Row[Any], policy: Policy, calendar: Calendar, now: dt.datetime) -> Mapping[str, Any]:
    """The alert at its new school. Somebody of the old one looked at it: there it is new, and wants an answer again."""
    row = {name: getattr(alert, name) for name in _TYPES} | {"school_id": alert.to_school_id}
    if alert.state != "acknowledged":
        return row
    due = clocks.due(policy, alert.tier, alert.has_self_harm, now, calendar)
    see_by = min(due.see_by, alert.see_by)
    return row | {
        "state": "new",
        "raised_at": now,
        "answer_by": min(due.answer_by, max(see_by, now)),  # long overdue to be seen: at once
        "see_by": see_by,
    }


def _passed(
    session: Session, astray: Sequence[Row[Any]], in_cases: set[uuid.UUID], by: access.Actor, now: dt.datetime
) -> list[Transfer]:
    """So that the old school, too, can see where an alert went; one in a case is told of with its case."""
    made = [
        _transfer(alert, by, now, alert_id=alert.id, state="passed")
        for alert in astray
        if alert.student_id not in in_cases
    ]
    session.add_all(made)
    session.flush()
    return made


# -- cases --------------------------------------------------------------------------------------------

_APART = text(
    "select c.id, c.student_id, c.school_id, s.school_id as to_school_id, greatest(c.tier, a.tier) as tier,"  # noqa: S608 - our own
    " coalesce(a.has_self_harm, false) as has_self_harm, a.round_id from cases c"
    " join students s on s.district_id = c.district_id and s.id = c.student_id"
    " left join alerts a on a.district_id = c.district_id and a.student_id = c.student_id and a.closed_at is null"
    " where c.district_id = :district and c.state <> 'closed' and c.school_id <> s.school_id"
    f" and {_OF.format('c.student_id')} and not (cast(:is_sweep as boolean) and coalesce(("
    " select t.state from transfers t"
    "  where t.district_id = c.district_id and t.case_id = c.id and t.to_school_id = s.school_id"
    "  order by t.proposed_at desc limit 1), '') in ('waiting', 'declined'))"
    " order by c.student_id for no key update of c"
)
_BACK = text(
    "update transfers t set state = 'withdrawn', answered_at = :now from cases c, students s"  # noqa: S608 - our own
    " where t.district_id = :district and t.state = 'waiting'"
    " and c.district_id = t.district_id and c.id = t.case_id and s.district_id = t.district_id and s.id = c.student_id"
    " and (c.school_id = s.school_id or c.state = 'closed')"
    f" and {_OF.format('t.student_id')} returning t.id"
)
_MOVE_CHECK_INS = text(
    "update check_ins k set school_id = s.school_id from students s where k.district_id = :district"  # noqa: S608 - our own
    " and k.state = 'planned' and s.district_id = k.district_id and s.id = k.student_id"
    f" and k.school_id <> s.school_id and {_OF.format('k.student_id')}"
)

_MOVE_MERGES = tuple(
    text(
        f"update student_merges m set {school} = s.school_id from students s where m.district_id = :district"  # noqa: S608 - our own
        f" and s.district_id = m.district_id and s.id = m.{student} and m.{school} <> s.school_id"
        f" and {_OF.format('m.' + student)}"
    )
    for student, school in (("student_id", "school_id"), ("duplicate_id", "duplicate_school_id"))
)


def _propose(session: Session, apart: Sequence[Row[Any]], by: access.Actor, now: dt.datetime) -> list[Transfer]:
    standing = {
        transfer.case_id: transfer
        for transfer in session.scalars(
            select(Transfer)
            .where(
                Transfer.district_id == access.scope_of(session).district_id,
                Transfer.case_id.in_([case.id for case in apart]),
                Transfer.state.in_(OPEN),
            )
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    }
    made = [_proposed(session, case, standing.get(case.id), by, now) for case in apart]
    session.flush()
    return [transfer for transfer in made if transfer is not None]


def _proposed(
    session: Session, case: Row[Any], standing: Transfer | None, by: access.Actor, now: dt.datetime
) -> Transfer | None:
    clock = accept_by(session, case.tier, case.has_self_harm, case.round_id, case.to_school_id, now)
    if standing is not None and standing.to_school_id == case.to_school_id:
        if standing.state == "waiting":
            return None
        standing.state, standing.accept_by, standing.tier = "waiting", clock, max(standing.tier, case.tier)
        return standing
    made = _transfer(case, by, now, case_id=case.id, state="waiting", accept_by=clock)
    if standing is not None:  # on to a third school: what was written for the second goes along, and so does its clock
        standing.state, standing.answered_at = "withdrawn", now
        session.flush()
        made.accept_by = min(clock, standing.accept_by or clock)
        made.sealed_summary = reseal(session, standing.sealed_summary, standing.id, made.id)
    session.add(made)
    return made


def _call_off(session: Session, about: Mapping[str, Any], now: dt.datetime) -> None:
    """The student is back where the case is: nobody has to take anything over."""
    session.execute(_BACK, {**about, "now": now})


def _transfer(found: Row[Any], by: access.Actor, now: dt.datetime, **more: Any) -> Transfer:
    return Transfer(
        district_id=by.district_id,
        id=uuid.uuid4(),
        student_id=found.student_id,
        from_school_id=found.school_id,
        to_school_id=found.to_school_id,
        tier=found.tier,
        proposed_by=by.staff_id or by.account_id,
        proposed_at=now,
        **more,
    )


def seal(session: Session, transfer_id: uuid.UUID, words: str) -> bytes:
    """Words of a transfer, bound to it."""
    return sealing.keys(session).seal_text(words, f"transfer/{transfer_id}")


def unseal(session: Session, transfer_id: uuid.UUID, sealed: bytes | None) -> str | None:
    return None if sealed is None else sealing.keys(session).open_text(sealed, f"transfer/{transfer_id}")


def reseal(session: Session, sealed: bytes | None, old: uuid.UUID, new: uuid.UUID) -> bytes | None:
    words = unseal(session, old, sealed)
    return None if words is None else seal(session, new, words)


# -- telling ------------------------------------------------------------------------------------------


def _tell(session: Session, alerts: Sequence[Row[Any]], transfers: Sequence[Transfer], now: dt.datetime) -> None:
    if not alerts and not transfers:
        return
    rota = routing.rota(session, now=now)
    owners = {alert.id: alert.owner_id for alert in alerts if alert.owner_id}
    notices = [notice for alert in alerts for notice in _notices_of_alert(rota, alert, now)]
    for transfer in transfers:
        schools = (transfer.from_school_id, transfer.to_school_id)
        told = schools[:1] if transfer.state == "passed" else schools
        notices += _notices_of(rota, transfer, told, f"proposed/{now.isoformat()}", now, owners.get(transfer.alert_id))
    delivery.put(session, notices, now=now)


def _notices_of_alert(rota: routing.Rota, alert: Row[Any], now: dt.datetime) -> list[delivery.Notice]:
    if alert.tier < delivery.TELLING_FROM or alert.state == "triaged":
        return []  # the one waits in the queue, of the other its case tells
    return [
        delivery.Notice(
            recipient_id=recipient,
            school_id=alert.to_school_id,
            subject="alert",
            subject_id=alert.id,
            occasion=f"moved/{now.isoformat()}",
            urgency=delivery.URGENCIES[alert.tier],
            due_at=alert.answer_by,
        )
        for recipient in carers(rota, alert.to_school_id, alert.id)
    ]


def _notices_of(
    rota: routing.Rota,
    transfer: Transfer,
    schools: Collection[uuid.UUID],
    occasion: str,
    now: dt.datetime,
    owner: uuid.UUID | None = None,
) -> list[delivery.Notice]:
    return [
        delivery.Notice(
            recipient_id=recipient,
            school_id=school_id,
            subject="transfer",
            subject_id=transfer.id,
            occasion=occasion,
            urgency=delivery.URGENCIES[transfer.tier],
            due_at=transfer.accept_by or now,
        )
        for school_id in schools
        for recipient in dict.fromkeys([*([owner] if owner else []), *carers(rota, school_id, transfer.id)])
    ]
