"""After a true alert the questions are asked again; where nobody does, somebody has to look."""

import datetime as dt

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import rescreens, triage
from screening import assignments, db
from screening.models import Student
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, answered, in_case, look
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import PHQ9, app_on, caller
from tests.factories import decide, make_round

DAY = 24 * HOUR


def days_of(session: Session, now: dt.datetime, began: dt.datetime = MONDAY) -> list[int]:
    return [(one.due_at - began).days for one in rescreens.waiting(session, now=now)]


def hand_in(session: Session, cast: Cast, student: Student) -> None:
    """A form of this student, now."""
    made = make_round(session, name="Again", instruments=[("phq9", ["self"])])
    place = session.execute(
        text("select id from assignments where round_id = :round and student_id = :student"),
        {"round": made.id, "student": student.id},
    ).scalar_one()
    assignments.submit(session, place, by=cast.an, now=db.now(session), answers=dict.fromkeys(PHQ9, 0))


def test_the_policys_days_after_a_true_alert_are_due_one_by_one(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        in_case(session, cast.students.granted_13, RED, cast.an)
        assert days_of(session, MONDAY + 14 * DAY - HOUR) == []
        assert days_of(session, MONDAY + 14 * DAY) == [14]
        assert days_of(session, MONDAY + 42 * DAY) == [14, 42]


def test_what_was_not_confirmed_is_not_asked_again(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        nothing = answered(session, cast.students.granted_13, ORANGE, cast.an)
        look(session, nothing.id, "not_confirmed", by=cast.an)
        triage.confirm_triage(session, nothing.id, by=cast.lead, now=MONDAY)
        watched = answered(session, cast.students.own_grant_15, YELLOW, cast.an)
        look(session, watched.id, "monitor", by=cast.an)
        assert days_of(session, MONDAY + 60 * DAY) == [49]


def test_whoever_takes_the_consent_back_is_not_asked_again(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        in_case(session, cast.students.granted_13, RED, cast.an)
        assert days_of(session, MONDAY + 60 * DAY) == [14, 42]
        decide(session, cast.students.granted_13.id, "withdrawn", at=MONDAY + DAY)
        assert days_of(session, MONDAY + 60 * DAY) == []


def test_nobody_elses_school_sees_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        in_case(session, cast.students.granted_13, RED, cast.an)
    with cast.database.unit(cast.scope_b) as session:
        assert days_of(session, MONDAY + 60 * DAY) == []


@pytest.mark.parametrize(("day", "left"), [(6, [14, 42]), (8, [42]), (20, [42]), (36, [])])
def test_a_result_from_a_week_before_on_is_the_answer(cast: Cast, day: int, left: list[int]) -> None:
    with cast.database.unit(cast.scope) as session:
        began = db.now(session) - day * DAY
        in_case(session, cast.students.granted_13, RED, cast.an, at=began)
        hand_in(session, cast, cast.students.granted_13)
        assert days_of(session, began + 60 * DAY, began) == left


def test_two_weeks_late_it_rings_once_and_lowers_nothing(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, RED, cast.an)
        watched = answered(session, cast.students.own_grant_15, YELLOW, cast.an)
        look(session, watched.id, "monitor", by=cast.an)
        assert rescreens.raise_overdue(session, now=MONDAY + 28 * DAY - HOUR) == 0
        assert rescreens.raise_overdue(session, now=MONDAY + 28 * DAY) == 1
        assert rescreens.raise_overdue(session, now=MONDAY + 29 * DAY) == 0
        assert rescreens.raise_overdue(session, now=MONDAY + 63 * DAY) == 2
        assert rescreens.raise_overdue(session, now=MONDAY + 64 * DAY) == 0
        about = {"red": case.student_id, "watched": watched.student_id}
        red = session.execute(text("select tier, state from alerts where student_id = :red"), about).one()
        fresh = session.execute(
            text("select tier, state from alerts where student_id = :watched and closed_at is null"), about
        ).one()
    assert tuple(red) == (RED, "triaged")
    assert tuple(fresh) == (YELLOW, "new")


def test_a_counselor_reads_who_waits(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        at = db.now(session) - 20 * DAY
        in_case(session, cast.students.granted_13, RED, cast.an, at=at)
    client = TestClient(app_on(cast.database))
    shown = caller(client, cast.database, cast.an).get("/v1/rescreens").json()["rescreens"]
    assert [(one["student_id"], one["is_overdue"]) for one in shown] == [(str(cast.students.granted_13.id), False)]
    assert shown[0]["student_name"]
    assert caller(client, cast.database, cast.chen).get("/v1/rescreens").json()["rescreens"] == []
