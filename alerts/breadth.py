"""Somebody who reads or exports many is told of, whichever doors they went through: the account says so.

It is looked for in the account itself, so that no door can forget it.
"""

import datetime as dt
import uuid
from collections.abc import Collection

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


_HELD = text(
    "select s.id as staff_id, r.school_id from staff s left join staff_roles r on r.district_id = s.district_id"
    " and r.staff_id = s.id and (r.until_at is null or r.until_at > now())"
    " where s.district_id = :district and s.account_id = :account"
)


def watch(session: Session, *, now: dt.datetime) -> int:
    """Tells of everybody who was shown more than the budget within the last hour, once an hour; answers of how many."""
    district_id = access.scope_of(session).district_id
    wanted = {"district": district_id, "since": now - AN_HOUR, "now": now, "opened": OPENED, "named": NAMED}
    found = session.execute(_MANY, wanted).all()
    by = access.system(district_id)
    for row in found:
        held = session.execute(_HELD, {"district": district_id, "account": row.actor_id}).all()
        people = _people(session, TOLD, {each.school_id for each in held} | {None}) - {each.staff_id for each in held}
        _tell(session, people, None, "reading", row.actor_id, f"many/{now:%Y-%m-%dT%H}", now)
        audit.record(
            session, by, "access.budget_spent", "account", row.actor_id, opened=row.opened, named=row.named
        )  # fmt: skip
    return len(found)


def export_asked(session: Session, asked: Export, *, by: access.Actor, now: dt.datetime) -> None:
    """Tells those who may grant it."""
    people = _people(session, tuple(exports.DECIDING), {asked.school_id}) - {by.person}
    _tell(session, people, asked.school_id, "export", asked.id, "asked", now)


def export_made(session: Session, made: Export, *, by: access.Actor, now: dt.datetime) -> None:
    """Tells of many rows that left."""
    if made.row_count > exports.MANY:
        people = _people(session, TOLD, {made.school_id}) - {by.person}
        _tell(session, people, made.school_id, "export", made.id, "made", now)


def _people(session: Session, roles: tuple[str, ...], places: Collection[uuid.UUID | None]) -> set[uuid.UUID]:
    return {one for place in places for one in staff.people_with(session, roles, place)}


def _tell(
    session: Session,
    people: Collection[uuid.UUID],
    school_id: uuid.UUID | None,
    subject: str,
    subject_id: uuid.UUID,
    occasion: str,
    now: dt.datetime,
) -> None:
    notices = [
        delivery.Notice(one, school_id, subject, subject_id, occasion, "immediate", now) for one in sorted(people)
    ]
    delivery.put(session, notices, now=now)
