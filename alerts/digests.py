"""The daily digest: one message in the morning to whoever has something waiting that interrupted nobody."""

import datetime as dt
import uuid
from collections import defaultdict
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import delivery, routing
from screening import access, calendars

AT = dt.time(7, 30)
"""Before the first lesson, by the clock on the wall."""


def put_due(session: Session, *, now: dt.datetime) -> int:
    """Writes this morning's digests down where they are not yet; answers how many were new. Twice is once.

    On days of school only, to each person once: yellow alerts that nobody has answered, and contacts promised for
    today or earlier. An outage over the morning makes it late that day; a day that was missed whole is not made up
    for, since the next digest holds all that waits then.
    """
    zone: ZoneInfo = session.info["timezone"]
    local = now.astimezone(zone)
    if local.time() < AT:
        return 0
    ends_at = dt.datetime.combine(local.date() + dt.timedelta(days=1), dt.time(), zone)
    waiting = _waiting(session, now, ends_at)
    notices = [
        delivery.Notice(
            recipient_id=recipient_id,
            school_id=None,
            subject="digest",
            subject_id=recipient_id,
            occasion=f"digest/{local.date().isoformat()}",
            urgency="digest",
            due_at=due_at,
        )
        for recipient_id, due_at in sorted(waiting.items())
    ]
    return delivery.put(session, notices, now=now)


_ALERTS = text(
    "select id, school_id, answer_by from alerts where district_id = :district and state = 'new'"
    " and closed_at is null and tier < :from_tier order by id"
)
_FOLLOW_UPS = text(
    "select f.school_id, f.due_at, c.owner_id from follow_ups f"
    " join cases c on c.district_id = f.district_id and c.id = f.case_id"
    " where f.district_id = :district and f.state in ('planned', 'due', 'overdue') and f.due_at < :ends_at"
)


def _waiting(session: Session, now: dt.datetime, ends_at: dt.datetime) -> dict[uuid.UUID, dt.datetime]:
    """For whom something waits, and by when the first of it."""
    district = access.scope_of(session).district_id
    alerts = session.execute(_ALERTS, {"district": district, "from_tier": delivery.TELLING_FROM}).all()
    contacts = session.execute(_FOLLOW_UPS, {"district": district, "ends_at": ends_at}).all()
    schools = calendars.of_schools(session, {row.school_id for row in (*alerts, *contacts) if row.school_id})
    today = now.astimezone(session.info["timezone"]).date()
    open_schools = {school_id for school_id, calendar in schools.items() if calendar.is_school_day(today)}
    rota = routing.rota(session, now=now)
    due: dict[uuid.UUID, list[dt.datetime]] = defaultdict(list)
    for alert in alerts:
        if alert.school_id in open_schools:
            for reader in rota.hearers("counselor", alert.school_id, alert.id, is_day_and_night=False):
                due[reader].append(alert.answer_by)
    for contact in contacts:
        if contact.school_id in open_schools:
            due[contact.owner_id].append(contact.due_at)
    return {recipient_id: min(times) for recipient_id, times in due.items()}
