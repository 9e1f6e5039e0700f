"""Signals become alerts: one open alert a student, as heavy as its heaviest reason, and none lost or doubled."""

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import raising, triage
from screening import policy
from screening.embedded import Server
from screening.models import Student
from screening.results import Signal
from tests import sending
from tests.alerts.episodes import (
    HOUR,
    MONDAY,
    ORANGE,
    RED,
    YELLOW,
    answered,
    in_case,
    in_unit,
    look,
    race,
    ring,
    stands,
)
from tests.cast import Cast
from tests.factories import make_round, make_student
from tests.files import csv_of, gad7, phq9
from tests.sending import send


@pytest.fixture(autouse=True)
def reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    sending.read_here(monkeypatch)


def signal(student: Student, tier: int, source: str, *, is_self_harm: bool = False) -> Signal:
    return Signal(student.id, student.school_id, f"rule_{tier}_{is_self_harm}", tier, is_self_harm, source)


def sound(session: Session, *signals: Signal, at: dt.datetime = MONDAY) -> list[uuid.UUID]:
    return raising.raise_alerts(session, signals, now=at, policy=policy.shipped())


def alerts_of(session: Session, student: Student) -> list[Mapping[str, Any]]:
    found = session.execute(
        text(
            "select a.*, (select max(r.tier) from alert_reasons r where r.district_id = a.district_id"
            " and r.alert_id = a.id) as heaviest, (select count(*) from alert_reasons r"
            " where r.district_id = a.district_id and r.alert_id = a.id) as reasons"
            " from alerts a where a.student_id = :student order by a.opened_at"
        ),
        {"student": student.id},
    )
    return [dict(row) for row in found.mappings()]


DEEDS = st.lists(
    st.tuples(st.just("signal"), st.integers(1, 3), st.booleans(), st.integers(1, 4))
    | st.tuples(st.sampled_from(["acknowledge", "end"]), st.just(0), st.just(False), st.just(0)),
    max_size=10,
)


