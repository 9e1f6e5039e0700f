"""What was decided about consent for one row of a child reaches the schools of its other rows.

A school sees the decisions that are written at it. As when a student moves, they are written again for the other
school, about the same row; and a withdrawal erases what every row of the child holds.
"""

import datetime as dt
import uuid
from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, erasure, same_child
from screening.inserting import as_array


def share(session: Session, students: Collection[uuid.UUID] | None, *, by: access.Actor, now: dt.datetime) -> int:
    """Writes the decisions of these children (of all) again where another row stands, and queues the erasures that a
    withdrawal asks of it; answers how many decisions were new. Needs the whole district in scope."""
    about = {
        "district": access.scope_of(session).district_id,
        "students": None if students is None else as_array("uuid", students),
    }
    written = session.execute(_WRITE_AGAIN, about).all()
    erasure.ask(session, list(session.execute(_TO_ERASE, about).scalars()), "answers", "withdrawal", by=by, now=now)
    return len(written)


_OF = "(cast(:students as uuid[]) is null or o.student_id = any(cast(:students as uuid[])))"
_WRITE_AGAIN = text(
    "insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version, channel,"  # noqa: S608 - our own SQL
    " decided_at, recorded_at, recorded_by)"
    " select distinct on (c.student_id, s.school_id, c.given_by, c.decided_at, c.decision) c.district_id,"
    "  gen_random_uuid(), c.student_id, s.school_id, c.decision, c.given_by, c.notice_version, c.channel, c.decided_at,"
    f"  c.recorded_at, c.recorded_by from {same_child.OTHERS} o"
    " join students s on s.district_id = :district and s.id = o.student_id"
    f" join consents c on c.district_id = :district and c.student_id = o.other_id where {_OF}"
    " and not exists (select from consents h where h.district_id = c.district_id and h.student_id = c.student_id"
    "  and h.school_id = s.school_id and h.given_by = c.given_by and h.decided_at = c.decided_at"
    "  and h.decision = c.decision) returning 1"
)
_TO_ERASE = text(
    f"select distinct o.student_id from {same_child.OTHERS} o join erasures e on e.district_id = :district"  # noqa: S608 - our own SQL
    " and e.student_id = o.other_id and e.extent = 'answers' and e.reason = 'withdrawal' and e.state = 'waiting'"
    f" where {_OF} and not exists (select from erasures w where w.district_id = e.district_id"
    "  and w.student_id = o.student_id and w.extent = 'answers' and w.asked_at >= e.asked_at)"
)
