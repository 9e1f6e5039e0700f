"""A synthetic red every five minutes: handed in, weighed, raised and sent like a child's, in a district of its own.

Nobody lives in that district, so that no queue, figure or statistic of anybody's knows of it; but whatever would keep
a child's red from its reader keeps this one too, and its absence is noticed.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from alerts import raising, triage
from screening import access, assignments, consent, db, policy, rounds, sealing, staff
from screening.db import Database
from screening.errors import Conflict
from screening.models import District, Enrollment, School, Student

CODE = "_probe"
EVERY = dt.timedelta(minutes=5)
GRACE = dt.timedelta(minutes=4)
"""How much later than its time a red may come before it counts as absent."""
GIVEN_UP_AFTER = dt.timedelta(minutes=30)
KEPT = dt.timedelta(days=7)
"""How long a day's synthetic reds are kept after their round: long enough to look into what went wrong."""
GRADE = 8
RED_ANSWERS = {**{f"phq9_{number}": 0 for number in range(1, 9)}, "phq9_9": 3}
_PEOPLE = ("counselor", "lead")


@dataclass(frozen=True)
class Heard:
    """The last synthetic red that was handed over: when it was handed in, and how long until it went out."""

    at: dt.datetime
    seconds: float


def district(session: Session) -> District | None:
    """The district of the probes; None before a worker has ever run."""
    return session.scalars(select(District).where(District.is_probe)).first()


def ensure(database: Database) -> uuid.UUID:
    """Makes the district of the probes where there is none, with a school and two people; answers its id."""
    with database.unit() as session:
        found = district(session)
    if found is None:
        try:
            found = staff.create_district(database, CODE, "Synthetic reds", is_probe=True)
        except Conflict:  # another worker was faster
            return ensure(database)
    with database.unit(access.Scope(found.id)) as session:
        db.lock(session, f"probe/{found.id}")
        if session.scalar(select(School.id).where(School.district_id == found.id)) is None:
            _furnish(session)
    return found.id


def run(database: Database, district_id: uuid.UUID, *, now: dt.datetime) -> bool:
    """Ends the reds that were heard, and hands the next one in when its time has come; answers whether it did."""
    scope = access.Scope(district_id)
    with database.unit(scope) as session:
        settle(session, now=now)
    with database.unit(scope) as session:
        db.lock(session, f"probe/{district_id}")
        last = session.scalar(_LAST, {"district": district_id})
        if last is not None and last > now - EVERY:
            return False
        _hand_in(session, now)
    with database.unit(scope) as session:  # apart, so that nothing old can keep a new one from coming
        forget(session, now=now)
    return True


def forget(session: Session, *, now: dt.datetime) -> int:
    """Removes the synthetic reds of rounds that closed `KEPT` ago, by a function that touches no other district."""
    found: int = session.execute(text("select forget_probes(:before)"), {"before": now - KEPT}).scalar_one()
    return found


def settle(session: Session, *, now: dt.datetime) -> int:
    """Ends, by two persons as every red, those that went out or were given up; answers how many."""
    district_id = access.scope_of(session).district_id
    parameters = {"district": district_id, "given_up": now - GIVEN_UP_AFTER}
    waiting = session.scalars(_TO_SETTLE, parameters).all()
    if not waiting:
        return 0
    first, second = _people(session)
    for alert_id in waiting:
        triage.acknowledge(session, alert_id, by=first, now=now)
        triage.triage(
            session,
            alert_id,
            "not_confirmed",
            contact="meeting",
            is_student_seen=True,
            words="synthetic",
            by=first,
            now=now,
        )
        triage.confirm_triage(session, alert_id, by=second, now=now)
    return len(waiting)


def heard(session: Session) -> Heard | None:
    """The last one that went out; None when none ever did."""
    row = session.execute(_HEARD, {"district": access.scope_of(session).district_id}).one_or_none()
    return None if row is None else Heard(row.opened_at, (row.sent_at - row.opened_at).total_seconds())


