"""The queue: the open alerts that wait to be looked at; and one alert with its story."""

import datetime as dt
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts.models import Acknowledgement, AlertReason, Triage
from screening import access, sealing
from screening.errors import NotFound
from screening.statements import Statement

WAITING = ("new", "acknowledged")
"""States of an alert on which somebody still has to decide."""


class Cursor(NamedTuple):
    """The last row of a page: the next one begins after it."""

    tier: int
    answer_by: dt.datetime
    id: uuid.UUID


class Reason(NamedTuple):
    rule: str
    source: str
    tier: int
    noticed_at: dt.datetime


class QueueRow(NamedTuple):
    """An open alert. One without a student is an upload concern: a row (`place`) of a file that fitted nobody."""

    id: uuid.UUID
    school_id: uuid.UUID | None
    student_id: uuid.UUID | None
    round_id: uuid.UUID | None
    upload_id: uuid.UUID | None
    place: str | None
    source: str
    tier: int
    has_self_harm: bool
    state: str
    opened_at: dt.datetime
    raised_at: dt.datetime
    answer_by: dt.datetime
    see_by: dt.datetime
    owner_id: uuid.UUID | None
    closed_at: dt.datetime | None
    proposed_by: uuid.UUID | None
    """Who proposes to end it without a case, which a second person has not confirmed yet."""
    school: str | None
    """Its code."""
    case_id: uuid.UUID | None
    """The student's open case."""
    reasons: tuple[Reason, ...] = ()

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.tier, self.answer_by, self.id)

    def is_late(self, now: dt.datetime) -> bool:
        return self.state == "new" and self.answer_by < now


@dataclass(frozen=True)
class AlertStory:
    """An alert with all that was said and done about it."""

    row: QueueRow
    concerns: tuple[str, ...]
    acknowledgements: tuple[Acknowledgement, ...]
    triages: tuple[Triage, ...]


def _own(relation: str) -> str:
    """What a `QueueRow` says first, in its order: the alert's own columns."""
    names = QueueRow._fields[: QueueRow._fields.index("proposed_by")]
    return ", ".join(f"{relation}.{name}" for name in names)


_PROPOSED_BY = (
    "(select t.proposed_by from triages t where t.district_id = :district and t.alert_id = q.id"  # noqa: S608 - our own SQL
    " and q.state = 'acknowledged' and t.outcome in ('monitor', 'not_confirmed', 'wrong_student')"
    " and t.confirmed_at is null"
    f" and t.tier = q.tier and t.proposed_at >= q.raised_at and {access.within('t.school_id')}"
    " order by t.proposed_at desc limit 1) as proposed_by"
)
_AND_BESIDE = (
    f"{_own('q')}, {_PROPOSED_BY}, q.school,"  # noqa: S608 - made of the constant above
    " (select c.id from cases c where c.district_id = :district and c.student_id = q.student_id"
    f" and c.state <> 'closed' and {access.within('c.school_id')}) as case_id,"
    " w.*"
)
_HEAVIEST_FIRST = "order by r.tier desc, r.noticed_at, r.rule"
_REASONS = (
    f"cross join lateral (select array_agg(r.rule {_HEAVIEST_FIRST}) as rules,"  # noqa: S608 - made of the constant
    f" array_agg(r.source {_HEAVIEST_FIRST}) as sources, array_agg(r.tier {_HEAVIEST_FIRST}) as tiers,"
    f" array_agg(r.noticed_at {_HEAVIEST_FIRST}) as times from alert_reasons r"
    f" where r.district_id = :district and r.alert_id = q.id and {access.within('r.school_id')}) w"
)
_OF_SCHOOL = (
    " from alerts a where a.district_id = :district and a.{school} and a.tier = t.tier and a.closed_at is null"
    " and a.state = any(:states)"
    " and (cast(:due_before as timestamptz) is null or a.answer_by < :due_before)"
    " and (cast(:after_tier as smallint) is null or a.tier < :after_tier or (a.tier = :after_tier"
    "  and (a.answer_by, a.id) > (cast(:after_by as timestamptz), cast(:after_id as uuid))))"
    " order by a.answer_by, a.id limit :limit"
)
_SCHOOLS = (
    "select s.id, s.code from schools s where s.district_id = :district"  # noqa: S608 - our own SQL
    f" and {access.within('s.id')} and (cast(:school as uuid) is null or s.id = :school)"
)
# A short walk of the index for every school and tier, so that a page costs the same however long the queue is.
_AT_SCHOOLS = (
    f"select f.*, s.code as school from ({_SCHOOLS}) s cross join unnest(cast(:tiers as smallint[])) as t(tier)"  # noqa: S608 - as below
    f" cross join lateral (select {_own('a')}{_OF_SCHOOL.format(school='school_id = s.id')}) f"
)
_AT_NONE = (
    "select f.*, null as school from unnest(cast(:tiers as smallint[])) as t(tier)"  # noqa: S608 - as below
    f" cross join lateral (select {_own('a')}{_OF_SCHOOL.format(school='school_id is null')}) f"
)


