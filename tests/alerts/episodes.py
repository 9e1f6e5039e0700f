"""Alerts, cases and moments that the tests of this floor start from."""

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import cases, entries, interviews, raising, triage
from alerts.models import Alert, Case, Interview
from screening import access, policy
from screening.access import Actor
from screening.models import Student
from screening.results import Signal
from screening.settings import Settings
from tests.cast import Cast

MONDAY = dt.datetime(2026, 9, 7, 2, 0, tzinfo=dt.UTC)
"""Ten in the morning of a school day in Shanghai."""
HOUR = dt.timedelta(hours=1)
YELLOW, ORANGE, RED = 1, 2, 3
_Result = TypeVar("_Result")


def ring(session: Session, student: Student, tier: int, *, at: dt.datetime = MONDAY, **more: object) -> Alert:
    """A signal of this tier about a student, and the open alert it is in."""
    signal = Signal(
        student_id=student.id,
        school_id=student.school_id,
        rule="phq9_raised" if tier == YELLOW else "phq9_high",
        tier=tier,
        is_self_harm=False,
        source=f"safety_answer/{uuid.uuid4()}/phq9_9",
    )
    raising.raise_alerts(session, [replace(signal, **more)], now=at, policy=policy.shipped())  # type: ignore[arg-type]
    found = session.execute(
        text("select id from alerts where student_id = :student and closed_at is null"), {"student": student.id}
    ).scalar_one()
    return stands(session, found)


def stands(session: Session, alert_id: uuid.UUID) -> Alert:
    """The alert as it stands in the database now."""
    district_id = access.scope_of(session).district_id
    found = session.get(Alert, (district_id, alert_id), populate_existing=True)
    assert found is not None
    return found


def answered(session: Session, student: Student, tier: int, by: Actor, *, at: dt.datetime = MONDAY) -> Alert:
    alert = ring(session, student, tier, at=at)
    triage.acknowledge(session, alert.id, by=by, now=at)
    return stands(session, alert.id)


def in_case(session: Session, student: Student, tier: int, by: Actor, *, at: dt.datetime = MONDAY) -> Case:
    """A case that was opened from an alert."""
    alert = answered(session, student, tier, by, at=at)
    made = look(session, alert.id, "case_opened", by=by, at=at)
    assert made.case_id is not None
    return cases.get(session, made.case_id)


def look(session: Session, alert_id: uuid.UUID, outcome: str, *, by: Actor, at: dt.datetime = MONDAY, **more: object):  # type: ignore[no-untyped-def]
    known = {"contact": "meeting", "is_student_seen": True, "words": "We talked."} | more
    return triage.triage(session, alert_id, outcome, by=by, now=at, **known)  # type: ignore[arg-type]


def talk(
    session: Session, case: Case, by: Actor, *, at: dt.datetime = MONDAY, has_current_risk: bool = False
) -> Interview:
    return interviews.write(
        session,
        case.id,
        mode="meeting",
        is_student_seen=True,
        has_current_risk=has_current_risk,
        is_concern_confirmed=True,
        words="She sleeps badly.",
        held_at=at,
        by=by,
        now=at,
    )


def family_told(session: Session, case: Case, by: Actor, *, at: dt.datetime = MONDAY) -> None:
    said: dict[str, str | bool] = {"how": "phone", "is_reached": True, "response": "agrees"}
    entries.fill(session, case.id, "guardian_contact", said, "The mother knows.", by=by, now=at)


def cared(session: Session, case: Case, by: Actor, *, at: dt.datetime = MONDAY) -> None:
    """All that is asked of a serious case before it may end: two talks, and the family told."""
    family_told(session, case, by, at=at)
    for _ in range(2):
        talk(session, case, by, at=at)


def race(*acts: Callable[[], _Result]) -> list[_Result | Exception]:
    """What comes of doing all of these at the same moment, each in a thread of its own."""
    start = threading.Barrier(len(acts))
    came: list[_Result | Exception] = [RuntimeError("never ran")] * len(acts)

    def run(position: int, act: Callable[[], _Result]) -> None:
        start.wait()
        try:
            came[position] = act()
        except Exception as error:
            came[position] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return came


def in_unit(cast: Cast, act: Callable[..., _Result], *about: object, **more: object) -> Callable[[], _Result]:
    """The same act in a transaction of its own, over the whole district."""

    def run() -> _Result:
        with cast.database.unit(cast.scope) as session:
            return act(session, *about, **more)

    return run


def made_up_settings(home: Path, **environ: str) -> Settings:
    return Settings.read({"SCREENING_HOME": str(home), "SCREENING_BASE_URL": "http://127.0.0.1:8000", **environ})
