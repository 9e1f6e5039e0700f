"""What students and guardians may ask for as of right: to see, copy, correct or delete, and that a person looks again.

Each request is answered in writing, granted or refused with the reason, by somebody who may decide it, by a day.
What is corrected is added and overwrites nothing; what is deleted goes the way of every erasure, which an open red
holds up.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit, erasure, sealing, students
from screening.errors import Conflict, NotFound, Refused
from screening.models import RightsRequest

KINDS = ("see", "copy", "correct", "delete", "review")
ASKING = frozenset({"student", "guardian"})
DECIDING: Mapping[str, frozenset[str]] = {
    "see": frozenset({"lead", "privacy_officer"}),
    "copy": frozenset({"lead", "privacy_officer"}),
    "correct": frozenset({"lead", "privacy_officer"}),
    "delete": frozenset({"privacy_officer"}),
    "review": frozenset({"lead"}),
}
"""Whose word it takes: a person looks again who cares for students; what is gone for good is not decided at school."""
DECIDERS = frozenset().union(*DECIDING.values())
PARTS = ("identity", "consents", "rounds", "answers", "results", "readings")
"""What may be shown: who one is, what was decided, when one took part, one's answers, what they came to, who looked."""
NOT_FOR_GUARDIANS = frozenset({"answers"})
"""What a child answered is talked about by the counselor, not handed over."""
ANSWER_WITHIN = dt.timedelta(days=15)
"""Our own promise: the laws say in time, and name no number of days."""
COPY_LASTS = dt.timedelta(days=30)


def ask(
    session: Session,
    student_id: uuid.UUID,
    kind: str,
    words: str,
    *,
    asked_as: str,
    by: access.Actor,
    now: dt.datetime,
) -> RightsRequest:
    """Writes a request down. Whoever asks again while it waits gets the same one.

    Raises NotFound for a student out of scope.
    """
    school_id = students.school_of(session, student_id)
    waiting = session.scalars(
        select(RightsRequest).where(
            RightsRequest.district_id == access.scope_of(session).district_id,
            RightsRequest.student_id == student_id,
            RightsRequest.kind == kind,
            RightsRequest.asked_as == asked_as,
            RightsRequest.state == "waiting",
        )
    ).one_or_none()
    if waiting is not None:
        return waiting
    made = RightsRequest(
        district_id=access.scope_of(session).district_id,
        id=uuid.uuid4(),
        student_id=student_id,
        school_id=school_id,
        kind=kind,
        state="waiting",
        asked_as=asked_as,
        asked_by=by.person,
        asked_at=now,
        due_at=now + ANSWER_WITHIN,
    )
    made.sealed_words = sealing.keys(session).seal_text(words, _place(made.id, "words"))
    session.add(made)
    session.flush()
    audit.record(session, by, "rights.asked", "student", student_id, request=str(made.id), kind=kind)
    return made


def decide(
    session: Session,
    request_id: uuid.UUID,
    *,
    is_granted: bool,
    answer: str,
    parts: Collection[str] = (),
    extent: str | None = None,
    by: access.Actor,
    now: dt.datetime,
) -> RightsRequest:
    """The answer in writing, and what follows from it: a copy may be had for a while, or an erasure is queued.

    Raises NotFound for a request that is not theirs to decide, Conflict when it is decided, Refused when `parts` (to
    see or copy) or `extent` (to delete) is missing (`parts_missing`, `extent_missing`) or is not for a guardian.
    """
    found = get(session, request_id)
    if not by.has(*DECIDING[found.kind], school_id=found.school_id):
        raise NotFound("There is no such request.")
    if found.state != "waiting":
        raise Conflict(f"This is {found.state} already.", code="decided")
    sealed = sealing.keys(session).seal_text(answer, _place(found.id, "answer"))
    if is_granted:
        _grant(session, found, parts, extent, by=by, now=now)
    found.state = "granted" if is_granted else "refused"
    found.decided_by, found.decided_at, found.sealed_answer = by.person, now, sealed
    session.flush()
    audit.record(
        session, by, "rights.decided", "student", found.student_id,
        request=str(found.id), kind=found.kind, state=found.state,
    )  # fmt: skip
    return found