def _queue_of(places: str) -> Statement:
    return Statement(
        f"select {_AND_BESIDE} from"  # noqa: S608 - made of the constants above
        f" (select f.* from ({places}) f order by f.tier desc, f.answer_by, f.id limit :limit) q {_REASONS}"
        " order by q.tier desc, q.answer_by, q.id",
        is_planned_once=True,
    )


_QUEUE_OF_SCHOOLS = _queue_of(_AT_SCHOOLS)
_QUEUE_OF_DISTRICT = _queue_of(f"{_AT_SCHOOLS} union all {_AT_NONE}")
"""Only who sees the whole district sees what fitted no school."""
_ONE = text(
    f"select {_AND_BESIDE} from"  # noqa: S608 - made of the constants above
    " (select a.*, (select s.code from schools s where s.district_id = :district and s.id = a.school_id) as school"
    f" from alerts a where a.district_id = :district and a.id = :id) q {_REASONS}"
)


def queue(
    session: Session,
    *,
    tiers: Sequence[int] | None = None,
    states: Sequence[str] | None = None,
    school_id: uuid.UUID | None = None,
    due_before: dt.datetime | None = None,
    after: Cursor | None = None,
    limit: int = 50,
) -> list[QueueRow]:
    """The open alerts in scope that wait for a decision (or are in `states`): reds first, then by their time.

    One query for any number of rows. With a case open an alert is `triaged`, and stays open until the case ends.
    """
    schools = access.schools_of(session)
    asked = (_QUEUE_OF_DISTRICT if schools is None and school_id is None else _QUEUE_OF_SCHOOLS).later(
        session,
        {
            "district": access.scope_of(session).district_id,
            "schools": schools,
            "school": school_id,
            "tiers": sorted(set(tiers or (1, 2, 3)), reverse=True),
            "states": list(states or WAITING),
            "due_before": due_before,
            "after_tier": after.tier if after else None,
            "after_by": after.answer_by if after else None,
            "after_id": after.id if after else None,
            "limit": limit,
        },
    )
    return list(itertools.starmap(_row, asked.tuples()))


def alert(session: Session, alert_id: uuid.UUID) -> AlertStory:
    """One alert, open or closed, with what was said and done about it. Raises NotFound."""
    district_id = access.scope_of(session).district_id
    about = {"district": district_id, "schools": access.schools_of(session), "id": alert_id}
    row = session.execute(_ONE, about).one_or_none()
    if row is None or not access.reaches(session, row.school_id):
        raise NotFound("There is no such alert.")
    acts = {"district_id": district_id, "alert_id": alert_id}
    answered = select(Acknowledgement).filter_by(**acts).where(access.of_scope(session, Acknowledgement.school_id))
    decided = select(Triage).filter_by(**acts).where(access.of_scope(session, Triage.school_id))
    return AlertStory(
        row=_row(*row),
        concerns=_concerns(session, alert_id),
        acknowledgements=tuple(session.scalars(answered.order_by(Acknowledgement.at))),
        triages=tuple(session.scalars(decided.order_by(Triage.proposed_at))),
    )


def note_of(session: Session, triage: Triage) -> str:
    """What was written at triage, opened from its seal."""
    return sealing.keys(session).open_text(triage.sealed_note, f"alert/{triage.alert_id}/{triage.id}")


def _row(*row: Any) -> QueueRow:
    """Of what `_queue_of` and `_ONE` give: what a `QueueRow` says, in its order, and then its reasons column-wise."""
    *plain, rules, sources, tiers, times = row
    reasons = zip(rules or (), sources or (), tiers or (), times or (), strict=True)
    return QueueRow._make((*plain, tuple(map(Reason._make, reasons))))


def _concerns(session: Session, alert_id: uuid.UUID) -> tuple[str, ...]:
    keys = sealing.keys(session)
    reasons = session.execute(
        select(AlertReason.sealed, AlertReason.source)
        .where(AlertReason.district_id == keys.district_id, AlertReason.alert_id == alert_id)
        .where(access.of_scope(session, AlertReason.school_id))
        .order_by(AlertReason.noticed_at)
    )
    return tuple(keys.open_text(reason.sealed, reason.source) for reason in reasons if reason.sealed is not None)
