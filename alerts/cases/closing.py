"""The end of a case: what stands in its way is said at once, and two people stand for a serious one."""

import datetime as dt
import uuid

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import routing
from alerts.cases import checklist
from alerts.cases.holding import (
    CARING,
    TakenByAnother,
    held_with_alert,
    refuse_recused,
    require,
    require_second_person,
    required,
    seal,
    tell,
    working,
)
from alerts.models import Case, Closure, FollowUp
from screening import access, audit
from screening.errors import Conflict, Refused


def propose_closure(
    session: Session, case_id: uuid.UUID, reason: str, words: str, *, by: access.Actor, now: dt.datetime
) -> Closure:
    """Ends a mild case; proposes the end of a serious one (the policy says from which tier), for a second person.

    Raises Refused with everything that stands in the way.
    """
    alert, case = held_with_alert(session, case_id)
    require(by, CARING, case.school_id)
    refuse_recused(session, by, case.student_id)
    rule = routing.policy_of_student(session, case.student_id).closure
    if reason not in rule.reasons:
        raise Refused(f"A case ends for one of these reasons: {', '.join(rule.reasons)}.", code="unknown_reason")
    if case.state in ("closed", "closure_proposed"):
        return _standing_closure(session, case, by)
    tier = max(case.tier, alert.tier if alert else 0)
    _refuse_obstacles(session, case, tier)
    closure_id = uuid.uuid4()
    closure = Closure(
        district_id=case.district_id,
        id=closure_id,
        case_id=case.id,
        school_id=case.school_id,
        reason=reason,
        sealed_note=seal(session, case.id, closure_id, required(words)),
        proposed_by=by.person,
        proposed_at=now,
    )
    session.add(closure)
    if tier >= rule.second_person_from:
        case.state = "closure_proposed"
        audit.record(session, by, "case.closure_proposed", "case", case.id, reason=reason, tier=case.tier)
    else:
        _end(session, case, reason, by, now)
    session.flush()
    return closure


def confirm_closure(session: Session, case_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Closure:
    """Ends a case that somebody else proposed to end; whatever has come up since then stands in the way."""
    alert, case = held_with_alert(session, case_id)
    require(by, CARING, case.school_id)
    closure = _latest_closure(session, case)
    if case.state == "closed" and closure is not None and closure.confirmed_by and closure.confirmed_at:
        if closure.confirmed_by == by.person:
            return closure
        raise TakenByAnother("This end was confirmed", closure.confirmed_by, closure.confirmed_at)
    if case.state != "closure_proposed" or closure is None:
        raise Conflict("Nobody proposes to end this case now.")
    require_second_person(by, closure.proposed_by)
    refuse_recused(session, by, case.student_id)
    _refuse_obstacles(session, case, max(case.tier, alert.tier if alert else 0))
    closure.confirmed_by, closure.confirmed_at = by.person, now
    _end(session, case, closure.reason, by, now)
    return closure


def reject_closure(session: Session, case_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Closure:
    """Lets a case go on that somebody proposed to end (its proposer may take it back too)."""
    case = working(session, case_id, by)
    closure = _latest_closure(session, case)
    if case.state != "closure_proposed" or closure is None:
        raise Conflict("Nobody proposes to end this case now.")
    _reject(session, case, closure, by, now)
    return closure


def go_on(session: Session, case: Case, *, by: access.Actor, now: dt.datetime) -> None:
    """Lets a case go on, if somebody thought it finished."""
    closure = _latest_closure(session, case)
    if case.state == "closure_proposed" and closure is not None:
        _reject(session, case, closure, by, now)


_CLOSE_ALERTS = text(
    "update alerts a set closed_at = :now where a.district_id = :district and a.closed_at is null"  # noqa: S608 - our own SQL
    f" and {access.within('a.school_id')}"
    " and a.state = 'triaged' and (a.student_id = :student or a.id in ("
    # of the same child under another row, and in no other case since
    "  select t.alert_id from triages t where t.district_id = :district and t.case_id = :case"
    f"   and {access.within('t.school_id')} and not exists ("
    "   select from triages later where later.district_id = t.district_id and later.alert_id = t.alert_id"
    "   and later.case_id is not null and later.case_id <> t.case_id and later.proposed_at > t.proposed_at"
    f"   and {access.within('later.school_id')})))"
)


def _refuse_obstacles(session: Session, case: Case, tier: int) -> None:
    demanded = routing.policy_of_student(session, case.student_id).closure.checklist.get(tier, ())
    problems = checklist.obstacles(checklist.facts_of(session, case), demanded)
    if problems:
        raise Refused("This case cannot end yet.", code="cannot_close", problems=problems)


def _end(session: Session, case: Case, reason: str, by: access.Actor, now: dt.datetime) -> None:
    case.state, case.closed_at = "closed", now
    session.flush()
    about = {
        "district": case.district_id,
        "schools": access.schools_of(session),
        "student": case.student_id,
        "case": case.id,
    }
    session.execute(_CLOSE_ALERTS, about | {"now": now})
    audit.record(session, by, "case.closed", "case", case.id, reason=reason, tier=case.tier)


def _reject(session: Session, case: Case, closure: Closure, by: access.Actor, now: dt.datetime) -> None:
    closure.rejected_at = now
    facts = checklist.facts_of(session, case)
    promised = select(FollowUp.id).filter_by(district_id=case.district_id, case_id=case.id)
    has_follow_up = session.scalar(promised.where(access.of_scope(session, FollowUp.school_id)).limit(1)) is not None
    case.state = "follow_up" if has_follow_up else "assessing" if facts.seen else "open"
    tell(session, case, "closure_rejected", by, now)
    audit.record(session, by, "case.closure_rejected", "case", case.id)


def _standing_closure(session: Session, case: Case, by: access.Actor) -> Closure:
    """What the same person proposed already; another's proposal is a conflict."""
    closure = _latest_closure(session, case)
    if closure is None:
        raise Conflict("This case is closed already.")
    if closure.proposed_by != by.person:
        raise TakenByAnother("The end of this case was proposed", closure.proposed_by, closure.proposed_at)
    return closure


def _latest_closure(session: Session, case: Case) -> Closure | None:
    return session.scalars(
        select(Closure)
        .where(Closure.district_id == case.district_id, Closure.case_id == case.id, Closure.rejected_at.is_(None))
        .where(access.of_scope(session, Closure.school_id))
        .order_by(Closure.proposed_at.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()
