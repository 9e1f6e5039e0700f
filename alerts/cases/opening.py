"""The student's open concern: opened or joined, noted, raised."""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from alerts import routing
from alerts.cases.closing import go_on
from alerts.cases.holding import CARING, get, held, refuse_recused, require, required, tell, working
from alerts.models import Case, CaseEntry
from screening import access, audit, same_child
from screening.errors import Conflict, Refused

HANDED_OVER = ("absent", "conflict", "workload", "left")
"""Why somebody else owns a case from now on."""


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
    """The student's open case: a new one, or the one there is, raised to this tier. Two at once get the same case.

    Where the same child has one open at this school under another row, that one is joined.
    """
    require(by, CARING, school_id)
    for _ in range(3):  # the case that stood in the way may be closed before it can be joined
        theirs = _open_case_of_same_child(session, student_id, school_id)
        if theirs is not None:
            return _join(session, theirs, tier, by, now)
        made = _insert(session, student_id, school_id, tier, owner, by, now, prior_case)
        if made is not None:
            audit.record(session, by, "case.opened", "case", made.id, tier=tier, prior=str(made.prior_case_id or ""))
            return made
        standing = _open_case_of(session, student_id)
        if standing is not None:
            return _join(session, standing, tier, by, now)
    raise Conflict(
        "Another school still holds an open case of this student: take it over first (/v1/transfers).",
        code="case_elsewhere",
    )


def listed(
    session: Session,
    *,
    states: Sequence[str] | None = None,
    school_id: uuid.UUID | None = None,
    after: uuid.UUID | None = None,
    limit: int = 50,
) -> list[Case]:
    """Cases in these states (all that are not closed, when none are named), the most serious and oldest first."""
    wanted = select(Case).where(
        Case.district_id == access.scope_of(session).district_id, access.of_scope(session, Case.school_id)
    )
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


def note(session: Session, case_id: uuid.UUID, words: str, *, by: access.Actor, now: dt.datetime) -> CaseEntry:
    """A line in the case's story, sealed."""
    case = working(session, case_id, by)
    entry = tell(session, case, "note", by, now, required(words))
    audit.record(session, by, "case.noted", "case", case.id, entry=str(entry.id))
    return entry


def raise_tier(session: Session, case_id: uuid.UUID, tier: int, *, by: access.Actor, now: dt.datetime) -> Case:
    """Raises a case at once; the same tier changes nothing and a lower one is refused."""
    case = working(session, case_id, by)
    if tier < case.tier:
        raise Refused("A tier is never lowered here.", code="tier_lowered")
    return _raised(session, case, tier, by, now)


def hand_over(
    session: Session, case_id: uuid.UUID, owner: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime
) -> Case:
    """Another counselor or lead of the school owns the case from now on, with every clock as it runs."""
    if reason not in HANDED_OVER:
        raise Refused(f"A case is handed over for one of these: {', '.join(HANDED_OVER)}.", code="unknown_reason")
    case = working(session, case_id, by)
    rota = routing.rota(session, now=now)
    if owner not in {each for role in CARING for each in rota.holding(role, case.school_id)}:
        raise Refused("The new owner has to be a counselor or the lead of this school.", code="unknown_owner")
    refuse_recused(session, access.Actor(None, by.district_id, staff_id=owner), case.student_id)
    return give_to(session, case_id, owner, reason, by=by, now=now)


def give_to(
    session: Session, case_id: uuid.UUID, owner: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime
) -> Case:
    """Writes the new owner down; who may has been asked before."""
    case = held(session, case_id)
    if case.owner_id == owner:
        return case
    case.owner_id = owner
    tell(session, case, f"handed_over/{reason}", by, now)
    audit.record(session, by, "case.handed_over", "case", case.id, to=str(owner), reason=reason)
    return case


_PRIOR_CASE = text(
    "select id from cases where district_id = :district and student_id = :student and state = 'closed'"  # noqa: S608 - our own SQL
    f" and {access.within('school_id')}"
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
    about = {"district": district_id, "student": student_id, "schools": access.schools_of(session)}
    prior = prior_case or session.scalar(_PRIOR_CASE, about)
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
            access.of_scope(session, Case.school_id),
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one_or_none()


_OF_SAME_CHILD = text(
    f"select c.id from {same_child.OTHERS} o join cases c on c.district_id = :district and c.student_id = o.other_id"  # noqa: S608 - our own SQL
    " and c.state <> 'closed' and c.school_id = :school where o.student_id = :student and not exists"
    " (select from cases own where own.district_id = :district and own.student_id = :student and own.state <> 'closed')"
    " order by c.tier desc, c.opened_at, c.id limit 1 for no key update of c"
)


def _open_case_of_same_child(session: Session, student_id: uuid.UUID, school_id: uuid.UUID) -> Case | None:
    about = {"district": access.scope_of(session).district_id, "student": student_id, "school": school_id}
    found = session.scalar(_OF_SAME_CHILD, about)
    return None if found is None else held(session, found)


def _join(session: Session, case: Case, tier: int, by: access.Actor, now: dt.datetime) -> Case:
    """A further signal in a case that is open; what somebody thought finished goes on."""
    go_on(session, case, by=by, now=now)
    tell(session, case, "joined", by, now)
    audit.record(session, by, "case.joined", "case", case.id, tier=tier)
    return _raised(session, case, tier, by, now)


def _raised(session: Session, case: Case, tier: int, by: access.Actor, now: dt.datetime) -> Case:
    if tier > case.tier:
        case.tier = tier
        tell(session, case, f"raised_to_{tier}", by, now)
        audit.record(session, by, "case.raised", "case", case.id, tier=tier)
    session.flush()
    return case
