"""Who may see more than their role shows: assigned to a student, asked for and granted, or by breaking the glass.

What was asked for ends by itself. A broken glass is for a life or somebody's safety: it opens a contact, a tier and a
plan for four hours at most, tells others at once, and is looked into within two school days.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit, calendars, sealing, staff, students
from screening.errors import Conflict, NotFound, Refused
from screening.models import AccessRequest

KINDS = ("assignment", "request", "break_glass")
STATES = ("waiting", "granted", "refused", "ended")
ASKING = ("counselor", "lead")
GRANTING = ("lead", "privacy_officer")
"""Whose word lets somebody else see more; never one's own."""
BREAKING = ("lead", "principal", "duty_officer")
REVIEWING = ("privacy_officer",)
LONGEST = dt.timedelta(days=14)
LONGEST_GLASS = dt.timedelta(hours=4)
PROOF_LASTS = dt.timedelta(minutes=10)
"""How long ago the second factor may have been shown by whoever breaks the glass."""
REVIEW_SCHOOL_DAYS = 2
SHORTEST_REASON = 10
"""Signs without spaces: a dot is no reason."""


# -- assigned, or asked for ---------------------------------------------------------------------------


def assign(
    session: Session, student_id: uuid.UUID, person_id: uuid.UUID, reason: str, *, by: access.Actor, now: dt.datetime
) -> AccessRequest:
    """Makes somebody a counselor of this student until it is ended. The same again changes nothing.

    Raises NotFound for a student or a person who is not of that school, Refused for oneself and without a reason.
    """
    school_id = students.school_of(session, student_id)
    _require_second_person(person_id, by)
    if person_id not in staff.people_with(session, ASKING, school_id):
        raise NotFound("Nobody with this id cares for students at this school.")
    held = _one(session, student_id, person_id, "assignment", "granted")
    if held is not None:
        return held
    made = _made(session, student_id, school_id, person_id, "assignment", "granted", reason, now)
    made.decided_by, made.decided_at = by.person, now
    session.flush()
    audit.record(session, by, "access.assigned", "student", student_id, person=str(person_id), request=str(made.id))
    return made


def ask(
    session: Session, student_id: uuid.UUID, reason: str, *, hours: int, by: access.Actor, now: dt.datetime
) -> AccessRequest:
    """Asks to see what is kept of a student of one's own school for so many hours; a second person grants it.

    Whoever asks again while it waits gets the same request. Raises NotFound for a student out of scope, Refused
    without a reason (`reason_missing`) and for too long (`too_long`).
    """
    school_id = students.school_of(session, student_id)
    span = dt.timedelta(hours=hours)
    if not dt.timedelta() < span <= LONGEST:
        raise Refused(f"Access ends after {LONGEST.days} days at the latest.", code="too_long")
    held = _one(session, student_id, by.person, "request", "waiting")
    if held is not None:
        return held
    made = _made(session, student_id, school_id, by.person, "request", "waiting", reason, now)
    made.until_at = now + span
    session.flush()
    audit.record(session, by, "access.asked", "student", student_id, request=str(made.id), hours=hours)
    return made


def decide(
    session: Session, request_id: uuid.UUID, *, is_granted: bool, by: access.Actor, now: dt.datetime
) -> AccessRequest:
    """The second person's word. Raises NotFound, Refused for one's own request, Conflict when it is decided."""
    found = get(session, request_id)
    _require_second_person(found.person_id, by)
    wanted = "granted" if is_granted else "refused"
    if found.state == wanted and found.decided_by == by.person:
        return found
    if found.kind != "request" or found.state != "waiting":
        raise Conflict(f"This is {found.state} already.", code="decided")
    if found.until_at is not None and found.until_at <= now:
        raise Conflict("The time for which it was asked is over.", code="over")
    found.state, found.decided_by, found.decided_at = wanted, by.person, now
    session.flush()
    audit.record(session, by, f"access.{wanted}", "student", found.student_id, request=str(found.id))
    return found


