"""The counselor's queue: who waits to be looked at, who answers, and what came of looking."""

import datetime as dt
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import cases, raising, routing
from alerts.models import Acknowledgement, Alert, AlertReason, Triage
from screening import access, audit, sealing, students
from screening.errors import Conflict, NotFound, Refused
from screening.results import Signal
from screening.statements import Statement

ANSWERING = ("counselor", "lead", "principal", "duty_officer")
"""Who may say "I am looking"; whoever else was told of an alert may say so too."""
CONFIRMING = ("lead", "counselor", "duty_officer")
"""Who may be the second person that ends an alert without a case."""
CONCERNED = (*ANSWERING, "class_teacher", "school_admin", "staff_member", "district_admin")
"""Who may raise a concern about a student."""
CONTACTS = ("none", "meeting", "home_visit", "video", "phone")
ENDING = ("monitor", "not_confirmed")
"""Outcomes without a case."""
PROPOSED = (*ENDING, "wrong_student")
"""Outcomes that wait for a second person's word."""
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


# -- answering ----------------------------------------------------------------------------------------

_CLAIM = text(
    "update alerts set state = 'acknowledged', owner_id = :by"
    " where district_id = :district and id = :id and state = 'new' and closed_at is null"
    " and school_id is not distinct from :school"  # it may go to another school while somebody answers
    " returning school_id, raised_at"
)


