"""A person's word that turns a proposal into students, once."""

import datetime as dt
import uuid
from collections.abc import Callable, Collection

from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from screening import access, audit
from screening.db import now as database_now
from screening.errors import Conflict, NotFound
from screening.models import Roster
from screening.roster.applying import apply
from screening.roster.judging import judge
from screening.roster.listing import CHANGES, ProposedRow, Verdict
from screening.roster.proposing import KEPT_DAYS, keep_for, proposal

Follow = Callable[[Session, Collection[uuid.UUID], access.Actor, dt.datetime], object]
"""Brings after the students of a move whatever is open about them, in the same transaction."""


def commit(
    session: Session,
    roster_id: uuid.UUID,
    *,
    by: access.Actor,
    on: dt.date,
    follow: Follow,
    notice_version: str = "roster",
) -> Roster:
    """Does what the proposal says, as of the day `on`; refused rows are left out. `follow` hears who has moved.

    Raises Conflict when it was committed already, when it is not a proposal, or when students have changed since
    then so that a row now means something else; nothing is done in that case.
    """
    district_id = access.scope_of(session).district_id
    # one list at a time, so that what is judged here is still so when it is written
    session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"roster commit/{district_id}"}
    )
    found = session.execute(
        select(Roster)
        .where(Roster.district_id == district_id, Roster.id == roster_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such list of students.")
    if found.state != "proposed":
        already = "This list was committed already." if found.state == "committed" else "This list is no proposal."
        raise Conflict(already, code=f"roster_{found.state}")
    planned = [row for row in proposal(session, roster_id).rows if row.change != "refused" and row.listed]
    listed = [row.listed for row in planned if row.listed]
    verdicts = judge(session, listed, found.school_id)
    for row, verdict in zip(planned, verdicts, strict=True):
        if not _is_foreseen(row, verdict):
            raise _outdated()
    try:
        with session.begin_nested():
            apply(session, found, list(zip(listed, verdicts, strict=True)), on, notice_version, by)
    except IntegrityError:
        raise _outdated() from None
    found.state = "committed"
    found.committed_by = by.staff_id or by.account_id
    found.committed_at = database_now(session)
    keep_for(session, found, KEPT_DAYS)
    session.flush()
    moved = [verdict.student_id for verdict in verdicts if verdict.change == "moved" and verdict.student_id]
    if moved:
        follow(session, moved, by, found.committed_at)
    counts = {name: found.counts.get(name, 0) for name in CHANGES}
    audit.record(session, by, "roster.committed", "roster", roster_id, **counts)
    return found


def _is_foreseen(row: ProposedRow, verdict: Verdict) -> bool:
    """Whether what would be done now is no more than what the proposal showed, and about the same child."""
    is_kind = verdict.change in (row.change, "same") and verdict.student_id == row.student_id
    return is_kind and set(verdict.differences) <= set(row.differences)


def _outdated() -> Conflict:
    return Conflict("Students have changed since this proposal was made. Send the list again.", code="roster_outdated")
