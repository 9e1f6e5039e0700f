"""A list of students becomes a proposal and then students: nobody twice, nobody removed, no wrong child."""

import datetime as dt
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import following
from screening import access, consent, db, files, identity, policy, roster
from screening.access import Scope
from screening.db import Database
from screening.errors import Conflict, InvalidUpload, NotFound, Refused
from screening.identity import Person
from screening.models import Roster
from tests.cast import Cast
from tests.factories import decide, make_district, make_school, make_student

ON = dt.date(2026, 9, 10)
SCHEMA = {
    "sheet": pl.String,
    "row": pl.Int32,
    "school_code": pl.String,
    "student_number": pl.String,
    "student_name": pl.String,
    "sex": pl.String,
    "grade": pl.Int8,
    "class_name": pl.String,
    "born_on": pl.Date,
    "guardian_phone": pl.String,
    "special_groups": pl.String,
    "guardian_consent": pl.String,
    "student_consent": pl.String,
    "is_proposable": pl.Boolean,
}
PROBLEMS = {"sheet": pl.String, "row": pl.Int32, "column": pl.String, "code": pl.String, "message": pl.String}
NO_PROBLEMS = pl.DataFrame(schema=PROBLEMS)


def a_row(school: str | None, number: str, name: str, **cells: Any) -> dict[str, Any]:
    said = {"school_code": school, "student_number": number, "student_name": name, "grade": 8, "is_proposable": True}
    return dict.fromkeys(SCHEMA) | said | cells


def frame(*rows: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{**row, "row": position + 2} for position, row in enumerate(rows)], schema=SCHEMA)


def laid_out(
    cast: Cast, *rows: Mapping[str, Any], scope: Scope | None = None, problems: pl.DataFrame = NO_PROBLEMS
) -> uuid.UUID:
    """A proposal made of these rows, received under `scope` (the whole district unless said)."""
    with cast.database.unit(scope or cast.scope) as session:
        received = roster.receive(session, [b"x"], "list.csv", by=cast.district_admin)
    with cast.database.unit(cast.scope) as session:
        roster.lay_out(session, received.id, frame(*rows), problems)
    return received.id


def outcome(cast: Cast, roster_id: uuid.UUID) -> list[tuple[str, uuid.UUID | None, list[str]]]:
    with cast.database.unit(cast.scope) as session:
        found = roster.proposal(session, roster_id)
        return [(row.change, row.student_id, [problem.code for problem in row.problems]) for row in found.rows]


def commit(cast: Cast, roster_id: uuid.UUID, scope: Scope | None = None) -> Roster:
    with cast.database.unit(scope or cast.scope) as session:
        return roster.commit(session, roster_id, by=cast.district_admin, on=ON, follow=following.follow)


def enrolled(session: Session, student_id: uuid.UUID) -> list[tuple[str, int, str, dt.date, dt.date | None]]:
    rows = session.execute(
        text(
            "select c.code, e.grade, e.class_name, e.since_on, e.until_on from enrollments e"
            " join schools c on c.district_id = e.district_id and c.id = e.school_id"
            " where e.student_id = :id order by e.until_on nulls last"
        ),
        {"id": student_id},
    )
    return [tuple(row) for row in rows]


def test_a_new_student_is_entered_with_everything_the_list_says(cast: Cast) -> None:
    made = laid_out(
        cast,
        a_row(
            "A",
            "２０２４９",
            "孙悦",
            sex="f",
            class_name="3",
            born_on=dt.date(2013, 5, 20),
            guardian_phone="13800001111",
            special_groups="left_behind；orphan",
            guardian_consent="granted",
            student_consent="declined",
        ),
    )
    assert outcome(cast, made) == [("new", None, [])]
    assert commit(cast, made).state == "committed"
    with cast.database.unit(cast.scope_a) as session:
        student = session.execute(
            text("select id, sex, born_month from students where born_month = '2013-05-01'")
        ).one()
        assert student.sex == "f"
        assert identity.people(session, [student.id])[student.id] == Person(
            "孙悦", "２０２４９", dt.date(2013, 5, 20), "13800001111"
        )
        assert enrolled(session, student.id) == [("A", 8, "3", ON, None)]
        groups = session.execute(text("select group_code from special_groups where student_id = :s"), {"s": student.id})
        assert set(groups.scalars()) == {"left_behind", "orphan"}
        words = session.execute(
            text("select given_by, decision from consents where student_id = :s"), {"s": student.id}
        )
        assert {tuple(word) for word in words} == {("guardian", "granted"), ("student", "declined")}


