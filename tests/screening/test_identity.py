"""The vault opens only with the right keys, for the right row, and nothing named stands outside it."""

import datetime as dt
import time
import uuid

import pytest
from sqlalchemy import text

from screening import identity, sealing
from screening.access import Scope
from screening.db import Database
from screening.identity import Person
from screening.models import Base, Student
from tests.cast import Cast
from tests.factories import make_district, make_school, make_student


def test_a_person_comes_back_as_entered(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        ming = make_student(session, cast.school_a.id, name="欧阳 明", number="2024001", age=13, phone="13800000000")
        assert identity.people(session, [ming.id]) == {
            ming.id: Person("欧阳 明", "2024001", dt.date(2013, 3, 15), "13800000000")
        }
        assert identity.names(session, [ming.id]) == {ming.id: "欧阳 明"}


def test_names_stay_within_the_schools_of_the_scope(cast: Cast) -> None:
    students = cast.students
    with cast.database.unit(cast.scope_b) as session:
        assert identity.names(session, [students.in_school_b.id, students.granted_13.id]) == {
            students.in_school_b.id: "王小明"
        }


def test_a_name_stands_in_no_column_of_any_table(cast: Cast) -> None:
    canary = "Zaphod-Canary-7351"
    with cast.database.unit(cast.scope) as session:
        make_student(session, cast.school_a.id, name=canary, number="NUMBER-CANARY-88", phone="PHONE-CANARY-99")
        for table in Base.metadata.sorted_tables:
            for needle in (canary, "NUMBER-CANARY-88", "PHONE-CANARY-99"):
                # bytes are shown as hex in a row's text, so the needle is looked for in both writings
                hit = session.execute(
                    text(f'select count(*) from "{table.name}" t where t::text ilike :plain or t::text ilike :hex'),
                    {"plain": f"%{needle}%", "hex": f"%{needle.encode().hex()}%"},
                ).scalar_one()
                assert hit == 0, table.name


def test_a_value_copied_to_another_student_does_not_open(cast: Cast) -> None:
    one, other = cast.students.granted_13.id, cast.students.own_grant_13.id
    with cast.database.unit(cast.scope) as session:
        for columns in ("wrapped_key = o.wrapped_key, sealed = o.sealed", "sealed = o.sealed"):
            with session.begin_nested() as attempt:
                session.execute(
                    text(
                        f"update identities i set {columns} from identities o where o.district_id = i.district_id"
                        " and o.student_id = :one and i.student_id = :other"
                    ),
                    {"one": one, "other": other},
                )
                with pytest.raises(sealing.CannotOpen):
                    identity.people(session, [other])
                attempt.rollback()
        assert identity.names(session, [other]) == {other: "李华"}


def test_another_master_key_opens_nothing(cast: Cast) -> None:
    stranger = Database(cast.database.url, bytes(32))
    try:
        with pytest.raises(sealing.CannotOpen), stranger.unit(cast.scope) as session:
            identity.people(session, [cast.students.granted_13.id])
    finally:
        stranger.dispose()


@pytest.mark.parametrize("written", ["王小明", "王 小明", " 王小明 ", "王　小明"])
def test_names_that_differ_in_spaces_only_are_found_alike(written: str) -> None:
    keys = sealing.Keys(uuid.UUID(int=1), (bytes(32),))
    assert identity.name_hash(keys, written) == identity.name_hash(keys, "王小明")


def test_numbers_hash_alike_one_by_one_and_as_a_column() -> None:
    keys = sealing.Keys(uuid.UUID(int=1), (bytes(32),))
    numbers = ["2024001", " 2024001 ", "２０２４００１", "A-7", "甲7", "", "0007"]
    hashes = identity.number_hashes(keys, numbers)
    assert hashes == [identity.number_hash(keys, number) for number in numbers]
    assert hashes[0] == hashes[1] == hashes[2] == keys.lookup("2024001", "number")
    assert len(set(hashes)) == 5


def test_a_district_of_students_is_entered_in_seconds(database: Database) -> None:
    district = make_district(database)
    with database.unit(Scope(district.id)) as session:
        school = make_school(session)
        students = [uuid.uuid4() for _ in range(4_000)]
        session.execute(
            Student.__table__.insert(),  # type: ignore[attr-defined]
            [{"district_id": district.id, "id": student, "school_id": school.id} for student in students],
        )
        start = time.perf_counter()
        identity.enter_many(
            session, ((student, school.id, Person(f"学生{i}", f"S{i}")) for i, student in enumerate(students))
        )
        entered = time.perf_counter() - start
        assert len(identity.people(session, students)) == 4_000
    assert entered < 4, f"{entered:.2f} s for 4,000"
