"""Whose answers may be used: the latest word of each giver, at the instant, by the age rule of the policy."""

import datetime as dt
import uuid
from itertools import product

import pytest
from sqlalchemy import text

from screening import consent, policy
from screening.consent import Decision, ListedDecision
from screening.errors import NotFound, Refused
from tests.cast import ON, Cast
from tests.factories import NOTICE, decide, make_student

NOON = dt.datetime(2026, 9, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def in_force(cast: Cast, *, at: dt.datetime = NOON) -> frozenset[uuid.UUID]:
    with cast.database.unit(cast.scope) as session:
        return consent.in_force(session, None, at=at, policy=policy.shipped())


def test_the_cast_is_in_force_as_its_names_say(cast: Cast) -> None:
    assert in_force(cast) == cast.students.with_consent()


def test_nothing_is_in_force_before_it_was_decided(cast: Cast) -> None:
    assert in_force(cast, at=NOON - DAY * 2) == frozenset()


def test_a_withdrawal_counts_from_its_instant(cast: Cast) -> None:
    student = cast.students.granted_13
    with cast.database.unit(cast.scope) as session:
        consent.withdraw(
            session,
            student.id,
            given_by="guardian",
            notice_version=NOTICE,
            channel="phone",
            decided_at=NOON + DAY,
            by=cast.an,
        )
    assert student.id in in_force(cast, at=NOON + DAY / 2)
    assert student.id not in in_force(cast, at=NOON + DAY)


def test_a_later_grant_by_the_same_giver_counts_again(cast: Cast) -> None:
    student = cast.students.declined_12
    with cast.database.unit(cast.scope) as session:
        decide(session, student.id, "granted", at=NOON)
    assert student.id in in_force(cast)


def test_of_two_words_at_one_instant_the_refusal_counts(cast: Cast) -> None:
    student = cast.students.undecided_11
    with cast.database.unit(cast.scope) as session:
        decide(session, student.id, "declined", at=NOON)
        decide(session, student.id, "granted", at=NOON)
    assert student.id not in in_force(cast, at=NOON)


def test_a_child_is_fourteen_from_the_month_after_the_birth_month(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        child = make_student(session, cast.school_a.id, age=14, consents=[("student", "granted")], on=ON)
        session.execute(
            text("update students set born_month = '2012-10-01' where district_id = :d and id = :id"),
            {"d": cast.district.id, "id": child.id},
        )
    assert child.id not in in_force(cast, at=dt.datetime(2026, 10, 31, 23, tzinfo=dt.UTC))
    assert child.id in in_force(cast, at=dt.datetime(2026, 11, 1, tzinfo=dt.UTC))


@pytest.mark.parametrize("age", [None, 13, 15])
def test_the_database_and_the_policy_decide_alike(cast: Cast, age: int | None) -> None:
    words = (None, "granted", "declined", "withdrawn")
    wanted: dict[uuid.UUID, bool] = {}
    with cast.database.unit(cast.scope) as session:
        for guardian, student in product(words, words):
            spoken = {giver: word for giver, word in (("guardian", guardian), ("student", student)) if word}
            child = make_student(session, cast.school_b.id, age=age, consents=tuple(spoken.items()), on=ON)
            wanted[child.id] = policy.shipped().has_consent(age, spoken)
        found = consent.in_force(session, list(wanted), at=NOON, policy=policy.shipped())
    assert found == {child for child, is_in_force in wanted.items() if is_in_force}


def test_a_counselor_sees_the_consent_of_her_own_school_only(cast: Cast) -> None:
    with cast.database.unit(cast.scope_b) as session:
        assert consent.in_force(session, None, at=NOON, policy=policy.shipped()) == {cast.students.in_school_b.id}


def test_the_same_decision_twice_is_one_row(cast: Cast) -> None:
    student = cast.students.undecided_11
    with cast.database.unit(cast.scope) as session:
        written = [
            consent.record(
                session,
                [student.id, student.id],
                "granted",
                given_by="guardian",
                notice_version=NOTICE,
                channel="paper",
                decided_at=NOON,
                by=cast.an,
            )
            for _ in range(2)
        ]
    assert written == [1, 0]


def test_decisions_for_students_of_another_school_are_refused(cast: Cast) -> None:
    with cast.database.unit(cast.scope_b) as session, pytest.raises(NotFound):
        decide(session, cast.students.granted_13.id, "granted")


@pytest.mark.parametrize(
    "wrong", [Decision(uuid.uuid4(), "maybe", "guardian"), Decision(uuid.uuid4(), "granted", "uncle")]
)
def test_words_that_are_no_decision_are_refused(cast: Cast, wrong: Decision) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(Refused):
        consent.record_many(session, [wrong], notice_version=NOTICE, channel="paper", decided_at=NOON, by=cast.an)


def test_a_list_takes_its_good_rows_and_names_every_other(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        make_student(session, cast.school_b.id, number="SHARED", on=ON)
        make_student(session, cast.school_c.id, number="SHARED", on=ON)
        rows = [
            ListedDecision(2, "Ａ005", "granted"),
            ListedDecision(3, "A001", "withdrawn"),
            ListedDecision(4, "NOBODY", "granted"),
            ListedDecision(5, "SHARED", "granted"),
            ListedDecision(6, "SHARED", "declined", school_code="C"),
            ListedDecision(7, "A002", "perhaps"),
            ListedDecision(8, "A002", "granted", given_by="uncle"),
        ]
        written, problems = consent.from_list(
            session, rows, notice_version=NOTICE, channel="list", decided_at=NOON, by=cast.an
        )
    assert written == 3
    assert [(problem.row, problem.code) for problem in problems] == [
        (4, "unknown_student"),
        (5, "ambiguous_student"),
        (7, "unknown_decision"),
        (8, "unknown_giver"),
    ]
    wanted = cast.students.with_consent() - {cast.students.granted_13.id} | {cast.students.undecided_11.id}
    assert in_force(cast) & {student.id for student in cast.students.all()} == wanted


def test_the_funnel_adds_up_by_class(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        found = consent.funnel(session, cast.school_a.id, at=NOON, policy=policy.shipped())
    by_grade = {each.grade: (each.enrolled, each.in_force, each.refused, each.waiting) for each in found}
    assert by_grade == {7: (3, 0, 2, 1), 8: (3, 2, 0, 1), 9: (1, 1, 0, 0), 10: (2, 1, 1, 0), 11: (1, 1, 0, 0)}


def test_decisions_cannot_be_rewritten(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(Exception, match="permission denied"):
        session.execute(text("update consents set decision = 'granted'"))
