"""The student's open concern: open or join, note, raise, propose and confirm its end; and its story."""

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from alerts import routing
from alerts.models import Alert, Case, CaseEntry, Closure, FollowUp, Interview, Triage
from screening import access, audit, sealing
from screening.errors import Conflict, NotFound, Problem, Refused

CARING = ("counselor", "lead")
"""Who works in a case, and who may be the second person that ends one."""


class TakenByAnother(Conflict):
    """Somebody else was faster; `winner` says who and `at` when."""

    code = "taken_by_another"

    def __init__(self, done: str, winner: uuid.UUID, at: dt.datetime) -> None:
        super().__init__(f"{done} by {winner} at {at.isoformat()}.")
        self.winner = winner
        self.at = at


def require(by: access.Actor, roles: Sequence[str], school_id: uuid.UUID | None) -> None:
    """That one of these roles is held at this school. Forbidden looks like absent."""
    if not by.has(*roles, school_id=school_id):
        raise NotFound("There is nothing of that kind for you here.")


def require_second_person(by: access.Actor, first: uuid.UUID) -> None:
    if by.person == first:
        raise Refused("A second person has to confirm this; you proposed it.", code="second_person")


def open(
    session: Session,
    student_id: uuid.UUID,
    school_id: uuid.UUID,
    tier: int,
    owner: uuid.UUID,
    *,
    by: access.Actor,
    now: dt.datetime,
    prior_case: uuid.UUID | None = None,
) -> Case:
    """The student's open case: a new one, or the one there is, raised to this tier. Two at once get the same case."""
    require(by, CARING, school_id)
    for _ in range(3):  # the case that stood in the way may be closed before it can be joined
        made = _insert(session, student_id, school_id, tier, owner, by, now, prior_case)
        if made is not None:
            audit.record(session, by, "case.opened", "case", made.id, tier=tier, prior=str(made.prior_case_id or ""))
            return made
        standing = _open_case_of(session, student_id)
        if standing is not None:
            return _join(session, standing, tier, by, now)
    raise Conflict("Another school still holds an open case of this student; its counselor has to transfer it.")


def get(session: Session, case_id: uuid.UUID) -> Case:
    """The case as it stands. Raises NotFound."""
    return _case(session, case_id, is_locked=False)


def listed(
    session: Session,
    *,
    states: Sequence[str] | None = None,
    school_id: uuid.UUID | None = None,
    after: uuid.UUID | None = None,
    limit: int = 50,
) -> list[Case]:
    """Cases in these states (all that are not closed, when none are named), the most serious and oldest first."""
    wanted = select(Case).where(Case.district_id == access.scope_of(session).district_id)
    wanted = wanted.where(Case.state.in_(states) if states else Case.state != "closed")
    if school_id is not None:
        wanted = wanted.where(Case.school_id == school_id)
    if after is not None:
        last = get(session, after)
        wanted = wanted.where(
            (Case.tier < last.tier)
            | ((Case.tier == last.tier) & (Case.opened_at > last.opened_at))
            | ((Case.tier == last.tier) & (Case.opened_at == last.opened_at) & (Case.id > last.id))
        )
    return list(session.scalars(wanted.order_by(Case.tier.desc(), Case.opened_at, Case.id).limit(limit)))


def working(session: Session, case_id: uuid.UUID, by: access.Actor) -> Case:
    """The case, held against others until the end of the transaction, for somebody who works in it.

    Raises NotFound, or Refused when it has ended.
    """
    case = _case(session, case_id, is_locked=True)
    require(by, CARING, case.school_id)
    if case.state == "closed":
        raise Refused("This case is closed; a new alert opens a new one.", code="case_closed")
    return case


def note(session: Session, case_id: uuid.UUID, words: str, *, by: access.Actor, now: dt.datetime) -> CaseEntry:
    """A line in the case's story, sealed."""
    case = working(session, case_id, by)
    entry = _tell(session, case, "note", by, now, required(words))
    audit.record(session, by, "case.noted", "case", case.id, entry=str(entry.id))
    return entry


def raise_tier(session: Session, case_id: uuid.UUID, tier: int, *, by: access.Actor, now: dt.datetime) -> Case:
    """Raises a case at once; the same tier changes nothing and a lower one is refused."""
    case = working(session, case_id, by)
    if tier < case.tier:
        raise Refused("A tier is never lowered here.", code="tier_lowered")
    return _raised(session, case, tier, by, now)


