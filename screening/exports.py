"""Rows by name that leave in one piece: for a purpose of a closed list, under a mark, and many only by two.

There is no purpose of admission, marks, ranking or discipline, so that nothing can be exported for them.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import access, audit
from screening.errors import AccessNeeded, Conflict, NotFound, Refused
from screening.models import Export

PURPOSES: Mapping[str, str] = {"student_codes": "screening", "guardian_codes": "consent"}
"""All that can be exported by name, and the one purpose that each serves."""
MANY = 50
"""Above so many rows a second person says so first, and the privacy officer hears of it."""
DECIDING = frozenset({"lead", "principal", "privacy_officer"})
GRANTED_FOR = dt.timedelta(hours=24)


def note(
    session: Session, what: str, school_id: uuid.UUID, row_count: int, *, by: access.Actor, now: dt.datetime
) -> Export:
    """Notes what leaves now; its id is the mark to be written into each row.

    Raises AccessNeeded (`second_person`) for many rows that nobody else has granted within the last day.
    """
    if row_count > MANY:
        found = _of(session, what, school_id, "granted", by=by, since=now - GRANTED_FOR)
        if found is None:
            words = f"{row_count} rows by name are many: a second person has to say so. It was asked for: /v1/exports."
            raise AccessNeeded(words, code="second_person")
        found.state, found.row_count = "done", row_count
    else:
        found = _made(session, what, school_id, row_count, "done", by=by, now=now)
    session.flush()
    audit.record(
        session, by, "export.made", "export", found.id, what=what, purpose=found.purpose, count=row_count
    )  # fmt: skip
    return found


def ask(
    session: Session, what: str, school_id: uuid.UUID, row_count: int, *, by: access.Actor, now: dt.datetime
) -> Export:
    """Asks a second person for many rows; the same again while it waits is the same."""
    found = _of(session, what, school_id, "waiting", by=by, since=now - GRANTED_FOR)
    if found is None:
        found = _made(session, what, school_id, row_count, "waiting", by=by, now=now)
        session.flush()
        audit.record(session, by, "export.asked", "export", found.id, what=what, count=row_count)
    return found


def decide(session: Session, export_id: uuid.UUID, *, is_granted: bool, by: access.Actor, now: dt.datetime) -> Export:
    """The second person's word; it lasts a day and for one export. Raises NotFound, Refused (`second_person`),
    Conflict (`decided`)."""
    found = session.get(Export, (access.scope_of(session).district_id, export_id))
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such export.")
    if found.person_id == by.person:
        raise Refused("A second person has to say so.", code="second_person")
    if found.state != "waiting":
        raise Conflict(f"This is {found.state} already.", code="decided")
    found.state = "granted" if is_granted else "refused"
    found.decided_by, found.decided_at, found.until_at = by.person, now, now + GRANTED_FOR
    session.flush()
    audit.record(session, by, "export.decided", "export", found.id, what=found.what, state=found.state)
    return found


def listed(
    session: Session, *, after: tuple[dt.datetime, uuid.UUID] | None = None, limit: int = 50
) -> Sequence[Export]:
    """What left or was asked for at the scope's schools, the latest first."""
    wanted = select(Export).where(
        Export.district_id == access.scope_of(session).district_id, access.of_scope(session, Export.school_id)
    )
    if after is not None:
        at, last = after
        wanted = wanted.where((Export.asked_at < at) | ((Export.asked_at == at) & (Export.id > last)))
    return session.scalars(wanted.order_by(Export.asked_at.desc(), Export.id).limit(limit)).all()


def _of(
    session: Session, what: str, school_id: uuid.UUID, state: str, *, by: access.Actor, since: dt.datetime
) -> Export | None:
    return session.scalars(
        select(Export)
        .where(
            Export.district_id == access.scope_of(session).district_id,
            Export.school_id == school_id,
            Export.person_id == by.person,
            Export.what == what,
            Export.state == state,
            (Export.decided_at if state == "granted" else Export.asked_at) > since,
        )
        .limit(1)
        .with_for_update()
    ).one_or_none()


def _made(
    session: Session,
    what: str,
    school_id: uuid.UUID,
    row_count: int,
    state: str,
    *,
    by: access.Actor,
    now: dt.datetime,
) -> Export:
    made = Export(
        district_id=access.scope_of(session).district_id,
        id=uuid.uuid4(),
        school_id=school_id,
        person_id=by.person,
        what=what,
        purpose=PURPOSES[what],
        state=state,
        row_count=row_count,
        asked_at=now,
    )
    session.add(made)
    return made