def test_the_same_list_again_changes_nothing(cast: Cast) -> None:
    rows = [a_row("A", "N1", "孙悦", class_name="3", guardian_consent="granted"), a_row("B", "N2", "马超")]
    commit(cast, laid_out(cast, *rows))
    again = laid_out(cast, *rows)
    assert [change for change, _, _ in outcome(cast, again)] == ["same", "same"]
    with cast.database.unit(cast.scope) as session:
        before = session.execute(text("select count(*), max(recorded_at) from consents")).one()
    commit(cast, again)
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select count(*), max(recorded_at) from consents")).one() == before


def test_a_list_is_committed_once_and_by_one(cast: Cast) -> None:
    made = laid_out(cast, a_row("A", "N1", "孙悦"))

    def attempt(_: int) -> str:
        try:
            return commit(cast, made).state
        except Conflict as conflict:
            return conflict.code

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(4)))
    assert sorted(outcomes) == ["committed", "roster_committed", "roster_committed", "roster_committed"]


def test_a_known_student_in_another_class_begins_another_span(cast: Cast) -> None:
    student = cast.students.granted_13
    made = laid_out(cast, a_row("A", "A001", "王 小明", grade=9, class_name="2"))
    assert outcome(cast, made) == [("changed", student.id, [])]
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        assert enrolled(session, student.id) == [
            ("A", 8, "1", dt.date(2026, 9, 1), ON),
            ("A", 9, "2", ON, None),
        ]
        assert identity.names(session, [student.id]) == {student.id: "王小明"}


def test_a_blank_cell_denies_nothing(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        student = make_student(session, cast.school_a.id, name="何静", number="K1", phone="123456", class_name="4")
    made = laid_out(cast, a_row("A", "K1", "何静"))
    assert outcome(cast, made) == [("same", student.id, [])]


def test_what_was_unknown_is_added_to_the_vault(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        student = make_student(session, cast.school_a.id, name="何静", number="K1", age=None)
    made = laid_out(cast, a_row("A", "K1", "何静", born_on=dt.date(2012, 2, 29), guardian_phone="555", sex="f"))
    assert outcome(cast, made) == [("changed", student.id, [])]
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        assert identity.people(session, [student.id])[student.id] == Person("何静", "K1", dt.date(2012, 2, 29), "555")
        born = session.execute(text("select born_month from students where id = :s"), {"s": student.id}).scalar_one()
        assert born == dt.date(2012, 2, 1)
        assert len(enrolled(session, student.id)) == 1


def test_a_student_who_moved_is_the_same_child_at_the_new_school(cast: Cast) -> None:
    student = cast.students.in_school_b
    made = laid_out(cast, a_row("C", "B001", "王小明", grade=9, class_name="5"))
    assert outcome(cast, made) == [("moved", student.id, [])]
    commit(cast, made)
    now = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    with cast.database.unit(Scope(cast.district.id, frozenset({cast.school_c.id}))) as session:
        assert identity.names(session, [student.id]) == {student.id: "王小明"}
        assert consent.in_force(session, [student.id], at=now, policy=policy.shipped()) == {student.id}
    with cast.database.unit(cast.scope_b) as session:
        assert identity.names(session, [student.id]) == {}
    with cast.database.unit(cast.scope) as session:
        assert [(school, until) for school, _, _, _, until in enrolled(session, student.id)] == [("B", ON), ("C", None)]


def test_a_school_cannot_take_a_student_of_another_by_its_list(cast: Cast) -> None:
    made = laid_out(cast, a_row(None, "B001", "王小明"), a_row("A", "B002", "王小明"), scope=cast.scope_a)
    assert outcome(cast, made) == [("refused", None, ["ambiguous_student"]), ("new", None, [])]


def test_a_school_list_reaches_its_own_school_only(cast: Cast) -> None:
    made = laid_out(
        cast, a_row("B", "X1", "甲"), a_row("NOWHERE", "X2", "乙"), a_row(None, "X3", "丙"), scope=cast.scope_a
    )
    assert [(change, codes) for change, _, codes in outcome(cast, made)] == [
        ("refused", ["unknown_school"]),
        ("refused", ["unknown_school"]),
        ("new", []),
    ]
    commit(cast, made, scope=cast.scope_a)
    with cast.database.unit(cast.scope_b) as session, pytest.raises(NotFound):
        roster.proposal(session, made)


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ({"student_name": "王大明"}, "name_differs"),
        ({"born_on": dt.date(2013, 3, 16)}, "birth_date_differs"),
        ({"school_code": None}, "school_missing"),
        ({"school_code": "Z"}, "unknown_school"),
    ],
)
def test_what_is_not_certain_is_refused_and_touches_nobody(cast: Cast, cells: dict[str, Any], code: str) -> None:
    made = laid_out(cast, a_row("A", "A001", "王小明") | cells | {"grade": 12})
    assert outcome(cast, made) == [("refused", None, [code])]
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        assert [span[1] for span in enrolled(session, cast.students.granted_13.id)] == [8]


