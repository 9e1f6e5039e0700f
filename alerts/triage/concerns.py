"""What somebody observed about a student, which is a reason like any other."""

import datetime as dt
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import cases, raising, routing
from alerts.models import AlertReason
from alerts.triage.answering import ANSWERING
from screening import access, audit, sealing, students
from screening.errors import Refused
from screening.results import Signal

CONCERNED = (*ANSWERING, "class_teacher", "school_admin", "staff_member", "district_admin")
"""Who may raise a concern about a student."""


def raise_concern(
    session: Session,
    student_id: uuid.UUID,
    tier: int,
    facts: str,
    *,
    by: access.Actor,
    now: dt.datetime,
    is_self_harm: bool = False,
) -> uuid.UUID:
    """What somebody observed becomes a reason of the student's open alert, which it opens or raises; returns its id."""
    if tier not in (1, 2, 3):
        raise Refused("A concern is yellow, orange or red.", code="unknown_tier")
    school_id = students.school_of(session, student_id)
    cases.require(by, CONCERNED, school_id)
    source = f"concern/{uuid.uuid4()}"
    signal = Signal(
        student_id=student_id,
        school_id=school_id,
        rule="concern_self_harm" if is_self_harm else "concern",
        tier=tier,
        is_self_harm=is_self_harm,
        source=source,
        sealed=sealing.keys(session).seal_text(cases.required(facts), source),
    )
    raising.raise_alerts(session, [signal], now=now, policy=routing.policy_of_student(session, student_id))
    with access.widened(session, None):  # it joins the student's alert, which may stand at the old school still
        alert_id: uuid.UUID = session.execute(
            select(AlertReason.alert_id).where(
                AlertReason.district_id == access.scope_of(session).district_id, AlertReason.source == source
            )
        ).scalar_one()
    audit.record(session, by, "concern.raised", "alert", alert_id, tier=tier, self_harm=is_self_harm)
    return alert_id
