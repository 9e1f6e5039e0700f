"""The district's directory of places that a student can be referred to."""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from alerts.models import Destination
from screening import access, audit
from screening.errors import Conflict, NotFound, Refused

KINDS = ("counselling_centre", "hospital", "guidance_team", "hotline")


def add(
    session: Session,
    kind: str,
    name: str,
    *,
    phone: str | None = None,
    address: str | None = None,
    hours: str | None = None,
    is_emergency: bool = False,
    by: access.Actor,
    now: dt.datetime,
) -> Destination:
    """A place in the directory. Raises Conflict where it stands there already."""
    if kind not in KINDS:
        raise Refused(f"A place is one of these: {', '.join(KINDS)}.", code="unknown_kind")
    if not by.has("district_admin"):
        raise NotFound("There is nothing of that kind for you here.")
    known = select(Destination.id).filter_by(district_id=by.district_id, kind=kind, name=name.strip())
    if session.scalar(known) is not None:
        raise Conflict("This place stands in the directory already.", code="destination_exists")
    made = Destination(
        district_id=by.district_id,
        id=uuid.uuid4(),
        kind=kind,
        name=name.strip(),
        phone=phone,
        address=address,
        hours=hours,
        is_emergency=is_emergency,
        added_by=by.person,
        added_at=now,
    )
    session.add(made)
    session.flush()
    audit.record(session, by, "destination.added", "destination", made.id, kind=kind)
    return made


def retire(session: Session, destination_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Destination:
    """Nobody is referred there any more; who was, stays so."""
    if not by.has("district_admin"):
        raise NotFound("There is nothing of that kind for you here.")
    found = get(session, destination_id)
    if found.retired_at is None:
        found.retired_at = now
        session.flush()
        audit.record(session, by, "destination.retired", "destination", found.id)
    return found


def get(session: Session, destination_id: uuid.UUID) -> Destination:
    """Raises NotFound."""
    found = session.get(Destination, (access.scope_of(session).district_id, destination_id))
    if found is None:
        raise NotFound("There is no such place in the directory.")
    return found


def listed(session: Session, *, kind: str | None = None) -> Sequence[Destination]:
    """The places one can be referred to, those open day and night first."""
    wanted = select(Destination).filter_by(district_id=access.scope_of(session).district_id, retired_at=None)
    if kind is not None:
        wanted = wanted.filter_by(kind=kind)
    return session.scalars(wanted.order_by(Destination.is_emergency.desc(), Destination.name, Destination.id)).all()
