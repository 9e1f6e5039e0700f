"""A request as of right reaches somebody who may decide it, in the transaction in which it is asked."""

import datetime as dt
import uuid

from sqlalchemy.orm import Session

from alerts import delivery
from screening import access, rights, staff
from screening.models import RightsRequest


def ask(
    session: Session, student_id: uuid.UUID, kind: str, words: str, *, asked_as: str, by: access.Actor, now: dt.datetime
) -> RightsRequest:
    """Writes it down, and who is to be told. Raises what `rights.ask` raises."""
    made = rights.ask(session, student_id, kind, words, asked_as=asked_as, by=by, now=now)
    people = staff.people_with(session, rights.DECIDING[kind], made.school_id)
    notices = [
        delivery.Notice(one, made.school_id, "rights_request", made.id, "asked", "routine", made.due_at)
        for one in people
        if one != by.staff_id
    ]
    delivery.put(session, notices, now=now)
    return made
