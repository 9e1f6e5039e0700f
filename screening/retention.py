"""Retention: who has left long enough ago is erased without anybody asking, by the periods of the policy.

Answers, scores and results go first. Who has never had a red case goes as a person on the same day; the notes of one
stay some years more. What is still open holds everything: an alert or a case that nobody closed is no matter of the
past.
"""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, erasure, policy, rounds, same_child
from screening.models import Round
from screening.policy import Policy

AT_ONCE = 500


def ask_due(session: Session, *, now: dt.datetime) -> int:
    """Queues the erasure of whoever is beyond the periods, some hundred at a time; answers how many are new."""
    rule = _rules(session).retention
    by = access.system(access.scope_of(session).district_id)
    left_by = now.date() - dt.timedelta(days=rule.answers_days)
    notes_by = now - dt.timedelta(days=rule.answers_days + rule.red_notes_days)
    asked = 0
    for extent, statement in (("person", _PERSONS), ("answers", _ANSWERS)):
        found = _due(session, statement, left_by, notes_by)
        asked += erasure.ask(session, found, extent, "retention", by=by, now=now, grace=dt.timedelta())
    return asked


def _rules(session: Session) -> Policy:
    """Those of the latest round, or the shipped ones where there was none."""
    district_id = access.scope_of(session).district_id
    latest = session.scalar(
        select(Round.id).where(Round.district_id == district_id).order_by(Round.opens_at.desc(), Round.id).limit(1)
    )
    return policy.shipped() if latest is None else rounds.rules_of(session, latest).policy


def _due(session: Session, statement: str, left_by: dt.date, notes_by: dt.datetime) -> Sequence[uuid.UUID]:
    wanted = {
        "district": access.scope_of(session).district_id,
        "left_by": left_by,
        "notes_by": notes_by,
        "limit": AT_ONCE,
    }
    return session.execute(text(statement), wanted).scalars().all()


# Who left is found in one reading, and only for those few is anything else looked up: students joined to enrollments
# became a loop in a loop where the planner's statistics knew of neither, and took minutes.
_LEFT = (
    "select s.id from (select e.student_id as id from enrollments e where e.district_id = :district"  # noqa: S608 - our own SQL
    "  group by e.student_id having bool_and(coalesce(e.until_on <= :left_by, false)) offset 0) s"
    " where not exists (select from alerts a where a.district_id = :district and a.student_id = s.id"
    "  and a.closed_at is null)"
    " and not exists (select from cases c where c.district_id = :district and c.student_id = s.id"
    "  and c.state <> 'closed')"
    # a child that is here under another row, or has something open there, has not left
    f" and not exists (select from {same_child.OTHERS} o where o.student_id = s.id and ("
    "  exists (select from enrollments e where e.district_id = :district and e.student_id = o.other_id"
    "   and (e.until_on is null or e.until_on > :left_by))"
    "  or exists (select from alerts a where a.district_id = :district and a.student_id = o.other_id"
    "   and a.closed_at is null)"
    "  or exists (select from cases c where c.district_id = :district and c.student_id = o.other_id"
    "   and c.state <> 'closed')))"
    " and not exists (select from erasures w where w.district_id = :district and w.student_id = s.id"
    "  and w.state = 'waiting')"
)
_PERSONS = (
    f"{_LEFT} and exists (select from identities i where i.district_id = :district and i.student_id = s.id)"  # noqa: S608 - our own SQL
    " and not exists (select from cases c where c.district_id = :district and c.student_id = s.id and c.tier = 3"
    "  and c.closed_at > :notes_by) order by s.id limit :limit"
)
_ANSWERS = (
    f"{_LEFT} and (exists (select from results r where r.district_id = :district and r.student_id = s.id)"  # noqa: S608 - our own SQL
    "  or exists (select from administrations r where r.district_id = :district and r.student_id = s.id))"
    " and cast(:notes_by as timestamptz) is not null order by s.id limit :limit"
)
