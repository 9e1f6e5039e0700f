"""Who may answer an alert, and the one person who does: "I am looking"."""

import datetime as dt
import uuid

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import cases
from alerts.models import Acknowledgement
from screening import access, audit
from screening.errors import Conflict, NotFound

ANSWERING = ("counselor", "lead", "principal", "duty_officer")
"""Who may say "I am looking"; whoever else was told of an alert may say so too."""


def acknowledge(session: Session, alert_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Acknowledgement:
    """ "I am looking": exactly one person takes a new alert and owns it; the same person twice is once.

    Raises TakenByAnother, which names the winner.
    """
    district_id = access.scope_of(session).district_id
    about = {"district": district_id, "id": alert_id, "school": _require_answering(session, alert_id, by)}
    claimed = session.execute(_CLAIM, about | {"by": by.person}).one_or_none()
    if claimed is None:
        return _standing_acknowledgement(session, alert_id, by)
    made = Acknowledgement(
        district_id=district_id,
        id=uuid.uuid4(),
        alert_id=alert_id,
        school_id=claimed.school_id,
        raised_at=claimed.raised_at,
        by=by.person,
        at=now,
    )
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.acknowledged", "alert", alert_id)
    return made


_CLAIM = text(
    "update alerts set state = 'acknowledged', owner_id = :by"
    " where district_id = :district and id = :id and state = 'new' and closed_at is null"
    " and school_id is not distinct from :school"  # it may go to another school while somebody answers
    " returning school_id, raised_at"
)
_WHO_MAY = text(
    "select a.school_id, exists (select from deliveries d where d.district_id = :district and d.subject = 'alert'"  # noqa: S608 - our own SQL
    f" and d.subject_id = a.id and d.recipient_id = :staff and {access.within('d.school_id')}) as was_told"
    " from alerts a where a.district_id = :district and a.id = :id"
)


def _require_answering(session: Session, alert_id: uuid.UUID, by: access.Actor) -> uuid.UUID | None:
    """The school at which this person may answer it."""
    parameters = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "id": alert_id,
        "staff": by.staff_id,
    }
    found = session.execute(_WHO_MAY, parameters).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such alert.")
    if not (found.was_told or by.has(*ANSWERING, school_id=found.school_id)):
        raise NotFound("There is no such alert.")
    school_id: uuid.UUID | None = found.school_id
    return school_id


def _standing_acknowledgement(session: Session, alert_id: uuid.UUID, by: access.Actor) -> Acknowledgement:
    latest = session.scalars(
        select(Acknowledgement)
        .where(
            Acknowledgement.district_id == access.scope_of(session).district_id, Acknowledgement.alert_id == alert_id
        )
        .where(access.of_scope(session, Acknowledgement.school_id))
        .order_by(Acknowledgement.raised_at.desc(), Acknowledgement.at.desc())
        .limit(1)
    ).one_or_none()
    if latest is None:
        raise Conflict("This alert is closed, or it has gone to another school with its student.")
    if latest.by != by.person:
        raise cases.TakenByAnother("This alert was acknowledged", latest.by, latest.at)
    return latest
