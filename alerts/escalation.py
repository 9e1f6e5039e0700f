"""Who hears next when a clock runs out: the ladder of an alert nobody answers, and promised contacts overdue."""

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from alerts import clocks, delivery, routing
from screening import access, audit, calendars
from screening.policy import Policy
from screening.school_days import Calendar

OVERDUE_RUNG = 1
UNSEEN_RUNG = 99
"""Answered, but nobody had contact with the student by the time they should have been seen: opening a case is not
yet a look."""
BATCH = 500
"""Rungs climbed in one transaction: whoever answers one of these alerts waits for no more than that."""


@dataclass(frozen=True)
class Step:
    """A rung that is due: somebody of `role` hears of the subject."""

    subject: str
    subject_id: uuid.UUID
    school_id: uuid.UUID | None
    clock_at: dt.datetime
    rung: int
    role: str
    due_at: dt.datetime
    urgency: str
    owner_id: uuid.UUID | None = None

    @property
    def occasion(self) -> str:
        if self.subject in ("follow_up", "referral", "check_in"):
            return f"overdue/{self.clock_at.isoformat()}"
        return f"rung/{self.rung}/{self.clock_at.isoformat()}"


def escalate(session: Session, *, now: dt.datetime, limit: int = BATCH) -> int:
    """Climbs the rungs that are due in the session's district, the reds first, and returns how many (`limit` at most).

    After an outage all rungs that were missed are climbed at once. Each is climbed once, by whichever worker gets
    to it: the subject's row is claimed, and the rung's row is unique. The claims are held until the transaction ends,
    so a caller with much to do takes it in several.
    """
    steps = [
        *_alert_steps(session, now),
        *_unseen_steps(session, now),
        *_transfer_steps(session, now),
        *_follow_up_steps(session),
        *_unconfirmed_steps(session, now),
        *_check_in_steps(session, now),
    ]
    return _climb(session, steps[:limit], now)


@dataclass(frozen=True)
class DueRung:
    """A rung of one alert's ladder: who hears, when, and when they were told."""

    number: int
    role: str
    due_at: dt.datetime
    climbed_at: dt.datetime | None


@dataclass(frozen=True)
class Due:
    """The clocks of one alert as they run now."""

    answer_by: dt.datetime
    see_by: dt.datetime
    is_answered: bool
    rungs: tuple[DueRung, ...]


def due(session: Session, alert_id: uuid.UUID) -> Due | None:
    """The clocks of an alert, and its ladder as it was or will be climbed; None for no such alert."""
    district_id = access.scope_of(session).district_id
    alert = session.execute(_ONE, {"district": district_id, "id": alert_id}).one_or_none()
    if alert is None:
        return None
    policy = routing.policies(session, [alert.round_id])[alert.round_id]
    schools = calendars.of_schools(session, [alert.school_id] if alert.school_id else [])
    calendar = schools.get(alert.school_id) or schools[None]
    climbed = session.execute(_TOLD, {"district": district_id, "id": alert_id, "clock": alert.answer_by})
    told: dict[int, dt.datetime] = {row.rung: row.at for row in climbed}
    ladder = clocks.rungs(policy, alert.tier, alert.has_self_harm, alert.raised_at, alert.answer_by, calendar)
    rungs = tuple(DueRung(number, role, at, told.get(number)) for number, role, at in ladder)
    return Due(alert.answer_by, alert.see_by, alert.state != "new" or alert.closed_at is not None, rungs)


_ONE = text(
    "select school_id, round_id, tier, has_self_harm, raised_at, answer_by, see_by, state, closed_at from alerts"
    " where district_id = :district and id = :id"
)
_TOLD = text(
    "select rung, at from escalations where district_id = :district and subject = 'alert' and subject_id = :id"
    " and clock_at = :clock"
)


# -- what is due --------------------------------------------------------------------------------------

_WAITING = text(
    "select a.id, a.school_id, a.round_id, a.tier, a.has_self_harm, a.raised_at, a.answer_by,"
    " array(select e.rung from escalations e where e.district_id = a.district_id and e.subject = 'alert'"
    "  and e.subject_id = a.id and e.school_id is not distinct from a.school_id"
    "  and e.clock_at = a.answer_by) as climbed"
    " from alerts a where a.district_id = :district and a.state = 'new' and a.closed_at is null"
    " order by a.tier desc, a.answer_by, a.id"
)