@given(deeds=DEEDS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_in_whatever_order(cast: Cast, deeds: list[tuple[str, int, bool, int]]) -> None:
    """At most one open alert, as heavy as its reasons; a clock that runs never moves back; a signal counts once."""
    with cast.database.unit(cast.scope) as session:
        student = make_student(session, cast.school_a.id)
        heard: set[tuple[str, str]] = set()
        for hour, (deed, tier, is_self_harm, source) in enumerate(deeds):
            before = [alert for alert in alerts_of(session, student) if alert["closed_at"] is None]
            now = MONDAY + hour * HOUR
            if deed == "signal":
                this = signal(student, tier, f"concern/{source}", is_self_harm=is_self_harm)
                rang = sound(session, this, at=now)
                assert not (rang and (this.rule, this.source) in heard)
                heard.add((this.rule, this.source))
            elif before:
                change = "state = 'acknowledged'" if deed == "acknowledge" else "state = 'triaged', closed_at = :now"
                session.execute(text(f"update alerts set {change} where id = :id"), {"id": before[0]["id"], "now": now})
            _assert_sound(before, alerts_of(session, student))
        assert sum(alert["reasons"] for alert in alerts_of(session, student)) == len(heard)


def _assert_sound(before: list[Mapping[str, Any]], after: list[Mapping[str, Any]]) -> None:
    open_now = [alert for alert in after if alert["closed_at"] is None]
    assert len(open_now) <= 1
    assert all(alert["tier"] == alert["heaviest"] for alert in after)
    for was in before:
        now = next(alert for alert in after if alert["id"] == was["id"])
        assert now["tier"] >= was["tier"]
        assert now["has_self_harm"] >= was["has_self_harm"]
        assert now["see_by"] <= was["see_by"]
        assert now["state"] != "new" or was["state"] != "new" or now["answer_by"] <= was["answer_by"]


def test_two_who_raise_at_the_same_moment_make_one_alert_with_both_reasons(cast: Cast) -> None:
    student = cast.students.granted_13
    signals = [signal(student, tier, f"concern/{tier}") for tier in (YELLOW, ORANGE, RED, YELLOW)]

    came = race(*(in_unit(cast, sound, one) for one in signals))

    assert not [each for each in came if isinstance(each, Exception)]
    (alert,) = sending.alerts(cast)
    assert (alert["tier"], alert["reasons"]) == (RED, 3)


def test_two_who_raise_for_the_same_students_in_other_orders_both_get_through(cast: Cast) -> None:
    students = [cast.students.granted_13, cast.students.own_grant_15, cast.students.in_school_b]
    there = [signal(student, ORANGE, "concern/1") for student in students]
    back = [signal(student, RED, "concern/2") for student in reversed(students)]

    for _ in range(3):
        came = race(in_unit(cast, sound, *there), in_unit(cast, sound, *back))
        assert not [each for each in came if isinstance(each, Exception)]

    assert [(alert["tier"], alert["reasons"]) for alert in sending.alerts(cast)] == [(RED, 2)] * 3


def test_a_signal_that_was_heard_is_not_heard_again_after_its_alert_ended(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        made = answered(session, student, YELLOW, cast.an)
        (source,) = session.execute(
            text("select source from alert_reasons where alert_id = :id"), {"id": made.id}
        ).one()
        look(session, made.id, "monitor", by=cast.an)
        assert stands(session, made.id).closed_at is not None

        ring(session, student, YELLOW, at=MONDAY + HOUR)  # another one opens a second alert
        same = Signal(student.id, student.school_id, "phq9_raised", YELLOW, False, source)
        assert sound(session, same, at=MONDAY + 2 * HOUR) == []
        assert len(alerts_of(session, student)) == 2


def test_a_red_that_was_answered_rings_for_a_further_red_and_not_for_less(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        made = answered(session, student, RED, cast.an)

        assert sound(session, signal(student, ORANGE, "concern/1"), at=MONDAY + HOUR) == []
        assert stands(session, made.id).state == "acknowledged"
        assert sound(session, signal(student, RED, "concern/2"), at=MONDAY + 2 * HOUR) == [made.id]

        again = stands(session, made.id)
        assert (again.state, again.raised_at) == ("new", MONDAY + 2 * HOUR)
        assert again.answer_by > again.raised_at


def test_a_heavier_signal_raises_the_open_case_too(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope_a) as session:
        made = in_case(session, student, YELLOW, cast.an)

        ring(session, student, RED, at=MONDAY + HOUR)

        session.refresh(made)
        assert made.tier == RED


def test_nobody_is_a_concern_of_the_district_when_no_school_is_known(cast: Cast) -> None:
    nobody = Signal(
        None, None, "phq9_self_harm", ORANGE, True, "upload/00/7", file_digest=b"\x00", place="7", upload_id=None
    )
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
        placed = Signal(**{**nobody.__dict__, "round_id": made.id})
        assert len(sound(session, placed)) == 1
        assert sound(session, placed, at=MONDAY + HOUR) == []

        (row,) = triage.queue(session)
        assert (row.student_id, row.school_id, row.place, row.tier) == (None, None, "7", ORANGE)
    with cast.database.unit(cast.scope_a) as session:
        assert triage.queue(session) == []


# -- the net under the doors -------------------------------------------------------------------------------


def forget(server: Server, cast: Cast, *tables: str) -> None:
    """Takes rows of this district away, as only somebody who owns the machine can."""
    with psycopg.connect(server.url(database="tests", role="superuser"), autocommit=True) as owner:
        for table in tables:
            owner.execute(f"delete from {table} where district_id = %s".encode(), [cast.district.id])


def sweep(cast: Cast, **more: Any) -> int:
    with cast.database.unit(cast.scope) as session:
        return raising.sweep(session, now=dt.datetime.now(dt.UTC), **more)


def test_a_result_that_nobody_weighed_is_weighed_by_the_sweep(cast: Cast, server: Server) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    send(cast, made.id, csv_of(phq9("A001", 0, phq9_9=3), phq9("A006", 0), phq9("A007", 2, phq9_9=0)))
    whole = [(a["student_id"], a["tier"], a["rules"]) for a in sending.alerts(cast)]
    before = sending.counts(cast)
    assert len(whole) == 2

    forget(server, cast, "alert_reasons", "alerts", "weighings")
    assert sweep(cast) == 3
    assert sweep(cast) == 0

    again = [(a["student_id"], a["tier"], a["rules"]) for a in sending.alerts(cast)]
    assert sorted(again, key=str) == sorted(whole, key=str)
    assert sending.counts(cast) == before


def test_a_lost_weighing_alone_doubles_no_alert(cast: Cast, server: Server) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    send(cast, made.id, csv_of(phq9("A001", 3)))
    send(cast, made.id, csv_of(gad7("A001", 3)))
    before = sending.counts(cast)

    forget(server, cast, "weighings")
    assert sweep(cast) == 2

    assert sending.counts(cast) == before


def test_the_sweep_looks_back_two_days_or_all_the_way(cast: Cast, server: Server) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    send(cast, made.id, csv_of(phq9("A001", 3)))
    with psycopg.connect(server.url(database="tests", role="superuser"), autocommit=True) as owner:
        owner.execute(
            "update results set recorded_at = now() - interval '3 days' where district_id = %s", [cast.district.id]
        )
    forget(server, cast, "weighings")

    assert sweep(cast) == 0
    assert sweep(cast, reach=None) == 1


def test_a_historical_result_is_weighed_and_rings_nobody(cast: Cast, server: Server) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, is_historical=True)
    send(cast, made.id, csv_of(phq9("A001", 3)))
    forget(server, cast, "weighings")

    assert sweep(cast) == 1
    assert sending.alerts(cast) == []


def test_a_retest_that_finds_the_same_rings_again(cast: Cast) -> None:
    """A further attempt is news even where the rules are the same as before."""
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    send(cast, made.id, csv_of(phq9("A001", 0, phq9_9=1)))
    with cast.database.unit(cast.scope) as session:
        session.execute(
            text("update alerts set state = 'triaged', closed_at = now() where student_id = :s"), {"s": student.id}
        )
        _retest(session, made.id, student.id)

    assert sweep(cast) == 1

    assert [alert["rules"] for alert in sending.alerts(cast)] == [["phq9_self_harm"], ["phq9_self_harm"]]
    sent = send(cast, made.id, csv_of(phq9("A001", 0, phq9_9=1)), is_correction=True)
    assert sent.outcomes("phq9/self") == {"repeated": 1}
    sent = send(cast, made.id, csv_of(phq9("A001", 0, phq9_9=0)), is_correction=True)
    assert sent.outcomes("phq9/self") == {"corrected": 1}
    assert [(f["attempt"], f["revision"]) for f in sending.forms(cast, made.id)] == [(1, 1), (2, 1), (2, 2)]
    assert sending.results(cast, made.id)[-1]["forms"] == ["phq9/self/1/1", "phq9/self/2/2"]
    assert sending.results(cast, made.id)[-1]["tier"] == ORANGE  # what one attempt says holds


def _retest(session: Session, round_id: uuid.UUID, student_id: uuid.UUID) -> None:
    of_student = {"round": round_id, "student": student_id}
    session.execute(
        text(
            "insert into administrations (district_id, round_id, student_id, informant, instrument, attempt, revision,"
            " school_id, answers, status, missing_count, scores) select district_id, round_id, student_id, informant,"
            " instrument, 2, 1, school_id, answers, status, missing_count, scores from administrations"
            " where round_id = :round and student_id = :student"
        ),
        of_student,
    )
    session.execute(
        text(
            "insert into results (district_id, round_id, student_id, revision, school_id, tier, validity, reasons,"
            " forms, prior_tier, age, rule_set_id) select district_id, round_id, student_id, 2, school_id, tier,"
            " validity, reasons, forms || '{phq9/self/2/1}', prior_tier, age, rule_set_id from results"
            " where round_id = :round and student_id = :student"
        ),
        of_student,
    )