def test_a_number_that_other_schools_use_too_makes_no_match(cast: Cast) -> None:
    made = laid_out(cast, a_row("B", "A002", "李小花"))
    assert outcome(cast, made) == [("new", None, [])]


def test_two_children_elsewhere_with_one_number_and_name_are_for_a_person_to_tell_apart(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        make_student(session, cast.school_b.id, name="何静", number="K1")
        make_student(session, cast.school_c.id, name="何静", number="K1")
    made = laid_out(cast, a_row("A", "K1", "何静"))
    assert outcome(cast, made) == [("refused", None, ["ambiguous_student"])]


def test_rows_about_one_number_are_all_refused(cast: Cast) -> None:
    made = laid_out(cast, a_row("A", "T1", "甲"), a_row("A", " Ｔ1 ", "乙"), a_row("A", "T2", "丙"))
    assert [(change, codes) for change, _, codes in outcome(cast, made)] == [
        ("refused", ["duplicate_student"]),
        ("refused", ["duplicate_student"]),
        ("new", []),
    ]


def test_two_schools_that_claim_one_child_are_both_refused(cast: Cast) -> None:
    made = laid_out(cast, a_row("A", "B001", "王小明"), a_row("C", "B001", "王小明"))
    assert {change for change, _, _ in outcome(cast, made)} == {"refused"}


def test_a_list_does_not_undo_a_refusal_but_takes_a_new_one(cast: Cast) -> None:
    made = laid_out(
        cast,
        a_row("A", "A004", "刘洋", grade=7, guardian_consent="granted"),
        a_row("A", "A001", "王小明", guardian_consent="declined"),
    )
    assert [(change, codes) for change, _, codes in outcome(cast, made)] == [
        ("same", ["consent_stands"]),
        ("changed", []),
    ]
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        in_force = consent.in_force(session, None, at=db.now(session) + dt.timedelta(days=1), policy=policy.shipped())
    assert in_force == cast.students.with_consent() - {cast.students.granted_13.id}


def test_students_whom_the_list_leaves_out_are_named_and_kept(cast: Cast) -> None:
    made = laid_out(cast, a_row("B", "NEW", "丁一"))
    with cast.database.unit(cast.scope) as session:
        found = roster.proposal(session, made)
        assert found.counts["missing_from_list"] == 1
        assert found.missing == [cast.students.in_school_b.id]
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        assert enrolled(session, cast.students.in_school_b.id)[-1][-1] is None


def test_a_proposal_overtaken_by_another_is_not_committed(cast: Cast) -> None:
    first = laid_out(cast, a_row("A", "N1", "孙悦"), a_row("A", "N2", "马超"))
    second = laid_out(cast, a_row("A", "N1", "孙悦"))
    commit(cast, second)
    with pytest.raises(Conflict) as refused:
        commit(cast, first)
    assert refused.value.code == "roster_outdated"
    with cast.database.unit(cast.scope) as session:
        assert session.execute(text("select count(*) from enrollments")).scalar_one() == 13
        assert roster.get(session, first).state == "proposed"


def test_what_the_reader_found_wrong_stays_with_its_row(cast: Cast) -> None:
    problems = pl.DataFrame(
        [
            {"sheet": "名单", "row": 3, "column": "姓名", "code": "no_student_name", "message": "m"},
            {"sheet": "名单", "row": 2, "column": "电话", "code": "bad_phone", "message": "m"},
            {"sheet": None, "row": None, "column": None, "code": "odd_file", "message": "m"},
        ],
        schema=PROBLEMS,
    )
    made = laid_out(cast, a_row("A", "N1", "孙悦"), a_row("A", "N2", "", is_proposable=False), problems=problems)
    assert outcome(cast, made) == [("new", None, ["bad_phone"]), ("refused", None, ["no_student_name"])]
    with cast.database.unit(cast.scope) as session:
        found = roster.proposal(session, made)
        assert [(p.code, p.row, p.column) for p in found.problems] == [
            ("odd_file", None, None),
            ("bad_phone", 2, "电话"),
            ("no_student_name", 3, "姓名"),
        ]
        assert found.roster.counts["problems"] == {"bad_phone": 1, "no_student_name": 1, "odd_file": 1}
        page = roster.proposal(session, made, after=2, limit=1)
        assert [row.row for row in page.rows] == [3]


def test_special_groups_follow_a_list_that_names_some(cast: Cast) -> None:
    commit(cast, laid_out(cast, a_row("A", "A001", "王小明", special_groups="left_behind, orphan")))
    commit(cast, laid_out(cast, a_row("A", "A001", "王小明", special_groups="orphan;disability")))
    commit(cast, laid_out(cast, a_row("A", "A001", "王小明")))
    with cast.database.unit(cast.scope) as session:
        groups = session.execute(text("select group_code from special_groups where until_on is null")).scalars()
        assert set(groups) == {"orphan", "disability"}


def test_a_proposal_keeps_what_it_says_sealed(cast: Cast) -> None:
    laid_out(cast, a_row("A", "N1", "Canary-Zaphod", guardian_phone="5550100"))
    with cast.database.unit(cast.scope) as session:
        rows = " ".join(session.execute(text("select r::text from roster_rows r")).scalars())
    assert "Canary" not in rows
    assert b"Canary".hex() not in rows


def test_lists_are_forgotten_after_their_time(cast: Cast) -> None:
    done, waiting = laid_out(cast, a_row("A", "N1", "孙悦")), laid_out(cast, a_row("A", "N2", "马超"))
    commit(cast, done)
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        assert roster.forget_due(session, now + dt.timedelta(days=6)) == 0
        assert roster.forget_due(session, now + dt.timedelta(days=8)) == 1
        assert roster.forget_due(session, now + dt.timedelta(days=8)) == 0
        assert roster.proposal(session, done).rows == []
        assert roster.forget_due(session, now + dt.timedelta(days=29)) == 1
    with pytest.raises(Conflict):
        commit(cast, waiting)


def test_a_school_is_named_when_the_scope_has_several(cast: Cast) -> None:
    both = Scope(cast.district.id, frozenset({cast.school_a.id, cast.school_b.id}))
    with cast.database.unit(both) as session, pytest.raises(Refused):
        roster.receive(session, [b"x"], "list.csv", by=cast.school_admin_a)
    with cast.database.unit(cast.scope_a) as session, pytest.raises(NotFound):
        roster.receive(session, [b"x"], "list.csv", by=cast.school_admin_a, school_id=cast.school_b.id)
    with cast.database.unit(cast.scope_a) as session, pytest.raises(InvalidUpload):
        roster.receive(session, [], "list.csv", by=cast.school_admin_a)


# -- from the file on ---------------------------------------------------------------------------------


def received(cast: Cast, content: bytes, **options: Any) -> uuid.UUID:
    with cast.database.unit(cast.scope) as session:
        return roster.receive(session, [content], "名单.csv", by=cast.district_admin, **options).id


def test_a_file_becomes_students(cast: Cast) -> None:
    content = (
        "学校代码,学号,姓名,性别,年级,班级,出生日期,家长同意\n"
        "A,S-1,钱多多,女,8,2,2012-11-05,同意\n"
        "A,S-2,,男,8,2,,\n"
        "A,A001,王小明,男,9,1,,\n"
    ).encode("gb18030")
    made = received(cast, content)
    assert roster.propose_waiting(cast.database, cast.district.id) == 1
    assert roster.propose(cast.database, cast.district.id, made) is False
    assert [change for change, _, _ in outcome(cast, made)] == ["new", "refused", "changed"]
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        names = {
            person.name
            for person in identity.people(session, session.execute(text("select id from students")).scalars()).values()
        }
    assert "钱多多" in names


def test_a_column_map_names_columns_that_are_called_otherwise(cast: Cast) -> None:
    content = b"code,pupil,who,year\nB,S-1,Ada,9\n"
    column_map = {"code": "school_code", "pupil": "student_number", "who": "student_name", "year": "grade"}
    made = received(cast, content, column_map=column_map)
    assert roster.propose(cast.database, cast.district.id, made)
    assert outcome(cast, made) == [("new", None, [])]


@pytest.mark.parametrize("content", [b"%PDF-1.7 not a list", b"a,b,c\n1,2,3\n", b"\n\n"])
def test_a_file_that_is_no_list_is_refused_with_its_problems(cast: Cast, content: bytes) -> None:
    made = received(cast, content)
    assert roster.propose(cast.database, cast.district.id, made)
    with cast.database.unit(cast.scope) as session:
        found = roster.proposal(session, made)
    assert found.roster.state == "refused"
    assert found.problems
    with pytest.raises(Conflict):
        commit(cast, made)


def test_a_list_that_another_worker_reads_is_left_to_it(cast: Cast) -> None:
    made = received(cast, b"x")
    with cast.database.direct() as other:
        other.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [f"roster/{made}"])
        assert roster.propose(cast.database, cast.district.id, made) is False