def propose_closure(
    session: Session, case_id: uuid.UUID, reason: str, words: str, *, by: access.Actor, now: dt.datetime
) -> Closure:
    """Ends a mild case; proposes the end of a serious one (the policy says from which tier), for a second person.

    Raises Refused with everything that stands in the way.
    """
    alert_tier, case = _held_with_alert(session, case_id)
    require(by, CARING, case.school_id)
    rule = routing.policy_of_student(session, case.student_id).closure
    if reason not in rule.reasons:
        raise Refused(f"A case ends for one of these reasons: {', '.join(rule.reasons)}.", code="unknown_reason")
    if case.state in ("closed", "closure_proposed"):
        return _standing_closure(session, case, by)
    _refuse_obstacles(session, case)
    closure_id = uuid.uuid4()
    closure = Closure(
        district_id=case.district_id,
        id=closure_id,
        case_id=case.id,
        school_id=case.school_id,
        reason=reason,
        sealed_note=seal(session, case.id, closure_id, required(words)),
        proposed_by=by.person,
        proposed_at=now,
    )
    session.add(closure)
    if max(case.tier, alert_tier) >= rule.second_person_from:
        case.state = "closure_proposed"
        audit.record(session, by, "case.closure_proposed", "case", case.id, reason=reason, tier=case.tier)
    else:
        _end(session, case, reason, by, now)
    session.flush()
    return closure