def acknowledge(session: Session, alert_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Acknowledgement:
    """ "I am looking": exactly one person takes a new alert and owns it; the same person twice is once.

    Raises TakenByAnother, which names the winner.
    """
    district_id = access.scope_of(session).district_id
    about = {"district": district_id, "id": alert_id, "school": _require_answering(session, alert_id, by)}
    claimed = session.execute(_CLAIM, about | {"by": by.person}).one_or_none()
    if claimed is None:
        return _standing_acknowledgement(session, alert_id, by)
    made = Acknowledgement(
        district_id=district_id,
        id=uuid.uuid4(),
        alert_id=alert_id,
        school_id=claimed.school_id,
        raised_at=claimed.raised_at,
        by=by.person,
        at=now,
    )
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.acknowledged", "alert", alert_id)
    return made


def triage(
    session: Session,
    alert_id: uuid.UUID,
    outcome: str,
    *,
    contact: str,
    is_student_seen: bool,
    words: str,
    by: access.Actor,
    now: dt.datetime,
    tier: int | None = None,
) -> Triage:
    """What came of looking: a case is opened or joined, or the alert ends as monitor or not_confirmed.

    Without a case an alert ends only after a contact with the student, and from the policy's tier on only after
    `confirm_triage` by a second person: until then it stays open. A tier may be raised here at once, never lowered.
    """
    held = _held(session, alert_id)
    cases.require(by, cases.CARING, held.school_id)
    cases.refuse_recused(session, by, held.student_id)
    _check_triage(held, outcome, contact, is_student_seen, tier)
    standing = _standing_triage(session, held, outcome, by)
    if standing is not None:
        return standing
    if held.state == "new":
        raise Refused("Acknowledge this alert first, so that others see who is looking.", code="not_acknowledged")
    _raise(session, held, tier, by, now)
    made = _triage(held, outcome, contact, is_student_seen, by, now)
    made.sealed_note = sealing.keys(session).seal_text(cases.required(words), f"alert/{held.id}/{made.id}")
    if outcome not in ENDING:
        _take_into_case(session, held, made, by, now)
    elif held.tier < _second_person_from(session, held):
        held.state, held.closed_at = "triaged", now
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.triaged", "alert", held.id, outcome=made.outcome, tier=held.tier)
    return made


def confirm_triage(session: Session, alert_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Triage:
    """The second person's word that an alert ends without a case. A signal since the proposal voids it."""
    held = _held(session, alert_id)
    cases.require(by, CONFIRMING, held.school_id)
    cases.refuse_recused(session, by, held.student_id)
    proposed = _latest_triage(session, held)
    if proposed is not None and proposed.confirmed_by is not None and proposed.confirmed_at is not None:
        if proposed.confirmed_by == by.person:
            return proposed
        raise cases.TakenByAnother("This was confirmed", proposed.confirmed_by, proposed.confirmed_at)
    if proposed is None or not _is_pending(held, proposed):
        raise Conflict("Nobody proposes to end this alert now; it may have been raised again.")
    cases.require_second_person(by, proposed.proposed_by)
    proposed.confirmed_by, proposed.confirmed_at = by.person, now
    held.state, held.closed_at = "triaged", now
    session.flush()
    audit.record(session, by, "alert.triage_confirmed", "alert", held.id, outcome=proposed.outcome, tier=held.tier)
    return proposed


def identify(
    session: Session, alert_id: uuid.UUID, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime
) -> Triage:
    """An upload concern is this student's: its reasons go into the student's own alert, and it ends as merged."""
    held = _held(session, alert_id)
    school_id = students.school_of(session, student_id)
    cases.require(by, cases.CARING, school_id)
    if held.student_id is not None:
        raise Refused("This alert has its student already.", code="identified")
    if held.closed_at is not None:
        standing = _latest_triage(session, held)
        if standing is not None and standing.outcome == "merged" and standing.proposed_by == by.person:
            return standing
        raise _taken(standing)
    policy = routing.policies(session, [held.round_id])[held.round_id]
    raising.raise_alerts(session, _as_signals(session, held, student_id, school_id), now=now, policy=policy)
    made = _triage(held, "merged", "none", False, by, now)
    made.sealed_note = sealing.keys(session).seal_text("", f"alert/{held.id}/{made.id}")
    held.state, held.closed_at = "triaged", now
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.identified", "alert", held.id, student=str(student_id), tier=held.tier)
    return made


def misplace(
    session: Session, alert_id: uuid.UUID, student_id: uuid.UUID, words: str, *, by: access.Actor, now: dt.datetime
) -> Triage:
    """This alert is about the wrong student: the right one's alert rings at once, with every reason of it.

    The alert of the wrong one ends only on a second person's word (`confirm_triage`), whatever its tier; both stay.
    """
    held = _held(session, alert_id)
    school_id = students.school_of(session, student_id)
    for where in (held.school_id, school_id):
        cases.require(by, cases.CARING, where)
    cases.refuse_recused(session, by, held.student_id)
    if held.student_id is None or held.student_id == student_id:
        raise Refused("Name another student than the one whose alert this is.", code="same_student")
    if held.state != "acknowledged" or held.closed_at is not None:
        raise Conflict("Only an alert that somebody is looking at can be put right.", code="not_acknowledged")
    policy = routing.policies(session, [held.round_id])[held.round_id]
    raising.raise_alerts(session, _as_signals(session, held, student_id, school_id), now=now, policy=policy)
    made = _triage(held, "wrong_student", "none", False, by, now)
    made.sealed_note = sealing.keys(session).seal_text(cases.required(words), f"alert/{held.id}/{made.id}")
    session.add(made)
    session.flush()
    audit.record(session, by, "alert.misplaced", "alert", held.id, student=str(student_id), tier=held.tier)
    return made


def raise_concern(
    session: Session,
    student_id: uuid.UUID,
    tier: int,
    facts: str,
    *,
    by: access.Actor,
    now: dt.datetime,
    is_self_harm: bool = False,
) -> uuid.UUID:
    """What somebody observed becomes a reason of the student's open alert, which it opens or raises; returns its id."""
    if tier not in (1, 2, 3):
        raise Refused("A concern is yellow, orange or red.", code="unknown_tier")
    school_id = students.school_of(session, student_id)
    cases.require(by, CONCERNED, school_id)
    source = f"concern/{uuid.uuid4()}"
    signal = Signal(
        student_id=student_id,
        school_id=school_id,
        rule="concern_self_harm" if is_self_harm else "concern",
        tier=tier,
        is_self_harm=is_self_harm,
        source=source,
        sealed=sealing.keys(session).seal_text(cases.required(facts), source),
    )
    raising.raise_alerts(session, [signal], now=now, policy=routing.policy_of_student(session, student_id))
    with access.widened(session, None):  # it joins the student's alert, which may stand at the old school still
        alert_id: uuid.UUID = session.execute(
            select(AlertReason.alert_id).where(
                AlertReason.district_id == access.scope_of(session).district_id, AlertReason.source == source
            )
        ).scalar_one()
    audit.record(session, by, "concern.raised", "alert", alert_id, tier=tier, self_harm=is_self_harm)
    return alert_id


# -- reading ------------------------------------------------------------------------------------------


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


# -- checks and steps ---------------------------------------------------------------------------------

_WHO_MAY = text(
    "select a.school_id, exists (select from deliveries d where d.district_id = :district and d.subject = 'alert'"  # noqa: S608 - our own SQL
    f" and d.subject_id = a.id and d.recipient_id = :staff and {access.within('d.school_id')}) as was_told"
    " from alerts a where a.district_id = :district and a.id = :id"
)


def _require_answering(session: Session, alert_id: uuid.UUID, by: access.Actor) -> uuid.UUID | None:
    """The school at which this person may answer it."""
    parameters = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "id": alert_id,
        "staff": by.staff_id,
    }
    found = session.execute(_WHO_MAY, parameters).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such alert.")
    if not (found.was_told or by.has(*ANSWERING, school_id=found.school_id)):
        raise NotFound("There is no such alert.")
    school_id: uuid.UUID | None = found.school_id
    return school_id


def _standing_acknowledgement(session: Session, alert_id: uuid.UUID, by: access.Actor) -> Acknowledgement:
    latest = session.scalars(
        select(Acknowledgement)
        .where(
            Acknowledgement.district_id == access.scope_of(session).district_id, Acknowledgement.alert_id == alert_id
        )
        .where(access.of_scope(session, Acknowledgement.school_id))
        .order_by(Acknowledgement.raised_at.desc(), Acknowledgement.at.desc())
        .limit(1)
    ).one_or_none()
    if latest is None:
        raise Conflict("This alert is closed, or it has gone to another school with its student.")
    if latest.by != by.person:
        raise cases.TakenByAnother("This alert was acknowledged", latest.by, latest.at)
    return latest


def _held(session: Session, alert_id: uuid.UUID) -> Alert:
    """The alert, held against others until the end of the transaction."""
    found = session.scalars(
        select(Alert)
        .where(Alert.district_id == access.scope_of(session).district_id, Alert.id == alert_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such alert.")
    return found


def _check_triage(held: Alert, outcome: str, contact: str, is_student_seen: bool, tier: int | None) -> None:
    if outcome not in ("case_opened", "merged", *ENDING):
        raise Refused("The outcome is case_opened, merged, monitor or not_confirmed.", code="unknown_outcome")
    if contact not in CONTACTS:
        raise Refused(f"The contact is one of these: {', '.join(CONTACTS)}.", code="unknown_contact")
    if tier is not None and not held.tier <= tier <= 3:
        raise Refused("A tier may be raised here, never lowered.", code="tier_lowered")
    if held.student_id is None and outcome not in ENDING:
        raise Refused("Say first whose answers these are.", code="not_identified")
    if held.student_id is not None and outcome in ENDING and contact == "none" and not is_student_seen:
        raise Refused("An alert ends without a case only after a contact with the student.", code="no_contact")


def _standing_triage(session: Session, held: Alert, outcome: str, by: access.Actor) -> Triage | None:
    """What the same person did already; what another did is a conflict. None when there is work to do."""
    standing = _latest_triage(session, held)
    if held.state != "triaged" and (standing is None or not _is_pending(held, standing)):
        return None
    if held.state != "triaged" and outcome not in ENDING:
        return None  # opening a case is always possible, whatever somebody proposes
    if standing is None or standing.proposed_by != by.person:
        raise _taken(standing)
    is_same = standing.outcome == outcome or {standing.outcome, outcome} == {"case_opened", "merged"}
    if held.state == "triaged" and not is_same:
        raise _taken(standing)
    return standing if is_same else None


def _taken(standing: Triage | None) -> Conflict:
    if standing is None:
        return Conflict("This alert is closed.")
    return cases.TakenByAnother(
        f"This alert was triaged ({standing.outcome})", standing.proposed_by, standing.proposed_at
    )


def _latest_triage(session: Session, held: Alert) -> Triage | None:
    return session.scalars(
        select(Triage)
        .where(Triage.district_id == held.district_id, Triage.alert_id == held.id)
        .where(access.of_scope(session, Triage.school_id))
        .order_by(Triage.proposed_at.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _is_pending(held: Alert, proposed: Triage) -> bool:
    """Whether a proposal to end this alert waits for a second person, and nothing has come up since."""
    return (
        held.state == "acknowledged"
        and proposed.outcome in PROPOSED
        and proposed.confirmed_at is None
        and proposed.tier == held.tier
        and proposed.proposed_at >= held.raised_at
    )


def _as_signals(session: Session, held: Alert, student_id: uuid.UUID, school_id: uuid.UUID) -> list[Signal]:
    """Every reason of an alert as a signal about this student, at least as serious together as the alert itself."""
    wanted = select(AlertReason).filter_by(district_id=held.district_id, alert_id=held.id)
    reasons = list(session.scalars(wanted.where(access.of_scope(session, AlertReason.school_id))))
    return [
        Signal(
            student_id=student_id,
            school_id=school_id,
            rule=reason.rule,
            tier=reason.tier,
            is_self_harm=held.has_self_harm,
            source=reason.source,
            round_id=held.round_id,
            sealed=reason.sealed,
        )
        for reason in reasons
    ]


def _second_person_from(session: Session, held: Alert) -> int:
    return routing.policies(session, [held.round_id])[held.round_id].closure.second_person_from


def _raise(session: Session, held: Alert, tier: int | None, by: access.Actor, now: dt.datetime) -> None:
    """A person's judgement is a signal like any other: it stands among the reasons."""
    if tier is None or tier == held.tier:
        return
    held.tier = tier
    session.add(
        AlertReason(
            district_id=held.district_id,
            alert_id=held.id,
            rule="raised_at_triage",
            source=f"triage/{by.person}/{now.isoformat()}",
            school_id=held.school_id,
            tier=tier,
            noticed_at=now,
        )
    )


def _triage(
    held: Alert, outcome: str, contact: str, is_student_seen: bool, by: access.Actor, now: dt.datetime
) -> Triage:
    return Triage(
        district_id=held.district_id,
        id=uuid.uuid4(),
        alert_id=held.id,
        school_id=held.school_id,
        outcome=outcome,
        contact=contact,
        is_student_seen=is_student_seen,
        tier=held.tier,
        proposed_by=by.person,
        proposed_at=now,
    )


def _take_into_case(session: Session, held: Alert, made: Triage, by: access.Actor, now: dt.datetime) -> None:
    if held.student_id is None or held.school_id is None:
        raise Refused("Say first whose answers these are.", code="not_identified")
    case = cases.open(session, held.student_id, held.school_id, held.tier, held.owner_id or by.person, by=by, now=now)
    made.case_id = case.id
    made.outcome = "case_opened" if case.opened_at == now and case.opened_by == by.person else "merged"
    held.state = "triaged"
