"""A round freezes its rules, opens and closes school by school on time, and gives every student one place."""

import datetime as dt
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from instruments import catalogue
from screening import db, policy, rounds
from screening.access import Scope
from screening.errors import InvalidUpload, NotFound, Refused
from screening.models import Round
from tests.cast import Cast
from tests.factories import make_district, make_round, make_student, system

HOUR = dt.timedelta(hours=1)
ALL_GRADES = (7, 8, 9, 10, 11, 12)


def places(session: Session, planned: Round) -> set[tuple[uuid.UUID, str]]:
    rows = session.execute(
        text("select student_id, informant from assignments where round_id = :round"), {"round": planned.id}
    )
    return {(row.student_id, row.informant) for row in rows}


def states(session: Session, planned: Round) -> tuple[str, dict[str, str]]:
    rows = session.execute(
        text("select s.code, o.state from openings o join schools s on s.id = o.school_id where round_id = :round"),
        {"round": planned.id},
    )
    session.refresh(planned)
    return planned.state, {row.code: row.state for row in rows}


def test_opening_gives_every_enrolled_student_of_the_grades_a_place(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session, grades=(8, 9), is_open=False)
        assert places(session, planned) == set()
        rounds.open(session, planned.id, by=cast.district_admin)
        students = cast.students
        wanted = (
            students.granted_13,
            students.own_grant_13,
            students.unknown_age,
            students.own_grant_15,
            students.in_school_b,
            students.in_school_c,
        )
        assert places(session, planned) == {(student.id, "self") for student in wanted}
        rounds.open(session, planned.id, by=cast.district_admin)
        assert len(places(session, planned)) == len(wanted)


def test_a_student_has_one_place_for_self_and_youth_forms_and_one_per_other_informant(cast: Cast) -> None:
    battery = [("phq9", ["self"]), ("psc17", ["youth", "parent", "teacher"])]
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session, grades=[9], instruments=battery, school_ids=[cast.school_b.id])
        student = cast.students.in_school_b.id
        assert places(session, planned) == {(student, "self"), (student, "parent"), (student, "teacher")}


def test_only_the_chosen_schools_take_part(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session, school_ids=[cast.school_b.id])
        assert states(session, planned) == ("open", {"B": "open"})
        assert places(session, planned) == {(cast.students.in_school_b.id, "self")}


def test_the_timetable_opens_and_closes_what_is_due_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        planned = make_round(session, opens_at=now + HOUR, closes_at=now + HOUR * 3, is_open=False)
        assert rounds.open_due(session, now) == 0
        assert rounds.open_due(session, now + HOUR) == 3
        assert rounds.open_due(session, now + HOUR) == 0
        assert states(session, planned) == ("open", {"A": "open", "B": "open", "C": "open"})
        assert rounds.close_due(session, now + HOUR * 2) == 0
        assert rounds.close_due(session, now + HOUR * 3) == 3
        assert rounds.close_due(session, now + HOUR * 3) == 0
        assert states(session, planned) == ("closed", {"A": "closed", "B": "closed", "C": "closed"})


def test_a_round_whose_window_passed_unopened_is_closed_without_places(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        planned = make_round(session, opens_at=now + HOUR, closes_at=now + HOUR * 2, is_open=False)
        assert rounds.open_due(session, now + HOUR * 5) == 0
        assert rounds.close_due(session, now + HOUR * 5) == 3
        assert states(session, planned)[0] == "closed"
        assert places(session, planned) == set()


def test_two_timetables_at_once_open_a_round_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        planned = make_round(session, opens_at=now + HOUR, closes_at=now + HOUR * 3, is_open=False)

    def tick(_: int) -> int:
        with cast.database.unit(cast.scope) as session:
            return rounds.open_due(session, now + HOUR)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(tick, range(4))) == [0, 0, 0, 3]
    with cast.database.unit(cast.scope) as session:
        lines = session.execute(
            text("select count(*) from audit_entries where action = 'round.opened' and subject_id = :id"),
            {"id": str(planned.id)},
        ).scalar_one()
        assert lines == 1


