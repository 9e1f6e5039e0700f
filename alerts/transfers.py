"""A case goes from one school to another: proposed, taken over or declined, and watched until one of them has it.

The new school gets the case, its open contacts, referrals and plan, and the summary that the old one wrote for it.
Everything else that was said stays sealed with the old school.
"""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import cases, following, plans, tying
from alerts.following import OPEN
from alerts.models import Case, Transfer
from screening import access, audit
from screening.errors import Conflict, NotFound, Refused
from screening.models import School, Student

DECLINED_REASONS = ("not_here", "wrong_student", "summary_missing")
"""Why a school does not take a case over. None of them ends it: it stays with the old school, which hears at once."""


@dataclass(frozen=True)
class Promise:
    """A contact that is promised in a case on its way."""

    mode: str
    due_at: dt.datetime
    state: str


@dataclass(frozen=True)
class Handover:
    """A transfer as both schools see it; `tier` is the highest that is known by now."""

    transfer: Transfer
    tier: int
    promises: tuple[Promise, ...]

    def is_late(self, now: dt.datetime) -> bool:
        return (
            self.transfer.state == "waiting" and self.transfer.accept_by is not None and self.transfer.accept_by < now
        )


def propose(
    session: Session, case_id: uuid.UUID, to_school_id: uuid.UUID, summary: str, *, by: access.Actor, now: dt.datetime
) -> Transfer:
    """Hands a case to another school, or writes the summary for one that is on its way there already.

    Until the student stands on that school's list the transfer is only announced, and no clock runs against it.
    """
    case = cases.working(session, case_id, by)
    if to_school_id == case.school_id or session.get(School, (case.district_id, to_school_id)) is None:
        raise Refused("Name another school of the district.", code="unknown_school")
    standing = _open_of(session, case)
    if standing is not None and standing.to_school_id != to_school_id:
        raise Conflict("This case is on its way to another school; take that back first.", code="transfer_open")
    made = standing or _made(session, case, to_school_id, by, now)
    made.sealed_summary = following.seal(session, made.id, cases.required(summary))
    session.add(made)
    session.flush()
    audit.record(session, by, "transfer.proposed", "transfer", made.id, case=str(case.id), tier=made.tier)
    if standing is None:
        following.tell(session, made, [made.from_school_id, made.to_school_id], f"proposed/{now.isoformat()}", now)
    return made