def get(session: Session, request_id: uuid.UUID) -> RightsRequest:
    """Raises NotFound for a request out of scope."""
    found = session.get(RightsRequest, (access.scope_of(session).district_id, request_id))
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such request.")
    return found


def listed(
    session: Session,
    *,
    state: str | None = None,
    after: tuple[dt.datetime, uuid.UUID] | None = None,
    limit: int = 50,
) -> Sequence[RightsRequest]:
    """Requests of the scope's schools, the first due first."""
    wanted = select(RightsRequest).where(
        RightsRequest.district_id == access.scope_of(session).district_id,
        access.of_scope(session, RightsRequest.school_id),
    )
    if state is not None:
        wanted = wanted.where(RightsRequest.state == state)
    if after is not None:
        due_at, last = after
        later = RightsRequest.due_at > due_at
        wanted = wanted.where(later | ((RightsRequest.due_at == due_at) & (RightsRequest.id > last)))
    return session.scalars(wanted.order_by(RightsRequest.due_at, RightsRequest.id).limit(limit)).all()


def of_student(session: Session, student_id: uuid.UUID, *, asked_as: str) -> Sequence[RightsRequest]:
    """What a student, or a guardian for them, has asked for, the latest first."""
    return session.scalars(
        select(RightsRequest)
        .where(
            RightsRequest.district_id == access.scope_of(session).district_id,
            RightsRequest.student_id == student_id,
            RightsRequest.asked_as == asked_as,
        )
        .order_by(RightsRequest.asked_at.desc(), RightsRequest.id)
    ).all()


def open_copy(session: Session, student_id: uuid.UUID, *, asked_as: str, now: dt.datetime) -> RightsRequest:
    """The request by which a copy may be had now. Raises NotFound when none was granted, or its time is over."""
    for found in of_student(session, student_id, asked_as=asked_as):
        if found.state == "granted" and found.until_at is not None and found.until_at > now:
            return found
    raise NotFound("There is no copy to be had: ask for one first.")


def words_of(session: Session, found: RightsRequest) -> tuple[str | None, str | None]:
    """What was asked, and what was answered; None for what is not there or was erased."""
    keys = sealing.keys(session)
    asked = keys.open_text(found.sealed_words, _place(found.id, "words")) if found.sealed_words else None
    answer = keys.open_text(found.sealed_answer, _place(found.id, "answer")) if found.sealed_answer else None
    return asked, answer


def overdue(session: Session, *, now: dt.datetime) -> int:
    """How many wait beyond their day."""
    wanted = {"district": access.scope_of(session).district_id, "now": now}
    return int(session.execute(_OVERDUE, wanted).scalar_one())


def _grant(
    session: Session,
    found: RightsRequest,
    parts: Collection[str],
    extent: str | None,
    *,
    by: access.Actor,
    now: dt.datetime,
) -> None:
    if found.kind in ("see", "copy"):
        if not parts:
            raise Refused("Say which parts are shown.", code="parts_missing")
        if found.asked_as == "guardian" and NOT_FOR_GUARDIANS & set(parts):
            raise Refused("What a child answered is talked about, not handed over.", code="not_for_guardians")
        found.parts, found.until_at = [part for part in PARTS if part in parts], now + COPY_LASTS
    if found.kind == "delete":
        if extent is None:
            raise Refused("Say whether the answers are erased or the whole person.", code="extent_missing")
        found.extent = extent
        erasure.ask(session, [found.student_id], extent, "request", by=by, now=now)


def _place(request_id: uuid.UUID, part: str) -> str:
    return f"rights_request/{request_id}/{part}"


_OVERDUE = text(
    "select count(*) from rights_requests where district_id = :district and state = 'waiting' and due_at < :now"
)