def test_a_school_closes_its_own_part_only(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
    with cast.database.unit(cast.scope_a) as session:
        rounds.close(session, planned.id, by=cast.school_admin_a)
    with cast.database.unit(cast.scope) as session:
        assert states(session, session.merge(planned)) == ("open", {"A": "closed", "B": "open", "C": "open"})


def test_a_closed_round_does_not_open_again(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
        rounds.close(session, planned.id, by=cast.district_admin)
        with pytest.raises(Refused, match="closed"):
            rounds.open(session, planned.id, by=cast.district_admin)


def test_a_late_joiner_gets_a_place_and_nobody_a_second(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
        before = places(session, planned)
        late = make_student(session, cast.school_c.id, grade=8)
        make_student(session, cast.school_c.id, grade=3)
        assert rounds.enroll_late(session, planned.id) == 1
        assert rounds.enroll_late(session, planned.id) == 0
        assert places(session, planned) == before | {(late.id, "self")}


def test_a_historical_round_is_open_at_once_and_places_whom_its_files_name(cast: Cast) -> None:
    last_year = dt.datetime(2025, 9, 1, tzinfo=dt.UTC)
    with cast.database.unit(cast.scope) as session:
        planned = make_round(
            session,
            opens_at=last_year,
            closes_at=last_year + HOUR * 24,
            grades=[6],
            is_historical=True,
        )
        assert states(session, planned)[0] == "open"
        assert rounds.close_due(session, db.now(session)) == 0
        with pytest.raises(Refused):
            rounds.enroll_late(session, planned.id)
        named = [cast.students.granted_17.id, cast.students.in_school_b.id]
        assert rounds.enroll_late(session, planned.id, student_ids=named) == 2
        assert places(session, planned) == {(student, "self") for student in named}
        assert rounds.rules_of(session, planned.id).is_historical
        assert rounds.reds_of_historical(session, planned.id, by=cast.lead) == []


def test_the_reds_of_an_ordinary_round_are_in_the_queue(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
        with pytest.raises(Refused, match="queue"):
            rounds.reds_of_historical(session, planned.id, by=cast.lead)


def test_the_rules_of_a_round_are_those_it_was_made_with(cast: Cast) -> None:
    local = policy.parse(policy.shipped().body.replace("look_back_days = 365", "look_back_days = 30"), "local.toml")
    with cast.database.unit(cast.scope) as session:
        first, second = make_round(session), make_round(session, rules=local)
        again = make_round(session)
        frozen = rounds.rules_of(session, first.id)
        assert frozen.policy == policy.shipped()
        assert list(frozen.instruments) == ["phq9", "gad7"]
        assert frozen.instruments["phq9"] == catalogue.get("phq9")
        assert frozen.forms == {"phq9": ("self",), "gad7": ("self",)}
        assert frozen.informants == ("self",)
        assert rounds.rules_of(session, second.id).policy.look_back_days == 30
        assert rounds.rules_of(session, again.id).rule_set_id == frozen.rule_set_id
        assert rounds.rules_of(session, second.id).rule_set_id != frozen.rule_set_id
        assert rounds.rules(session, frozen.rule_set_id).policy == policy.shipped()
        assert rounds.rules_of(session, first.id) is frozen


def test_another_districts_round_is_not_found_even_when_its_rules_are_known(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
        frozen = rounds.rules_of(session, planned.id)
    elsewhere = make_district(cast.database)
    with cast.database.unit(Scope(elsewhere.id)) as session:
        with pytest.raises(NotFound):
            rounds.rules_of(session, planned.id)
        with pytest.raises(NotFound):
            rounds.rules(session, frozen.rule_set_id)


def test_every_problem_of_a_plan_is_named_at_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(InvalidUpload) as refused:
        now = db.now(session)
        rounds.create(
            session,
            " ",
            policy.shipped(),
            [("phq9", ["self", "teacher"]), ("phq9", ["self"]), ("mind_reading", ["self"]), ("gad7", [])],
            [2, 8, 44],
            opens_at=now,
            closes_at=now,
            school_ids=[uuid.uuid4()],
            by=cast.district_admin,
        )
    codes = [problem.code for problem in refused.value.problems]
    assert codes == [
        "unknown_form",
        "instrument_twice",
        "unknown_instrument",
        "no_form",
        "no_name",
        "unknown_grade",
        "unknown_school",
        "window_reversed",
        "grade_outside_ages",
        "item_gated",
        "grade_outside_ages",
        "item_gated",
    ]


def test_an_unreleased_instrument_is_not_asked(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    body = catalogue.get("gad7").body.replace("released = true", "released = false")
    monkeypatch.setattr(catalogue, "get", lambda code: catalogue.parse_stored(body))
    with cast.database.unit(cast.scope) as session, pytest.raises(InvalidUpload) as refused:
        make_round(session, instruments=[("gad7", ["self"])])
    assert [problem.code for problem in refused.value.problems] == ["instrument_unreleased"]


def test_a_policy_that_names_what_its_instruments_lack_is_refused(cast: Cast) -> None:
    wrong = policy.parse(policy.shipped().body.replace('phq9.total >= "', 'phq9.sorrow >= "'), "wrong.toml")
    assert wrong != policy.shipped()
    with cast.database.unit(cast.scope) as session, pytest.raises(InvalidUpload) as refused:
        make_round(session, rules=wrong)
    assert {problem.code for problem in refused.value.problems} == {"unknown_name"}


def test_an_exempt_student_keeps_the_first_reason(cast: Cast) -> None:
    student = cast.students.granted_13.id
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
        rounds.exempt(session, planned.id, student, "health", by=cast.school_admin_a)
        rounds.exempt(session, planned.id, student, "language", by=cast.school_admin_a)
        held = session.execute(
            text("select exempt_reason, exempted_by from assignments where round_id = :r and student_id = :s"),
            {"r": planned.id, "s": student},
        ).one()
        assert tuple(held) == ("health", cast.school_admin_a.staff_id)
        with pytest.raises(Refused):
            rounds.exempt(session, planned.id, student, "dislike", by=cast.school_admin_a)
        with pytest.raises(NotFound):
            rounds.exempt(session, planned.id, uuid.uuid4(), "health", by=cast.school_admin_a)


def test_a_grade_keeps_its_place_when_the_student_moves_up(cast: Cast) -> None:
    student = cast.students.granted_13.id
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session)
        session.execute(text("update enrollments set grade = 9 where student_id = :s"), {"s": student})
        rounds.enroll_late(session, planned.id)
        grades = session.execute(
            text("select grade from assignments where round_id = :r and student_id = :s"),
            {"r": planned.id, "s": student},
        ).scalars()
        assert list(grades) == [8]


def test_acts_on_a_round_are_kept_account_of(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        planned = make_round(session, by=cast.district_admin)
        rounds.close(session, planned.id, by=system(session))
        lines = session.execute(
            text("select action, role from audit_entries where subject_id = :id order by id"), {"id": str(planned.id)}
        )
        assert [tuple(line) for line in lines] == [
            ("round.created", "district_admin"),
            ("round.opened", "district_admin"),
            ("round.closed", "system"),
        ]
