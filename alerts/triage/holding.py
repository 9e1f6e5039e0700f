"""An alert at hand: held against others, what was found last, and what somebody finds now."""

import datetime as dt
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts import cases
from alerts.models import Alert, Triage
from screening import access
from screening.errors import Conflict, NotFound


def held_alert(session: Session, alert_id: uuid.UUID) -> Alert:
    """The alert, held against others until the end of the transaction."""
    found = session.scalars(
        select(Alert)
        .where(Alert.district_id == access.scope_of(session).district_id, Alert.id == alert_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such alert.")
    return found


def latest_triage(session: Session, held: Alert) -> Triage | None:
    return session.scalars(
        select(Triage)
        .where(Triage.district_id == held.district_id, Triage.alert_id == held.id)
        .where(access.of_scope(session, Triage.school_id))
        .order_by(Triage.proposed_at.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()


def taken(standing: Triage | None) -> Conflict:
    if standing is None:
        return Conflict("This alert is closed.")
    return cases.TakenByAnother(
        f"This alert was triaged ({standing.outcome})", standing.proposed_by, standing.proposed_at
    )


def proposal(
    held: Alert, outcome: str, contact: str, is_student_seen: bool, by: access.Actor, now: dt.datetime
) -> Triage:
    return Triage(
        district_id=held.district_id,
        id=uuid.uuid4(),
        alert_id=held.id,
        school_id=held.school_id,
        outcome=outcome,
        contact=contact,
        is_student_seen=is_student_seen,
        tier=held.tier,
        proposed_by=by.person,
        proposed_at=now,
    )