def confirm_closure(session: Session, case_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Closure:
    """Ends a case that somebody else proposed to end; whatever has come up since then stands in the way."""
    _, case = _held_with_alert(session, case_id)
    require(by, CARING, case.school_id)
    closure = _latest_closure(session, case)
    if case.state == "closed" and closure is not None and closure.confirmed_by and closure.confirmed_at:
        if closure.confirmed_by == by.person:
            return closure
        raise TakenByAnother("This end was confirmed", closure.confirmed_by, closure.confirmed_at)
    if case.state != "closure_proposed" or closure is None:
        raise Conflict("Nobody proposes to end this case now.")
    require_second_person(by, closure.proposed_by)
    _refuse_obstacles(session, case)
    closure.confirmed_by, closure.confirmed_at = by.person, now
    _end(session, case, closure.reason, by, now)
    return closure


def reject_closure(session: Session, case_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Closure:
    """Lets a case go on that somebody proposed to end (its proposer may take it back too)."""
    case = working(session, case_id, by)
    closure = _latest_closure(session, case)
    if case.state != "closure_proposed" or closure is None:
        raise Conflict("Nobody proposes to end this case now.")
    _reject(session, case, closure, by, now)
    return closure


# -- the story ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One thing that happened in a case; `words` are opened from their seal."""

    at: dt.datetime
    kind: str
    subject_id: uuid.UUID
    by: uuid.UUID | None
    words: str | None = None


@dataclass(frozen=True)
class Story:
    case: Case
    lines: tuple[Line, ...]
    triages: tuple[Triage, ...]
    interviews: tuple[Interview, ...]
    follow_ups: tuple[FollowUp, ...]
    closures: tuple[Closure, ...]


def story(session: Session, case_id: uuid.UUID) -> Story:
    """All that happened in a case in order of time. The door that shows it keeps account of the reading."""
    case = get(session, case_id)
    here = {"district_id": case.district_id, "case_id": case.id}
    entries = session.scalars(select(CaseEntry).filter_by(**here)).all()
    found = Story(
        case=case,
        lines=(),
        triages=tuple(session.scalars(select(Triage).filter_by(**here).order_by(Triage.proposed_at))),
        interviews=tuple(session.scalars(select(Interview).filter_by(**here).order_by(Interview.held_at))),
        follow_ups=tuple(session.scalars(select(FollowUp).filter_by(**here).order_by(FollowUp.due_at))),
        closures=tuple(session.scalars(select(Closure).filter_by(**here).order_by(Closure.proposed_at))),
    )
    lines = sorted([*_told(session, entries), *_lines(session, found)], key=lambda line: (line.at, line.kind))
    return Story(case, tuple(lines), found.triages, found.interviews, found.follow_ups, found.closures)


def seal(session: Session, case_id: uuid.UUID, subject_id: uuid.UUID, words: str) -> bytes:
    """Words of a case, bound to the row that they stand in."""
    return sealing.keys(session).seal_text(words, f"case/{case_id}/{subject_id}")


def unseal(session: Session, case_id: uuid.UUID, subject_id: uuid.UUID, sealed: bytes | None) -> str | None:
    return None if sealed is None else sealing.keys(session).open_text(sealed, f"case/{case_id}/{subject_id}")


def required(words: str) -> str:
    """Words that somebody has to write. Raises Refused for none."""
    if not words.strip():
        raise Refused("Say in a few words what was found.", code="note_missing")
    return words.strip()


def _told(session: Session, entries: Sequence[CaseEntry]) -> Iterator[Line]:
    for entry in entries:
        words = unseal(session, entry.case_id, entry.id, entry.sealed)
        yield Line(entry.at, entry.kind, entry.id, entry.by, words)


def _lines(session: Session, told: Story) -> Iterator[Line]:
    case = told.case
    yield Line(case.opened_at, "opened", case.id, case.opened_by)
    for triage in told.triages:
        words = sealing.keys(session).open_text(triage.sealed_note, f"alert/{triage.alert_id}/{triage.id}")
        yield Line(triage.proposed_at, f"triage/{triage.outcome}", triage.id, triage.proposed_by, words)
    for held in told.interviews:
        yield Line(held.held_at, "interview", held.id, held.by, unseal(session, case.id, held.id, held.sealed_note))
    for follow_up in told.follow_ups:
        yield Line(follow_up.planned_at, "follow_up/planned", follow_up.id, follow_up.planned_by)
        if follow_up.ended_at:
            words_of_end = unseal(session, case.id, follow_up.id, follow_up.sealed_note)
            kind = f"follow_up/{follow_up.state}"
            yield Line(follow_up.ended_at, kind, follow_up.id, follow_up.ended_by, words_of_end)
    for closure in told.closures:
        words_why = unseal(session, case.id, closure.id, closure.sealed_note)
        yield Line(closure.proposed_at, f"closure/{closure.reason}", closure.id, closure.proposed_by, words_why)
        if closure.confirmed_at:
            yield Line(closure.confirmed_at, "closure/confirmed", closure.id, closure.confirmed_by)


# -- opening and joining ------------------------------------------------------------------------------

_PRIOR_CASE = text(
    "select id from cases where district_id = :district and student_id = :student and state = 'closed'"
    " order by closed_at desc limit 1"
)


def _insert(
    session: Session,
    student_id: uuid.UUID,
    school_id: uuid.UUID,
    tier: int,
    owner: uuid.UUID,
    by: access.Actor,
    now: dt.datetime,
    prior_case: uuid.UUID | None,
) -> Case | None:
    district_id = access.scope_of(session).district_id
    prior = prior_case or session.scalar(_PRIOR_CASE, {"district": district_id, "student": student_id})
    return session.execute(
        postgresql.insert(Case)
        .values(
            district_id=district_id,
            id=uuid.uuid4(),
            student_id=student_id,
            school_id=school_id,
            tier=tier,
            owner_id=owner,
            opened_by=by.person,
            opened_at=now,
            prior_case_id=prior,
        )
        .on_conflict_do_nothing(index_elements=["district_id", "student_id"], index_where=text("state <> 'closed'"))
        .returning(Case)
    ).scalar_one_or_none()


def _open_case_of(session: Session, student_id: uuid.UUID) -> Case | None:
    return session.execute(
        select(Case)
        .where(
            Case.district_id == access.scope_of(session).district_id,
            Case.student_id == student_id,
            Case.state != "closed",
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one_or_none()


def _join(session: Session, case: Case, tier: int, by: access.Actor, now: dt.datetime) -> Case:
    """A further signal in a case that is open; what somebody thought finished goes on."""
    closure = _latest_closure(session, case)
    if case.state == "closure_proposed" and closure is not None:
        _reject(session, case, closure, by, now)
    _tell(session, case, "joined", by, now)
    audit.record(session, by, "case.joined", "case", case.id, tier=tier)
    return _raised(session, case, tier, by, now)


def _raised(session: Session, case: Case, tier: int, by: access.Actor, now: dt.datetime) -> Case:
    if tier > case.tier:
        case.tier = tier
        _tell(session, case, f"raised_to_{tier}", by, now)
        audit.record(session, by, "case.raised", "case", case.id, tier=tier)
    session.flush()
    return case


def _tell(
    session: Session, case: Case, kind: str, by: access.Actor, now: dt.datetime, words: str | None = None
) -> CaseEntry:
    entry_id = uuid.uuid4()
    entry = CaseEntry(
        district_id=case.district_id,
        id=entry_id,
        case_id=case.id,
        school_id=case.school_id,
        kind=kind,
        sealed=None if words is None else seal(session, case.id, entry_id, words),
        by=by.person,
        at=now,
    )
    session.add(entry)
    session.flush()
    return entry


# -- ending -------------------------------------------------------------------------------------------

_OBSTACLES = text(
    "select"
    " (select count(*) from interviews i where i.district_id = :district and i.case_id = :case"
    "   and i.is_student_seen) as seen,"
    " (select i.has_current_risk from interviews i where i.district_id = :district and i.case_id = :case"
    "   order by i.held_at desc, i.written_at desc limit 1) as is_at_risk,"
    " (select count(*) from follow_ups f where f.district_id = :district and f.case_id = :case"
    "   and f.state in ('planned', 'due', 'overdue')) as promised,"
    " (select count(*) from alerts a where a.district_id = :district and a.student_id = :student"
    "   and a.closed_at is null and a.state <> 'triaged') as unanswered"
)
_CLOSE_ALERTS = text(
    "update alerts set closed_at = :now where district_id = :district and student_id = :student"
    " and closed_at is null and state = 'triaged'"
)


def _refuse_obstacles(session: Session, case: Case) -> None:
    found = session.execute(
        _OBSTACLES, {"district": case.district_id, "case": case.id, "student": case.student_id}
    ).one()
    problems = []
    if not found.seen:
        problems.append(Problem("no_interview", "Nobody has written of an interview with the student."))
    if found.is_at_risk:
        problems.append(Problem("current_risk", "The latest interview found a current risk."))
    if found.promised:
        problems.append(Problem("follow_up_open", f"Follow-ups that are still promised: {found.promised}."))
    if found.unanswered:
        problems.append(Problem("alert_open", "The student has an alert that nobody has triaged yet."))
    if problems:
        raise Refused("This case cannot end yet.", code="cannot_close", problems=problems)


def _end(session: Session, case: Case, reason: str, by: access.Actor, now: dt.datetime) -> None:
    case.state, case.closed_at = "closed", now
    session.flush()
    session.execute(_CLOSE_ALERTS, {"now": now, "district": case.district_id, "student": case.student_id})
    audit.record(session, by, "case.closed", "case", case.id, reason=reason, tier=case.tier)


def _reject(session: Session, case: Case, closure: Closure, by: access.Actor, now: dt.datetime) -> None:
    closure.rejected_at = now
    promised = select(FollowUp.id).filter_by(district_id=case.district_id, case_id=case.id).limit(1)
    case.state = "open" if session.scalar(promised) is None else "follow_up"
    _tell(session, case, "closure_rejected", by, now)
    audit.record(session, by, "case.closure_rejected", "case", case.id)


def _standing_closure(session: Session, case: Case, by: access.Actor) -> Closure:
    """What the same person proposed already; another's proposal is a conflict."""
    closure = _latest_closure(session, case)
    if closure is None:
        raise Conflict("This case is closed already.")
    if closure.proposed_by != by.person:
        raise TakenByAnother("The end of this case was proposed", closure.proposed_by, closure.proposed_at)
    return closure


def _latest_closure(session: Session, case: Case) -> Closure | None:
    return session.scalars(
        select(Closure)
        .where(Closure.district_id == case.district_id, Closure.case_id == case.id, Closure.rejected_at.is_(None))
        .order_by(Closure.proposed_at.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _held_with_alert(session: Session, case_id: uuid.UUID) -> tuple[int, Case]:
    """The tier of the student's open alert (0: none) and the case, both held: the alert first, as triage does.

    One order for both, or somebody who triages and somebody who closes would wait for each other for ever.
    """
    student_id = get(session, case_id).student_id
    alert = session.scalars(
        select(Alert)
        .where(
            Alert.district_id == access.scope_of(session).district_id,
            Alert.student_id == student_id,
            Alert.closed_at.is_(None),
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    return (alert.tier if alert else 0), _case(session, case_id, is_locked=True)


def _case(session: Session, case_id: uuid.UUID, *, is_locked: bool) -> Case:
    wanted = (
        select(Case)
        .where(Case.district_id == access.scope_of(session).district_id, Case.id == case_id)
        .execution_options(populate_existing=True)
    )
    case = session.scalars(wanted.with_for_update(key_share=True) if is_locked else wanted).one_or_none()
    if case is None:
        raise NotFound("There is no such case.")
    return case