def end(session: Session, request_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> AccessRequest:
    """Ends it before its time: at the next request it opens nothing. Ended twice is ended once."""
    found = get(session, request_id)
    _require_part(found, by)
    if found.state in ("waiting", "granted"):
        found.state, found.ended_by, found.ended_at = "ended", by.person, now
        session.flush()
        audit.record(session, by, "access.ended", "student", found.student_id, request=str(found.id))
    return found


_STANDING = text(
    "select kind from access_requests where district_id = :district and student_id = :student and person_id = :person"  # noqa: S608 - our own SQL
    " and state = 'granted' and kind in ('assignment', 'request') and (until_at is null or until_at > :now)"
    f" and {access.within('school_id')}"
    " order by kind limit 1"
)


def standing(session: Session, student_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> str | None:
    """Whether `by` may see all that is kept of this student: `assignment`, `request`, or None.

    A broken glass does not say so: it opens its own few things and nothing else.
    """
    asked = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "student": student_id,
        "person": by.staff_id,
        "now": now,
    }
    found: str | None = session.execute(_STANDING, asked).scalar()
    return found


# -- in an emergency ------------------------------------------------------------------------------------


def break_glass(
    session: Session, student_id: uuid.UUID, reason: str, *, hours: int, by: access.Actor, now: dt.datetime
) -> AccessRequest:
    """Opens contact, tier and safety plan of one student for a few hours, at once, for a life or somebody's safety.

    Raises NotFound for a student out of scope, Refused without a reason (`reason_missing`), for more than four hours
    (`too_long`), and when the second factor was not shown within the last minutes (`second_factor_old`).
    """
    school_id = students.school_of(session, student_id)
    span = dt.timedelta(hours=hours)
    if not by.has(*BREAKING, school_id=school_id):
        raise NotFound("There is no such student.")
    if not dt.timedelta() < span <= LONGEST_GLASS:
        raise Refused("A broken glass closes after four hours at the latest.", code="too_long")
    if by.proved_at is None or by.proved_at < now - PROOF_LASTS:
        raise Refused("Show your second factor first: it was not shown just now.", code="second_factor_old")
    calendar = calendars.of_schools(session, [school_id])[school_id]
    made = _made(session, student_id, school_id, by.person, "break_glass", "granted", reason, now)
    made.until_at, made.review_by = now + span, calendar.add_school_days(now, REVIEW_SCHOOL_DAYS)
    session.flush()
    audit.record(session, by, "access.glass_broken", "student", student_id, request=str(made.id), hours=hours)
    return made


def opened(session: Session, request_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> AccessRequest:
    """One's own broken glass while it is open. Raises NotFound for anybody else's, and for one whose time is over."""
    found = get(session, request_id)
    is_open = found.kind == "break_glass" and found.state == "granted" and found.until_at and now < found.until_at
    if found.person_id != by.person or not is_open or not by.has(*BREAKING, school_id=found.school_id):
        raise NotFound("There is no such request.")
    return found


def review(
    session: Session, request_id: uuid.UUID, words: str, *, is_justified: bool, by: access.Actor, now: dt.datetime
) -> AccessRequest:
    """What a privacy officer found on looking into a broken glass. Raises Conflict when another has said so already."""
    found = get(session, request_id)
    if found.kind != "break_glass":
        raise NotFound("There is no such request.")
    _require_second_person(found.person_id, by)
    if found.reviewed_at is not None:
        if (found.reviewed_by, found.is_justified) == (by.person, is_justified):
            return found
        raise Conflict("This was looked into already.", code="reviewed")
    found.reviewed_by, found.reviewed_at, found.is_justified = by.person, now, is_justified
    found.sealed_review = sealing.keys(session).seal_text(_worded(words), _place(found.id, "review"))
    session.flush()
    audit.record(session, by, "access.reviewed", "access_request", found.id, justified=is_justified)
    return found


# -- what there is --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """How often access was asked for, and how often the glass was broken, since a day."""

    asked: int
    granted: int
    refused: int
    glasses_broken: int
    reviewed: int
    reviews_overdue: int


_FIGURES = text(
    "select count(*) filter (where kind = 'request') as asked,"  # noqa: S608 - our own SQL
    " count(*) filter (where kind = 'request' and decided_at is not null and state <> 'refused') as granted,"
    " count(*) filter (where state = 'refused') as refused,"
    " count(*) filter (where kind = 'break_glass') as glasses_broken,"
    " count(reviewed_at) as reviewed,"
    " count(*) filter (where reviewed_at is null and review_by < :now) as reviews_overdue"
    f" from access_requests where district_id = :district and asked_at >= :since and {access.within('school_id')}"
)


def figures(session: Session, since: dt.datetime, *, now: dt.datetime) -> Figures:
    """Counts of the scope's schools since that moment."""
    wanted = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "since": since,
        "now": now,
    }
    return Figures(**session.execute(_FIGURES, wanted).one()._mapping)


def get(session: Session, request_id: uuid.UUID) -> AccessRequest:
    """The request of that id, held until the transaction ends. Raises NotFound."""
    found = session.scalars(
        select(AccessRequest)
        .where(AccessRequest.district_id == access.scope_of(session).district_id, AccessRequest.id == request_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if found is None or not access.reaches(session, found.school_id):
        raise NotFound("There is no such request.")
    return found


def seen(session: Session, request_id: uuid.UUID, *, by: access.Actor) -> AccessRequest:
    """One's own request, or any of the school's for those who decide; that a glass was broken, for all who take part.

    Raises NotFound.
    """
    found = get(session, request_id)
    if found.kind != "break_glass":
        _require_part(found, by)
    return found


def listed(
    session: Session,
    *,
    kinds: Collection[str] | None = None,
    states: Collection[str] | None = None,
    is_due: bool = False,
    person_id: uuid.UUID | None = None,
    after: tuple[dt.datetime, uuid.UUID] | None = None,
    limit: int = 50,
) -> Sequence[AccessRequest]:
    """Requests of the scope's schools, the latest first; `is_due`: broken glasses nobody has looked into yet."""
    wanted = select(AccessRequest).where(
        AccessRequest.district_id == access.scope_of(session).district_id,
        access.of_scope(session, AccessRequest.school_id),
    )
    if kinds:
        wanted = wanted.where(AccessRequest.kind.in_(kinds))
    if states:
        wanted = wanted.where(AccessRequest.state.in_(states))
    if is_due:
        wanted = wanted.where(AccessRequest.review_by.is_not(None), AccessRequest.reviewed_at.is_(None))
    if person_id is not None:
        wanted = wanted.where(AccessRequest.person_id == person_id)
    if after is not None:
        at, last = after
        older = AccessRequest.asked_at < at
        wanted = wanted.where(older | ((AccessRequest.asked_at == at) & (AccessRequest.id > last)))
    return session.scalars(wanted.order_by(AccessRequest.asked_at.desc(), AccessRequest.id).limit(limit)).all()


def reason_of(session: Session, found: AccessRequest) -> str:
    """Why it was asked, opened from its seal."""
    return sealing.keys(session).open_text(found.sealed_reason, _place(found.id, "reason"))


def _place(request_id: uuid.UUID, part: str) -> str:
    return f"access_request/{request_id}/{part}"


def _made(
    session: Session,
    student_id: uuid.UUID,
    school_id: uuid.UUID,
    person_id: uuid.UUID,
    kind: str,
    state: str,
    reason: str,
    now: dt.datetime,
) -> AccessRequest:
    made = AccessRequest(
        district_id=access.scope_of(session).district_id,
        id=uuid.uuid4(),
        student_id=student_id,
        school_id=school_id,
        person_id=person_id,
        kind=kind,
        state=state,
        asked_at=now,
    )
    made.sealed_reason = sealing.keys(session).seal_text(_worded(reason), _place(made.id, "reason"))
    session.add(made)  # whoever called fills in the rest before anything else is asked of the database
    return made


def _worded(reason: str) -> str:
    if len("".join(reason.split())) < SHORTEST_REASON:
        raise Refused("Say why, in words that somebody else can weigh.", code="reason_missing")
    return reason.strip()


def _one(session: Session, student_id: uuid.UUID, person_id: uuid.UUID, kind: str, state: str) -> AccessRequest | None:
    return session.scalars(
        select(AccessRequest)
        .where(
            AccessRequest.district_id == access.scope_of(session).district_id,
            AccessRequest.student_id == student_id,
            AccessRequest.person_id == person_id,
            AccessRequest.kind == kind,
            AccessRequest.state == state,
            access.of_scope(session, AccessRequest.school_id),
        )
        .limit(1)
    ).one_or_none()


def _require_part(found: AccessRequest, by: access.Actor) -> None:
    if not (found.person_id == by.person or by.has(*GRANTING, school_id=found.school_id)):
        raise NotFound("There is no such request.")


def _require_second_person(person_id: uuid.UUID, by: access.Actor) -> None:
    if person_id == by.person:
        raise Refused("A second person has to say so.", code="second_person")