def _alert_steps(session: Session, now: dt.datetime) -> Iterator[Step]:
    waiting = session.execute(_WAITING, {"district": access.scope_of(session).district_id}).all()
    policies = routing.policies(session, {alert.round_id for alert in waiting})
    schools = calendars.of_schools(session, {alert.school_id for alert in waiting if alert.school_id is not None})
    for alert in waiting:
        calendar = schools.get(alert.school_id) or schools[None]
        yield from _rungs_due(alert, policies[alert.round_id], calendar, now)


def _rungs_due(alert: Row[Any], policy: Policy, calendar: Calendar, now: dt.datetime) -> Iterator[Step]:
    rungs = clocks.rungs(policy, alert.tier, alert.has_self_harm, alert.raised_at, alert.answer_by, calendar)
    for number, role, due_at in rungs:
        is_quiet = alert.tier < delivery.TELLING_FROM and due_at < alert.answer_by
        if is_quiet or number in alert.climbed or due_at > now:
            continue
        yield Step(
            subject="alert",
            subject_id=alert.id,
            school_id=alert.school_id,
            clock_at=alert.answer_by,
            rung=number,
            role=role,
            due_at=due_at,
            urgency=delivery.URGENCIES[alert.tier],
        )


_UNSEEN = text(
    "select a.id, a.school_id, a.tier, a.see_by, a.owner_id from alerts a"
    " where a.district_id = :district and a.state in ('acknowledged', 'triaged') and a.closed_at is null"
    " and a.see_by <= :now"
    " and not exists (select from triages t where t.district_id = a.district_id and t.alert_id = a.id"
    "  and t.proposed_at >= a.raised_at and (t.is_student_seen or t.contact <> 'none'))"
    " and not exists (select from cases c join interviews i on i.district_id = c.district_id and i.case_id = c.id"
    "  where c.district_id = a.district_id and (c.student_id = a.student_id or exists (select from triages t"
    "   where t.district_id = a.district_id and t.alert_id = a.id and t.case_id = c.id)) and i.is_student_seen"
    "  and i.held_at >= a.raised_at)"
    " and not exists (select from escalations e where e.district_id = a.district_id and e.subject = 'alert'"
    "  and e.subject_id = a.id and e.school_id is not distinct from a.school_id and e.clock_at = a.see_by"
    "  and e.rung = :rung)"
    " order by a.tier desc, a.see_by, a.id"
)


def _unseen_steps(session: Session, now: dt.datetime) -> Iterator[Step]:
    parameters = {"district": access.scope_of(session).district_id, "now": now, "rung": UNSEEN_RUNG}
    for alert in session.execute(_UNSEEN, parameters):
        yield Step(
            subject="alert",
            subject_id=alert.id,
            school_id=alert.school_id,
            clock_at=alert.see_by,
            rung=UNSEEN_RUNG,
            role="lead",
            due_at=alert.see_by,
            urgency=delivery.URGENCIES[alert.tier],
            owner_id=alert.owner_id,
        )


_NOT_TAKEN_OVER = text(
    "select t.id, t.to_school_id, t.tier, t.proposed_at, t.accept_by,"
    " array(select e.rung from escalations e where e.district_id = t.district_id and e.subject = 'transfer'"
    "  and e.subject_id = t.id and e.clock_at = t.accept_by) as climbed"
    " from transfers t where t.district_id = :district and t.state = 'waiting' and t.accept_by <= :now"
    " order by t.tier desc, t.accept_by, t.id"
)
TRANSFER_RUNGS = ("duty_officer", "district_admin")
"""Who hears of a case between two schools that nobody has taken over in time; the second, after as long again."""


def _transfer_steps(session: Session, now: dt.datetime) -> Iterator[Step]:
    parameters = {"district": access.scope_of(session).district_id, "now": now}
    for transfer in session.execute(_NOT_TAKEN_OVER, parameters):
        for number, role in enumerate(TRANSFER_RUNGS, start=1):
            due_at = transfer.accept_by + (number - 1) * (transfer.accept_by - transfer.proposed_at)
            if number not in transfer.climbed and due_at <= now:
                yield Step(
                    subject="transfer",
                    subject_id=transfer.id,
                    school_id=transfer.to_school_id,
                    clock_at=transfer.accept_by,
                    rung=number,
                    role=role,
                    due_at=due_at,
                    urgency=delivery.URGENCIES[transfer.tier],
                )