def accept(session: Session, transfer_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Case:
    """The new school takes the case over: it and what is open in it are that school's from now on."""
    seen = get(session, transfer_id)
    cases.require(by, cases.CARING, seen.to_school_id)
    if seen.case_id is None:
        raise Conflict("An alert without a case has gone along already; nothing has to be taken over.")
    with access.widened(session, [seen.from_school_id]):
        alert, case = cases.held_with_alert(session, seen.case_id)
        found = _held(session, transfer_id)
        if found.state == "accepted" and found.answered_by == by.person:
            return case
        _must_wait(found)
        if _school_of(session, case.student_id) != found.to_school_id:
            raise Refused("The student does not stand on your school's list yet.", code="student_not_here")
        if alert is not None and alert.state == "triaged":
            alert.owner_id = by.person
        _take_over(session, case, found, max(found.tier, alert.tier if alert else 0), by, now)
        found.state, found.answered_by, found.answered_at = "accepted", by.person, now
        tying.follow(session, [case.student_id], by, now)
    audit.record(session, by, "transfer.accepted", "transfer", found.id, case=str(case.id), tier=case.tier)
    following.tell(session, found, [found.from_school_id], "accepted", now)
    return case


def decline(
    session: Session, transfer_id: uuid.UUID, reason: str, words: str, *, by: access.Actor, now: dt.datetime
) -> Transfer:
    """The new school does not take the case over, and says why; the old one keeps it and hears of it at once."""
    if reason not in DECLINED_REASONS:
        raise Refused(f"A case is declined for one of these: {', '.join(DECLINED_REASONS)}.", code="unknown_reason")
    found = _held(session, transfer_id)
    cases.require(by, cases.CARING, found.to_school_id)
    if found.state == "declined" and found.answered_by == by.person:
        return found
    _must_wait(found, *OPEN)
    found.state, found.declined_reason, found.answered_by, found.answered_at = "declined", reason, by.person, now
    found.sealed_answer = following.seal(session, found.id, cases.required(words))
    session.flush()
    audit.record(session, by, "transfer.declined", "transfer", found.id, reason=reason)
    following.tell(session, found, [found.from_school_id], "declined", now)
    return found


def withdraw(session: Session, transfer_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> Transfer:
    """The old school takes back what it only announced; where the student has gone already, the case has to follow."""
    found = _held(session, transfer_id)
    cases.require(by, cases.CARING, found.from_school_id)
    if found.state == "withdrawn" and found.answered_by == by.person:
        return found
    if found.state == "waiting":
        raise Refused("The student stands on the other school's list; the case has to follow.", code="student_gone")
    _must_wait(found, "announced")
    found.state, found.answered_by, found.answered_at = "withdrawn", by.person, now
    session.flush()
    audit.record(session, by, "transfer.withdrawn", "transfer", found.id)
    return found


def get(session: Session, transfer_id: uuid.UUID) -> Transfer:
    """The transfer, for either of its schools. Raises NotFound."""
    found = session.get(Transfer, (access.scope_of(session).district_id, transfer_id), populate_existing=True)
    if found is None or not _is_between(session, found):
        raise NotFound("There is no such transfer.")
    return found


def shown(session: Session, transfer_id: uuid.UUID) -> Handover:
    """One transfer with what waits in its case. Raises NotFound."""
    return _with_promises(session, [get(session, transfer_id)])[0]


def listed(
    session: Session,
    *,
    states: Sequence[str] | None = None,
    after: tuple[int, dt.datetime, uuid.UUID] | None = None,
    limit: int = 50,
) -> list[Handover]:
    """Transfers to and from the schools of the scope in these states (those that wait): gravest first, then oldest."""
    wanted = select(Transfer).where(
        Transfer.district_id == access.scope_of(session).district_id,
        Transfer.state.in_(states or OPEN),
        access.of_scope(session, Transfer.from_school_id) | access.of_scope(session, Transfer.to_school_id),
    )
    if after is not None:
        tier, at, last = after
        wanted = wanted.where(
            (Transfer.tier < tier)
            | ((Transfer.tier == tier) & (Transfer.proposed_at > at))
            | ((Transfer.tier == tier) & (Transfer.proposed_at == at) & (Transfer.id > last))
        )
    order = (Transfer.tier.desc(), Transfer.proposed_at, Transfer.id)
    return _with_promises(session, session.scalars(wanted.order_by(*order).limit(limit)).all())


# -- steps --------------------------------------------------------------------------------------------

_FOLLOW_UPS = text(
    "update follow_ups set school_id = :to where district_id = :district and case_id = :case"
    " and state in ('planned', 'due', 'overdue')"
)
_REFERRALS = text(
    "update referrals set school_id = :to where district_id = :district and case_id = :case"
    " and state in ('sent', 'accepted', 'refused')"
)


def _take_over(session: Session, case: Case, found: Transfer, tier: int, by: access.Actor, now: dt.datetime) -> None:
    cases.go_on(session, case, by=by, now=now)
    cases.tell(session, case, "transfer/left", by, now)
    where = {"district": case.district_id, "case": case.id, "to": found.to_school_id}
    for statement in (_FOLLOW_UPS, _REFERRALS):
        session.execute(statement, where)
    case.school_id, case.owner_id, case.tier = found.to_school_id, by.person, max(case.tier, tier)
    session.flush()
    plans.carry_over(session, case, by=by, now=now)
    summary = following.unseal(session, found.id, found.sealed_summary)
    cases.tell(session, case, "transfer/arrived", by, now, summary)


def _made(session: Session, case: Case, to_school_id: uuid.UUID, by: access.Actor, now: dt.datetime) -> Transfer:
    with access.widened(session, [to_school_id]):
        is_there = _school_of(session, case.student_id) == to_school_id
        alert = session.execute(_ALERT, {"district": case.district_id, "student": case.student_id}).one_or_none()
    tier = max(case.tier, alert.tier if alert else 0)
    has_self_harm, round_id = (alert.has_self_harm, alert.round_id) if alert else (False, None)
    clock = following.accept_by(session, tier, has_self_harm, round_id, to_school_id, now)
    return Transfer(
        district_id=case.district_id,
        id=uuid.uuid4(),
        student_id=case.student_id,
        case_id=case.id,
        from_school_id=case.school_id,
        to_school_id=to_school_id,
        tier=tier,
        state="waiting" if is_there else "announced",
        proposed_by=by.person,
        proposed_at=now,
        accept_by=clock if is_there else None,
    )


_ALERT = text(
    "select tier, has_self_harm, round_id from alerts where district_id = :district and student_id = :student"
    " and closed_at is null"
)


def _school_of(session: Session, student_id: uuid.UUID) -> uuid.UUID | None:
    return session.scalar(
        select(Student.school_id).where(
            Student.district_id == access.scope_of(session).district_id, Student.id == student_id
        )
    )


def _open_of(session: Session, case: Case) -> Transfer | None:
    return session.scalars(
        select(Transfer)
        .where(Transfer.district_id == case.district_id, Transfer.case_id == case.id, Transfer.state.in_(OPEN))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _held(session: Session, transfer_id: uuid.UUID) -> Transfer:
    found = session.scalars(
        select(Transfer)
        .where(Transfer.district_id == access.scope_of(session).district_id, Transfer.id == transfer_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None or not _is_between(session, found):
        raise NotFound("There is no such transfer.")
    return found


def _is_between(session: Session, found: Transfer) -> bool:
    """Whether the scope has one of its two schools."""
    return access.reaches(session, found.from_school_id) or access.reaches(session, found.to_school_id)


def _must_wait(found: Transfer, *states: str) -> None:
    if found.state in (states or ("waiting",)):
        return
    if found.state == "announced":
        raise Refused("The student does not stand on your school's list yet.", code="student_not_here")
    if found.answered_by is not None and found.answered_at is not None:
        raise cases.TakenByAnother(f"This transfer was {found.state}", found.answered_by, found.answered_at)
    raise Conflict(f"This transfer waits no more: it is {found.state}.", code="transfer_over")


# -- what both see ------------------------------------------------------------------------------------

_TIERS = text(
    "select c.id, greatest(c.tier, a.tier) as tier from cases c left join alerts a"
    " on a.district_id = c.district_id and a.student_id = c.student_id and a.closed_at is null"
    " where c.district_id = :district and c.id = any(:cases)"
)
_PROMISES = text(
    "select case_id, mode, due_at, state from follow_ups where district_id = :district and case_id = any(:cases)"
    " and state in ('planned', 'due', 'overdue') order by due_at"
)


def _with_promises(session: Session, found: Collection[Transfer]) -> list[Handover]:
    """What waits in a case on its way: when and how, and nothing that was said."""
    about = {
        "district": access.scope_of(session).district_id,
        "cases": [each.case_id for each in found if each.case_id is not None and each.state in OPEN],
    }
    promises: dict[uuid.UUID, list[Promise]] = defaultdict(list)
    with access.widened(session, {school for each in found for school in (each.from_school_id, each.to_school_id)}):
        tiers = {row.id: row.tier for row in session.execute(_TIERS, about)}
        for row in session.execute(_PROMISES, about):
            promises[row.case_id].append(Promise(row.mode, row.due_at, row.state))
    return [
        Handover(
            each, max(each.tier, tiers.get(each.case_id, 0)), tuple(promises[each.case_id] if each.case_id else ())
        )
        for each in found
    ]
