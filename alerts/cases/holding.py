"""A case at hand: who may work in it, held against others, its words sealed, and how far it has come."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts.models import Alert, Case, CaseEntry
from screening import access, same_child, sealing
from screening.errors import Conflict, NotFound, Refused

CARING = ("counselor", "lead")
"""Who works in a case, and who may be the second person that ends one."""

COMES_FROM: Mapping[str, frozenset[str]] = {
    "assessing": frozenset({"open", "crisis"}),
    "conference": frozenset({"open", "assessing"}),
    "plan_active": frozenset({"open", "assessing", "conference", "referred"}),
    "referred": frozenset({"open", "assessing", "conference", "plan_active", "follow_up"}),
    "follow_up": frozenset({"open", "plan_active", "referred"}),
}
"""How far a case has come: each stage and those from which work leads to it; from others it does not move a case.

A new red makes any case that has not ended a `crisis`, until somebody has talked with the student. Leave and return,
the proposal of an end and the end itself have verbs of their own.
"""


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


def get(session: Session, case_id: uuid.UUID) -> Case:
    """The case as it stands. Raises NotFound."""
    return _case(session, case_id, is_locked=False)


def working(session: Session, case_id: uuid.UUID, by: access.Actor) -> Case:
    """The case, held against others until the end of the transaction, for somebody who works in it.

    Raises NotFound, or Refused when it has ended.
    """
    case = _case(session, case_id, is_locked=True)
    require(by, CARING, case.school_id)
    refuse_recused(session, by, case.student_id)
    if case.state == "closed":
        raise Refused("This case is closed; a new alert opens a new one.", code="case_closed")
    return case


def held(session: Session, case_id: uuid.UUID) -> Case:
    """The case, held against others until the end of the transaction. Raises NotFound."""
    return _case(session, case_id, is_locked=True)


def held_with_alert(session: Session, case_id: uuid.UUID) -> tuple[Alert | None, Case]:
    """The student's open alert, if there is one, and the case, both held: the alert first, as triage does.

    One order for both, or somebody who triages and somebody who closes would wait for each other for ever.
    """
    student_id = get(session, case_id).student_id
    alert = session.scalars(
        select(Alert)
        .where(
            Alert.district_id == access.scope_of(session).district_id,
            Alert.student_id == student_id,
            Alert.closed_at.is_(None),
            access.of_scope(session, Alert.school_id),
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    return alert, _case(session, case_id, is_locked=True)


def refuse_recused(session: Session, by: access.Actor, student_id: uuid.UUID | None) -> None:
    """That this person need not keep out of what is decided about this child. Raises Refused."""
    about = {"district": by.district_id, "student": student_id, "people": [by.staff_id, by.account_id]}
    if student_id is not None and session.execute(_IS_RECUSED, about).scalar():
        raise Refused("You keep out of what concerns this student; somebody else decides.", code="recused")


_IS_RECUSED = text(
    "select exists (select from recusals r where r.district_id = :district"  # noqa: S608 - our own SQL
    f" and r.student_id in {same_child.rows_of('cast(:student as uuid)')}"
    " and r.person_id = any(cast(:people as uuid[])))"
)


def advance(session: Session, case: Case, state: str) -> None:
    """Moves a case to a stage, if its present one leads there."""
    if case.state in COMES_FROM[state]:
        case.state = state
        session.flush()


def tell(
    session: Session, case: Case, kind: str, by: access.Actor, now: dt.datetime, words: str | None = None
) -> CaseEntry:
    """A line in the case's story, where the case stands now."""
    entry_id = uuid.uuid4()
    entry = CaseEntry(
        district_id=case.district_id,
        id=entry_id,
        case_id=case.id,
        school_id=case.school_id,
        kind=kind,
        sealed=None if words is None else seal(session, case.id, entry_id, words),
        by=by.staff_id or by.account_id,
        at=now,
    )
    session.add(entry)
    session.flush()
    return entry


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


def _case(session: Session, case_id: uuid.UUID, *, is_locked: bool) -> Case:
    wanted = (
        select(Case)
        .where(Case.district_id == access.scope_of(session).district_id, Case.id == case_id)
        .execution_options(populate_existing=True)
    )
    case = session.scalars(wanted.with_for_update(key_share=True) if is_locked else wanted).one_or_none()
    if case is None or not access.reaches(session, case.school_id):
        raise NotFound("There is no such case.")
    return case
