"""Somebody who reads or exports many is told of, whichever doors they went through: the account says so.

It is looked for in the account itself, so that no door can forget it.
"""

import datetime as dt
import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import delivery
from screening import access, audit, exports, staff
from screening.models import Export

AN_HOUR = dt.timedelta(hours=1)
OPENED = 30
"""Records opened by one person within an hour."""
NAMED = 300
"""Students named to one person within an hour: several classes, looked through on a list."""
TOLD = ("lead", "privacy_officer")

_MANY = text(
    "select actor_id, count(distinct subject_id) filter (where action <> 'student.named') as opened,"
    " count(distinct subject_id) filter (where action = 'student.named') as named from audit_entries e"
    " where district_id = :district and at > :since and at <= :now and actor_id is not null"
    " and action in ('alert.read', 'case.read', 'result.read', 'student.named')"
    " and not exists (select from audit_entries k where k.district_id = e.district_id and k.at > :since"
    "  and k.action = 'access.budget_spent' and k.subject_id = e.actor_id::text)"
    " group by actor_id having count(distinct subject_id) filter (where action <> 'student.named') > :opened"
    "  or count(distinct subject_id) filter (where action = 'student.named') > :named"
)


def watch(session: Session, *, now: dt.datetime) -> int:
    """Tells of everybody who was shown more than the budget within the last hour, once an hour; answers of how many."""
    district_id = access.scope_of(session).district_id
    wanted = {"district": district_id, "since": now - AN_HOUR, "now": now, "opened": OPENED, "named": NAMED}
    found = session.execute(_MANY, wanted).all()
    readers = [staff.actor_of(session, row.actor_id, district_id) for row in found]
    access.enter(session, access.Scope(district_id))  # who somebody is was asked in a scope of nobody's
    for row, reader in zip(found, readers, strict=True):
        _tell(session, reader, "reading", row.actor_id, f"many/{now:%Y-%m-%dT%H}", now)
        by = access.system(district_id)
        audit.record(
            session, by, "access.budget_spent", "account", row.actor_id, opened=row.opened, named=row.named
        )  # fmt: skip
    return len(found)


def export_asked(session: Session, asked: Export, *, by: access.Actor, now: dt.datetime) -> None:
    """Tells those who may grant it."""
    _tell(session, by, "export", asked.id, "asked", now, roles=tuple(exports.DECIDING), school_id=asked.school_id)


def export_made(session: Session, made: Export, *, by: access.Actor, now: dt.datetime) -> None:
    """Tells of many rows that left."""
    if made.row_count > exports.MANY:
        _tell(session, by, "export", made.id, "made", now, school_id=made.school_id)


def _tell(
    session: Session,
    reader: access.Actor,
    subject: str,
    subject_id: uuid.UUID,
    occasion: str,
    now: dt.datetime,
    *,
    roles: tuple[str, ...] = TOLD,
    school_id: uuid.UUID | None = None,
) -> None:
    places = {school_id} if school_id else {each.school_id for each in reader.roles} | {None}
    people = {one for place in places for one in staff.people_with(session, roles, place)}
    notices = [
        delivery.Notice(one, school_id, subject, subject_id, occasion, "immediate", now)
        for one in sorted(people - {reader.staff_id})
    ]
    delivery.put(session, notices, now=now)
