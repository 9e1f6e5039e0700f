"""A calendar feed of one's own promised contacts, for the calendar on a phone: times and links, and nothing else.

The address holds the only proof, so that it is made anew with each asking, kept as a keyed hash, and ended at a word.
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import icalendar
from sqlalchemy import Row, select, text, update
from sqlalchemy.orm import Session

from alerts import delivery
from screening import access, audit, sealing, staff
from screening.db import Database
from screening.errors import NotFound
from screening.models import Account, Feed
from screening.settings import Settings

CARING = ("counselor", "lead")
BACK, LENGTH = dt.timedelta(days=30), dt.timedelta(minutes=30)
_SUMMARY = {"en": "Promised contact", "zh_CN": "约定的联系"}


def make(session: Session, *, by: access.Actor, now: dt.datetime) -> tuple[Feed, str]:
    """A new address in place of an earlier one; its secret part is told this once. Raises NotFound for nobody."""
    if by.account_id is None:
        raise NotFound("A feed is somebody's own.")
    _end(session, by.account_id, now)
    token = secrets.token_urlsafe(32)
    made = Feed(id=uuid.uuid4(), token_hash=_hash(session, token), account_id=by.account_id, made_at=now)
    session.add(made)
    session.flush()
    audit.record(session, by, "feed.made", "feed", made.id)
    return made, token


def standing(session: Session, account_id: uuid.UUID | None) -> Feed | None:
    """One's own feed, if there is one."""
    return session.scalars(select(Feed).where(Feed.account_id == account_id, Feed.revoked_at.is_(None))).one_or_none()


def revoke(session: Session, *, by: access.Actor, now: dt.datetime) -> None:
    """Ends it: the address leads nowhere from now on. Raises NotFound where there is none."""
    found = standing(session, by.account_id)
    if found is None:
        raise NotFound("There is no feed.")
    _end(session, found.account_id, now)
    audit.record(session, by, "feed.revoked", "feed", found.id)


def read(database: Database, token: str, settings: Settings, *, now: dt.datetime) -> bytes:
    """The calendar behind an address, by the roles of this moment.

    Raises NotFound for an address that is none, was ended, or whose owner cares for nobody any more.
    """
    with database.unit() as session:
        found = session.execute(
            select(Account.id, Account.district_id)
            .join(Feed, Feed.account_id == Account.id)
            .where(Feed.token_hash == _hash(session, token), Feed.revoked_at.is_(None), Account.disabled_at.is_(None))
        ).one_or_none()
        actor = None if found is None else staff.actor_of(session, found.id, found.district_id)
    if actor is None or not actor.has(*CARING):
        raise NotFound("There is no such calendar.")
    with database.unit(actor.scope_as(CARING)) as session:
        about = {"district": actor.district_id, "schools": access.schools_of(session)}
        parameters = about | {"owner": actor.staff_id, "since": now - BACK}
        return _written(session.execute(_OWN, parameters).all(), settings, now)


_OWN = text(
    "select f.id, f.due_at from follow_ups f join cases c on c.district_id = f.district_id and c.id = f.case_id"  # noqa: S608 - our own SQL
    " where f.district_id = :district and c.owner_id = :owner and f.state in ('planned', 'due', 'overdue')"
    f" and f.due_at >= :since and {access.within('f.school_id')} and {access.within('c.school_id')}"
    " order by f.due_at, f.id limit 1000"
)


def _written(contacts: Sequence[Row[tuple[uuid.UUID, dt.datetime]]], settings: Settings, now: dt.datetime) -> bytes:
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//screening//follow-ups//EN")
    calendar.add("version", "2.0")
    for event in _events(contacts, settings, now):
        calendar.add_component(event)
    written: bytes = calendar.to_ical()
    return written


def _events(
    contacts: Sequence[Row[tuple[uuid.UUID, dt.datetime]]], settings: Settings, now: dt.datetime
) -> Iterator[icalendar.Event]:
    host = urlsplit(settings.base_url).hostname or "localhost"
    for contact in contacts:
        event = icalendar.Event()
        event.add("uid", f"{contact.id}@{host}")
        event.add("dtstamp", now.astimezone(dt.UTC))
        event.add("dtstart", contact.due_at.astimezone(dt.UTC))
        event.add("dtend", (contact.due_at + LENGTH).astimezone(dt.UTC))
        event.add("summary", _SUMMARY[settings.locale])
        event.add("url", delivery.link(settings, "follow_up", contact.id))
        event.add("class", "PRIVATE")
        yield event


def _end(session: Session, account_id: uuid.UUID, now: dt.datetime) -> None:
    session.execute(update(Feed).where(Feed.account_id == account_id, Feed.revoked_at.is_(None)).values(revoked_at=now))


def _hash(session: Session, token: str) -> bytes:
    return sealing.keyed_hash(sealing.purpose_key(session.info["master_key"], "feed"), token.encode())