_UNCONFIRMED = text(
    "select r.id, r.school_id, r.confirm_by, c.owner_id from referrals r"
    " join cases c on c.district_id = r.district_id and c.id = r.case_id"
    " where r.district_id = :district and r.state in ('sent', 'accepted') and r.confirm_by <= :now"
    " and not exists (select from escalations e where e.district_id = r.district_id and e.subject = 'referral'"
    "  and e.subject_id = r.id and e.clock_at = r.confirm_by and e.rung = :rung)"
    " order by r.confirm_by, r.id"
)


def _unconfirmed_steps(session: Session, now: dt.datetime) -> Iterator[Step]:
    """Referrals of which it should be known by now whether the first visit was kept."""
    parameters = {"district": access.scope_of(session).district_id, "now": now, "rung": OVERDUE_RUNG}
    for referral in session.execute(_UNCONFIRMED, parameters):
        yield Step(
            subject="referral",
            subject_id=referral.id,
            school_id=referral.school_id,
            clock_at=referral.confirm_by,
            rung=OVERDUE_RUNG,
            role="lead",
            due_at=referral.confirm_by,
            urgency="overdue",
            owner_id=referral.owner_id,
        )


_OVERDUE = text(
    "select f.id, f.school_id, f.due_at, c.owner_id, (select a.round_id from alerts a"
    "  where a.district_id = c.district_id and a.student_id = c.student_id and a.round_id is not null"
    "  order by a.closed_at is null desc, a.opened_at desc limit 1) as round_id"
    " from follow_ups f join cases c on c.district_id = f.district_id and c.id = f.case_id"
    " where f.district_id = :district and f.state = 'overdue'"
    " and not exists (select from escalations e where e.district_id = f.district_id and e.subject = 'follow_up'"
    "  and e.subject_id = f.id and e.school_id = f.school_id and e.clock_at = f.due_at and e.rung = :rung)"
    " order by f.due_at, f.id"
)


def _follow_up_steps(session: Session) -> Iterator[Step]:
    parameters = {"district": access.scope_of(session).district_id, "rung": OVERDUE_RUNG}
    overdue = session.execute(_OVERDUE, parameters).all()
    policies = routing.policies(session, {follow_up.round_id for follow_up in overdue})
    for follow_up in overdue:
        yield Step(
            subject="follow_up",
            subject_id=follow_up.id,
            school_id=follow_up.school_id,
            clock_at=follow_up.due_at,
            rung=OVERDUE_RUNG,
            role=policies[follow_up.round_id].overdue_role,
            due_at=follow_up.due_at,
            urgency="overdue",
            owner_id=follow_up.owner_id,
        )


_LOOK_ENDS = "((due_on + 1)::timestamp at time zone :zone)"
_NOT_LOOKED_AT = text(
    f"select k.* from (select id, school_id, {_LOOK_ENDS} as ends_at from check_ins"  # noqa: S608 - our own
    "  where district_id = :district and state = 'planned') k"
    " where k.ends_at <= :now"
    " and not exists (select from escalations e where e.district_id = :district and e.subject = 'check_in'"
    "  and e.subject_id = k.id and e.school_id = k.school_id and e.clock_at = k.ends_at and e.rung = :rung)"
    " order by k.ends_at, k.id"
)


def _check_in_steps(session: Session, now: dt.datetime) -> Iterator[Step]:
    """Friendly looks at students of special groups whose last day is over."""
    parameters = {
        "district": access.scope_of(session).district_id,
        "zone": str(session.info["timezone"]),
        "now": now,
        "rung": OVERDUE_RUNG,
    }
    for look in session.execute(_NOT_LOOKED_AT, parameters):
        yield Step(
            subject="check_in",
            subject_id=look.id,
            school_id=look.school_id,
            clock_at=look.ends_at,
            rung=OVERDUE_RUNG,
            role="lead",
            due_at=look.ends_at,
            urgency="overdue",
        )