_LAST = text("select max(opened_at) from alerts where district_id = :district")
_HEARD = text(
    "select a.opened_at, min(d.sent_at) as sent_at from alerts a join deliveries d on d.district_id = a.district_id"
    " and d.subject = 'alert' and d.subject_id = a.id and d.state = 'sent'"
    " where a.district_id = :district group by a.id, a.opened_at order by a.opened_at desc limit 1"
)
_TO_SETTLE = text(
    "select a.id from alerts a where a.district_id = :district and a.closed_at is null and (a.opened_at < :given_up"
    " or not exists (select from deliveries d where d.district_id = a.district_id and d.subject = 'alert'"
    "  and d.subject_id = a.id and d.state <> 'sent'))"
    " order by a.id for no key update skip locked"
)


# -- the place ----------------------------------------------------------------------------------------


def _furnish(session: Session) -> None:
    by = access.system(access.scope_of(session).district_id)
    school = staff.create_school(session, CODE, "Synthetic reds", by=by)
    for role in _PEOPLE:
        hired = staff.hire(session, f"{role}@{uuid.uuid4().hex}.invalid", role, by=by)
        staff.grant(session, hired, role, school.id, by=by)


_STAFF = text(
    "select s.id, s.account_id, r.role, r.school_id from staff_roles r"
    " join staff s on s.district_id = r.district_id and s.id = r.staff_id where r.district_id = :district"
)


def _people(session: Session) -> Sequence[access.Actor]:
    district_id = access.scope_of(session).district_id
    found = {
        row.role: access.Actor(row.account_id, district_id, row.id, (access.RoleAt(row.role, row.school_id),))
        for row in session.execute(_STAFF, {"district": district_id})
    }
    return [found[role] for role in _PEOPLE]


def _hand_in(session: Session, now: dt.datetime) -> None:
    """A round for each day and a student for each time of day: nothing of an earlier red is in the way of this one."""
    by, _ = _people(session)
    school_id = by.roles[0].school_id
    if school_id is None:
        raise LookupError("the counselor of the probes has no school")
    day = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    round_id = _round(session, day, now)
    student_id = _student(session, school_id, f"{(now - day) // EVERY}", day)
    rounds.enroll_late(session, round_id, student_ids=[student_id])
    place = session.execute(_PLACE, {"round": round_id, "student": student_id, "district": by.district_id}).scalar_one()
    done = assignments.submit(session, place, by=by, now=now, answers=RED_ANSWERS)
    if done.revisions is not None:
        raising.weigh(session, done.revisions, now=now, policy=done.rules.policy)


_PLACE = text(
    "select id from assignments where district_id = :district and round_id = :round and student_id = :student"
)
_ROUND = text("select id from rounds where district_id = :district and name = :name and state = 'open'")


def _round(session: Session, day: dt.datetime, now: dt.datetime) -> uuid.UUID:
    name, district_id = f"{day:%Y-%m-%d}", access.scope_of(session).district_id
    standing: uuid.UUID | None = session.scalar(_ROUND, {"district": district_id, "name": name})
    if standing is not None:
        return standing
    made = rounds.create(
        session,
        name,
        policy.shipped(),
        [("phq9", ("self",))],
        [GRADE],
        opens_at=day,
        closes_at=day + dt.timedelta(days=2),
        by=access.system(district_id),
    )
    rounds.open_due(session, now)
    return made.id


def _student(session: Session, school_id: uuid.UUID, time_of_day: str, day: dt.datetime) -> uuid.UUID:
    district_id = access.scope_of(session).district_id
    student_id = uuid.uuid5(district_id, time_of_day)
    if session.get(Student, (district_id, student_id)) is not None:
        return student_id
    by = access.system(district_id)
    session.add(Student(district_id=district_id, id=student_id, school_id=school_id))
    session.flush()
    number = sealing.keys(session).lookup(time_of_day, "probe")
    session.add(
        Enrollment(
            district_id=district_id,
            id=uuid.uuid4(),
            student_id=student_id,
            school_id=school_id,
            grade=GRADE,
            number_hash=number,
            since_on=day.date(),
        )
    )
    session.flush()
    notice = {"notice_version": "synthetic", "channel": "paper", "decided_at": day}
    consent.record(session, [student_id], "granted", given_by="guardian", by=by, **notice)  # type: ignore[arg-type]
    return student_id
