"""A contact that was promised by a time: planned, due, overdue, done or missed."""

import datetime as dt
import uuid

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import cases, clocks, routing
from alerts.models import FollowUp
from screening import access, audit
from screening.errors import NotFound, Refused

MODES = ("meeting", "home_visit", "video", "phone")
WAITING = ("planned", "due", "overdue")
MISSED_REASONS = ("student_absent", "not_reached", "student_declined", "guardian_declined", "staff_absent", "moved")
"""Why a contact did not take place; none of them ends a case."""
LEFT_REASONS = ("replaced", "in_treatment", "student_declined", "no_longer_needed", "planned_by_mistake")
"""Why a contact is taken off the list before its time. Without one of them nothing leaves it."""
SERIOUS = 2
"""From this tier on a case never stands on no list: the next contact is promised before one leaves."""


def is_overdue(follow_up: FollowUp, now: dt.datetime) -> bool:
    """Whether the contact is still promised and its time has passed."""
    return follow_up.state in WAITING and follow_up.due_at < now


def plan(
    session: Session,
    case_id: uuid.UUID,
    mode: str,
    *,
    by: access.Actor,
    now: dt.datetime,
    due_at: dt.datetime | None = None,
) -> FollowUp:
    """Promises a contact by `due_at`, or by the time that the policy gives a case of this tier."""
    if mode not in MODES:
        raise Refused(f"A follow-up is one of these: {', '.join(MODES)}.", code="unknown_mode")
    if due_at is not None and due_at <= now:
        raise Refused("A follow-up is promised for a time to come.", code="in_the_past")
    case = cases.working(session, case_id, by)
    promised = due_at or clocks.follow_up_by(routing.policy_of_student(session, case.student_id), case.tier, now)
    follow_up = FollowUp(
        district_id=case.district_id,
        id=uuid.uuid4(),
        case_id=case.id,
        school_id=case.school_id,
        mode=mode,
        due_at=promised,
        state="planned",
        planned_by=by.person,
        planned_at=now,
    )
    session.add(follow_up)
    session.flush()
    cases.advance(session, case, "follow_up")
    audit.record(session, by, "follow_up.planned", "follow_up", follow_up.id, case=str(case.id), mode=mode)
    return follow_up


def get(session: Session, follow_up_id: uuid.UUID) -> FollowUp:
    """Raises NotFound."""
    found = session.get(FollowUp, (access.scope_of(session).district_id, follow_up_id))
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such follow-up.")
    return found


def done(session: Session, follow_up_id: uuid.UUID, words: str, *, by: access.Actor, now: dt.datetime) -> FollowUp:
    """The contact took place. The same person saying so twice is once; another is told who was faster."""
    follow_up = _held(session, follow_up_id, by)
    if follow_up.state not in WAITING:
        return _already_ended(follow_up, "done", by)
    follow_up.sealed_note = cases.seal(session, follow_up.case_id, follow_up.id, cases.required(words))
    return _ended(session, follow_up, "done", by, now)


def missed(session: Session, follow_up_id: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime) -> FollowUp:
    """The contact did not take place, for one of MISSED_REASONS."""
    if reason not in MISSED_REASONS:
        raise Refused(f"A follow-up is missed for one of these: {', '.join(MISSED_REASONS)}.", code="unknown_reason")
    follow_up = _held(session, follow_up_id, by)
    if follow_up.state not in WAITING:
        return _already_ended(follow_up, "missed", by)
    follow_up.missed_reason = reason
    return _ended(session, follow_up, "missed", by, now)


def leave(
    session: Session, follow_up_id: uuid.UUID, reason: str, words: str, *, by: access.Actor, now: dt.datetime
) -> FollowUp:
    """Takes a promised contact off the list, for one of LEFT_REASONS and with a few words why."""
    if reason not in LEFT_REASONS:
        raise Refused(f"A follow-up is left for one of these: {', '.join(LEFT_REASONS)}.", code="unknown_reason")
    case = cases.working(session, get(session, follow_up_id).case_id, by)  # the case first, as a transfer does
    follow_up = _held(session, follow_up_id, by)
    if follow_up.state not in WAITING:
        return _already_ended(follow_up, "left", by)
    others = select(FollowUp.id).where(
        FollowUp.district_id == case.district_id,
        FollowUp.case_id == case.id,
        FollowUp.id != follow_up.id,
        FollowUp.state.in_(WAITING),
        access.of_scope(session, FollowUp.school_id),
    )
    if case.tier >= SERIOUS and session.scalar(others.limit(1)) is None:
        raise Refused("Promise the next contact first: this is the only one of a serious case.", code="last_contact")
    follow_up.left_reason = reason
    follow_up.sealed_note = cases.seal(session, follow_up.case_id, follow_up.id, cases.required(words))
    return _ended(session, follow_up, "left", by, now)


_FALL_DUE = text(
    "update follow_ups f set state = case when f.due_at < :now then 'overdue' else 'due' end"
    " where f.district_id = :district and f.id in ("
    "  select w.id from follow_ups w where w.district_id = :district and ("
    "   (w.state in ('planned', 'due') and w.due_at < :now)"
    "   or (w.state = 'planned' and w.due_at < :day_ends))"
    "  order by w.id for no key update skip locked)"
    " returning f.id, f.state"
)


def fall_due(session: Session, *, now: dt.datetime) -> int:
    """Makes what is promised for today due, and what is past its time overdue; returns how many moved."""
    timezone: dt.tzinfo = session.info["timezone"]  # a day ends where the schools are
    midnight = dt.datetime.combine(now.astimezone(timezone).date(), dt.time(), timezone)
    district_id = access.scope_of(session).district_id
    moved = session.execute(
        _FALL_DUE, {"district": district_id, "now": now, "day_ends": midnight + dt.timedelta(days=1)}
    ).all()
    overdue = [row.id for row in moved if row.state == "overdue"]
    audit.record_many(session, access.system(district_id), "follow_up.overdue", "follow_up", overdue)
    return len(moved)


def _held(session: Session, follow_up_id: uuid.UUID, by: access.Actor) -> FollowUp:
    follow_up = session.scalars(
        select(FollowUp)
        .where(FollowUp.district_id == access.scope_of(session).district_id, FollowUp.id == follow_up_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if follow_up is None or not access.reaches(session, follow_up.school_id):
        raise NotFound("There is no such follow-up.")
    cases.require(by, cases.CARING, follow_up.school_id)
    return follow_up


def _ended(session: Session, follow_up: FollowUp, state: str, by: access.Actor, now: dt.datetime) -> FollowUp:
    follow_up.state, follow_up.ended_by, follow_up.ended_at = state, by.person, now
    session.flush()
    audit.record(session, by, f"follow_up.{state}", "follow_up", follow_up.id, case=str(follow_up.case_id))
    return follow_up


def _already_ended(follow_up: FollowUp, state: str, by: access.Actor) -> FollowUp:
    if follow_up.ended_by is None or follow_up.ended_at is None:
        raise NotFound("There is no such follow-up.")
    if follow_up.state == state and follow_up.ended_by == by.person:
        return follow_up
    raise cases.TakenByAnother(
        f"This follow-up was recorded as {follow_up.state}", follow_up.ended_by, follow_up.ended_at
    )
