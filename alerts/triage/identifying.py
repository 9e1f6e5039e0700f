"""Whose alert it is: an upload concern finds its student, and one of the wrong student the right one."""

import datetime as dt
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import cases, raising, routing
from alerts.models import Alert, AlertReason, Triage
from alerts.triage.holding import held_alert, latest_triage, proposal, taken
from screening import access, audit, sealing, students
from screening.errors import Conflict, Refused
from screening.results import Signal


def identify(
    session: Session, alert_id: uuid.UUID, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime
) -> Triage:
    """An upload concern is this student's: its reasons go into the student's own alert, and it ends as merged."""
    held = held_alert(session, alert_id)
    school_id = students.school_of(session, student_id)
    cases.require(by, cases.CARING, school_id)
    if held.student_id is not None:
        raise Refused("This alert has its student already.", code="identified")
    if held.closed_at is not None:
        standing = latest_triage(session, held)
        if standing is not None and standing.outcome == "merged" and standing.proposed_by == by.person:
            return standing
        raise taken(standing)
    policy = routing.policies(session, [held.round_id])[held.round_id]
    raising.raise_alerts(session, _as_signals(session, held, student_id, school_id), now=now, policy=policy)
    made = proposal(held, "merged", "none", False, by, now)
    made.sealed_note = sealing.keys(session).seal_text("", f"alert/{held.id}/{made.id}")
    held.state, held.closed_at = "triaged", now
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.identified", "alert", held.id, student=str(student_id), tier=held.tier)
    return made


def misplace(
    session: Session, alert_id: uuid.UUID, student_id: uuid.UUID, words: str, *, by: access.Actor, now: dt.datetime
) -> Triage:
    """This alert is about the wrong student: the right one's alert rings at once, with every reason of it.

    The alert of the wrong one ends only on a second person's word (`confirm_triage`), whatever its tier; both stay.
    """
    held = held_alert(session, alert_id)
    school_id = students.school_of(session, student_id)
    for where in (held.school_id, school_id):
        cases.require(by, cases.CARING, where)
    cases.refuse_recused(session, by, held.student_id)
    if held.student_id is None or held.student_id == student_id:
        raise Refused("Name another student than the one whose alert this is.", code="same_student")
    if held.state != "acknowledged" or held.closed_at is not None:
        raise Conflict("Only an alert that somebody is looking at can be put right.", code="not_acknowledged")
    policy = routing.policies(session, [held.round_id])[held.round_id]
    raising.raise_alerts(session, _as_signals(session, held, student_id, school_id), now=now, policy=policy)
    made = proposal(held, "wrong_student", "none", False, by, now)
    made.sealed_note = sealing.keys(session).seal_text(cases.required(words), f"alert/{held.id}/{made.id}")
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.misplaced", "alert", held.id, student=str(student_id), tier=held.tier)
    return made


def _as_signals(session: Session, held: Alert, student_id: uuid.UUID, school_id: uuid.UUID) -> list[Signal]:
    """Every reason of an alert as a signal about this student, at least as serious together as the alert itself."""
    wanted = select(AlertReason).filter_by(district_id=held.district_id, alert_id=held.id)
    reasons = list(session.scalars(wanted.where(access.of_scope(session, AlertReason.school_id))))
    return [
        Signal(
            student_id=student_id,
            school_id=school_id,
            rule=reason.rule,
            tier=reason.tier,
            is_self_harm=held.has_self_harm,
            source=reason.source,
            round_id=held.round_id,
            sealed=reason.sealed,
        )
        for reason in reasons
    ]