def test_a_large_file_comes_back_whole_and_is_erased(cast: Cast) -> None:
    pieces = [bytes([i]) * 700_000 for i in range(4)]
    with cast.database.unit(cast.scope_a) as session:
        stored = files.store_file(session, pieces, "answers.csv", school_id=cast.school_a.id)
        again = files.store_file(session, [b"".join(pieces)], "other.csv", school_id=cast.school_a.id)
        assert stored.byte_count == 2_800_000
        assert stored.digest == again.digest
        assert b"".join(files.read_file(session, stored.id)) == b"".join(pieces)
        assert files.file_name(session, stored) == "answers.csv"
        assert files.erase_file(session, stored.id) == 3
        assert files.erase_file(session, stored.id) == 0
        with pytest.raises(NotFound):
            next(files.read_file(session, stored.id))
    with cast.database.unit(cast.scope_b) as session, pytest.raises(NotFound):
        next(files.read_file(session, again.id))


def test_a_file_larger_than_allowed_is_refused(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(InvalidUpload) as refused:
        files.store_file(session, [b"x" * 1_000_001], "big.csv", max_bytes=1_000_000)
    assert refused.value.code == "too_large"


# -- no wrong child -----------------------------------------------------------------------------------

STORM = os.environ.get("SCREENING_STORM") == "1"
SCHOOLS = ("A", "B", "C")
CHILD = st.tuples(st.sampled_from(SCHOOLS), st.sampled_from("123"), st.sampled_from(("李明", "李 明", "王芳", "王方")))


@pytest.mark.storm
@settings(
    deadline=None,
    max_examples=10_000 if STORM else 50,
    derandomize=not STORM,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.data())
def test_hostile_lists_never_attach_a_row_to_another_child(database: Database, data: st.DataObject) -> None:
    """Same names, reused numbers, swapped schools: a committed row is about the child whose number and name it has."""
    cast_district = make_district(database)
    scope = Scope(cast_district.id)
    by = access.system(cast_district.id)
    with database.unit(scope) as session:
        schools = {code: make_school(session, code=code).id for code in SCHOOLS}
        known = data.draw(st.lists(CHILD, max_size=5, unique_by=lambda child: child[:2]))
        children = {
            make_student(session, schools[school], number=number, name=name, consents=[]).id: (number, name)
            for school, number, name in known
        }
        rows = [a_row(school, number, name) for school, number, name in data.draw(st.lists(CHILD, max_size=6))]
        made = roster.receive(session, [b"x"], "list.csv", by=by)
        roster.lay_out(session, made.id, frame(*rows), NO_PROBLEMS)
        found = roster.proposal(session, made.id).rows
        assert len(found) == len(rows)
        for row in found:
            if row.student_id is not None and row.listed is not None:
                number, name = children[row.student_id]
                assert (row.listed.number, identity.normal_name(row.listed.name)) == (
                    number,
                    identity.normal_name(name),
                )
            assert row.change != "refused" or row.problems
        roster.commit(session, made.id, by=by, on=ON, follow=following.follow)
        people = identity.people(session, children)
        assert {child: (p.number, p.name) for child, p in people.items()} == children


def test_consent_recorded_between_list_and_commit_stands(cast: Cast) -> None:
    made = laid_out(cast, a_row("A", "A005", "陈静", grade=7, guardian_consent="granted"))
    with cast.database.unit(cast.scope) as session:
        decide(session, cast.students.undecided_11.id, "declined", at=db.now(session))
    commit(cast, made)
    with cast.database.unit(cast.scope) as session:
        later = db.now(session) + dt.timedelta(days=1)
        student = cast.students.undecided_11.id
        assert consent.in_force(session, [student], at=later, policy=policy.shipped()) == frozenset()