# -- climbing -----------------------------------------------------------------------------------------

# Only what is claimed is climbed: another worker, or somebody who answers at this moment, has the others.
_CLAIM = {
    "alert": text(
        "select id, case state when 'new' then answer_by else see_by end as clock_at, state = 'new' as is_new"
        " from alerts where district_id = :district and id = any(:ids)"
        " and closed_at is null"
        " order by id for no key update skip locked"
    ),
    "transfer": text(
        "select id, accept_by as clock_at, true as is_new from transfers"
        " where district_id = :district and id = any(:ids) and state = 'waiting'"
        " order by id for no key update skip locked"
    ),
    "referral": text(
        "select id, confirm_by as clock_at, true as is_new from referrals"
        " where district_id = :district and id = any(:ids) and state in ('sent', 'accepted')"
        " order by id for no key update skip locked"
    ),
    "follow_up": text(
        "select id, due_at as clock_at, true as is_new from follow_ups"
        " where district_id = :district and id = any(:ids) and state = 'overdue'"
        " order by id for no key update skip locked"
    ),
    "check_in": text(
        f"select id, {_LOOK_ENDS} as clock_at, true as is_new from check_ins"  # noqa: S608 - our own
        " where district_id = :district and id = any(:ids) and state = 'planned'"
        " order by id for no key update skip locked"
    ),
}
_WRITE = text(
    "insert into escalations (district_id, id, school_id, subject, subject_id, clock_at, rung, role, due_at, at)"
    " select :district, gen_random_uuid(), n.*, :now from unnest(cast(:schools as uuid[]), cast(:subjects as text[]),"
    " cast(:ids as uuid[]), cast(:clocks as timestamptz[]), cast(:rungs as smallint[]), cast(:roles as text[]),"
    " cast(:dues as timestamptz[])) as n on conflict do nothing returning subject_id, rung"
)


def _climb(session: Session, steps: Sequence[Step], now: dt.datetime) -> int:
    district_id = access.scope_of(session).district_id
    claimed: set[tuple[uuid.UUID, dt.datetime, bool]] = set()
    for subject, claim in _CLAIM.items():
        ids = [step.subject_id for step in steps if step.subject == subject]
        if ids:
            rows = session.execute(claim, {"district": district_id, "ids": ids, "zone": str(session.info["timezone"])})
            claimed.update((row.id, row.clock_at, row.is_new) for row in rows)
    # what was answered or raised again since it was read is not climbed on the old clock
    own = [step for step in steps if (step.subject_id, step.clock_at, step.rung != UNSEEN_RUNG) in claimed]
    if not own:
        return 0
    written = session.execute(
        _WRITE,
        {
            "district": district_id,
            "now": now,
            "schools": [step.school_id for step in own],
            "subjects": [step.subject for step in own],
            "ids": [step.subject_id for step in own],
            "clocks": [step.clock_at for step in own],
            "rungs": [step.rung for step in own],
            "roles": [step.role for step in own],
            "dues": [step.due_at for step in own],
        },
    )
    fresh = {(row.subject_id, row.rung) for row in written}
    climbed = [step for step in own if (step.subject_id, step.rung) in fresh]
    _tell(session, climbed, now)
    return len(climbed)


def _tell(session: Session, climbed: Sequence[Step], now: dt.datetime) -> None:
    if not climbed:
        return
    rota = routing.rota(session, now=now)
    notices = []
    for step in climbed:
        owner = (step.owner_id,) if step.owner_id else ()
        for recipient_id in dict.fromkeys([*owner, *rota.hearers(step.role, step.school_id, step.subject_id)]):
            notices.append(
                delivery.Notice(
                    recipient_id=recipient_id,
                    school_id=step.school_id,
                    subject=step.subject,
                    subject_id=step.subject_id,
                    occasion=step.occasion,
                    urgency=step.urgency,
                    due_at=step.clock_at,
                )
            )
    delivery.put(session, notices, now=now)
    system = access.system(access.scope_of(session).district_id)
    for subject in _CLAIM:
        told = [step.subject_id for step in climbed if step.subject == subject]
        audit.record_many(session, system, "alert.escalated", subject, told)
