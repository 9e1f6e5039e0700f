"""What the planner knows of a district that has just come."""

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from screening import embedded, planner, retention
from screening.access import Scope
from screening.db import Database
from screening.inserting import insert_many
from tests import sending
from tests.cast import Cast, assemble
from tests.factories import Pupil, make_district, make_round, make_school, make_students
from tests.files import csv_of, phq9


def common_districts(server: embedded.Server, database: Database) -> list[str]:
    """What statistics say of which district the most students are of; the app itself may not look into them."""
    name = make_url(database.url).database or ""
    with psycopg.connect(server.url(database=name, role="superuser")) as connection:
        row = connection.execute(
            "select cast(cast(most_common_vals as text) as uuid[]) from pg_stats"
            " where tablename = 'students' and attname = 'district_id'"
        ).fetchone()
    return [str(one) for one in row[0]] if row else []


def enroll(database: Database, n_students: int) -> str:
    district = make_district(database)
    with database.unit(Scope(district.id)) as session:
        school = make_school(session).id
        rows = [{"id": uuid.uuid4(), "school_id": school, "sex": "x", "born_month": None} for _ in range(n_students)]
        types = {"id": "uuid", "school_id": "uuid", "sex": "text", "born_month": "date"}
        insert_many(session, "students", types, rows)
        planner.refresh(session, "students", changed=n_students)
    return str(district.id)


def test_a_second_district_is_known_as_soon_as_its_list_is_in(
    server: embedded.Server, fresh_database: Database
) -> None:
    first = enroll(fresh_database, planner.WORTH_TELLING)
    second = enroll(fresh_database, 2 * planner.WORTH_TELLING)
    assert common_districts(server, fresh_database) == [second, first]


def test_a_few_students_are_not_worth_it(server: embedded.Server, fresh_database: Database) -> None:
    enroll(fresh_database, planner.WORTH_TELLING - 1)
    assert common_districts(server, fresh_database) == []


@pytest.mark.parametrize("name", ["accounts; drop table students", 'x"; select 1; --'])
def test_only_a_table_can_be_counted(database: Database, name: str) -> None:
    with pytest.raises(Exception, match="does not exist"), database.unit() as session:
        planner.refresh(session, name, changed=planner.WORTH_TELLING)


def read_rows(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each part of an explained statement read, over all of its turns."""
    yield (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from read_rows(part)


@pytest.mark.parametrize("sought", [retention._PERSONS, retention._ANSWERS])
def test_who_has_left_is_found_in_one_reading_where_nothing_is_known_of_any_table(
    fresh_database: Database, sought: str
) -> None:
    n_students, today = 2_000, dt.date(2026, 9, 1)
    district = make_district(fresh_database)
    with fresh_database.unit(Scope(district.id)) as session:
        school = make_school(session).id
        make_students(session, [Pupil(school_id=school) for _ in range(n_students)])
    given = {
        "district": district.id,
        "left_by": today,
        "notes_by": dt.datetime(2026, 9, 1, tzinfo=dt.UTC),
        "limit": 500,
    }
    with fresh_database.unit(Scope(district.id)) as session:
        (explained,) = session.execute(text(f"explain (analyze, format json) {sought}"), given).scalar_one()
    assert sum(read_rows(explained["Plan"])) < 10 * n_students


@pytest.fixture
def cast(fresh_database: Database) -> Cast:
    """The cast in a database of this test's own: what it counts would be read by other tests too."""
    return assemble(fresh_database)


def rows_read(server: embedded.Server, database: Database, *tables: str) -> int:
    """How often a row of these tables was read since the database was made, by itself or by an index."""
    database.dispose()  # a connection says what it read when it ends
    name = make_url(database.url).database or ""
    with psycopg.connect(server.url(database=name, role="superuser")) as connection:
        row = connection.execute(
            "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables where relname = any(%s)",
            [list(tables)],
        ).fetchone()
    assert row is not None
    return int(row[0])


def raised_and_taken_back(server: embedded.Server, database: Database, round_id: uuid.UUID) -> None:
    """An alert for every student in a load that is cut off, after which the database counts by itself."""
    name = make_url(database.url).database or ""
    with psycopg.connect(server.url(database=name, role="superuser")) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "insert into alerts (district_id, id, school_id, student_id, round_id, source, tier, has_self_harm, state,"
            " opened_at, raised_at, answer_by, see_by) select district_id, gen_random_uuid(), school_id, id, %s,"
            " 'result', 1, false, 'new', now(), now(), now(), now() from students",
            [round_id],
        )
        connection.rollback()
        connection.execute("analyze alerts")


@pytest.mark.parametrize("before", ["nothing", "small files", "a load that was cut off"])
def test_a_load_reads_its_alerts_as_seldom_whatever_came_before(
    server: embedded.Server, cast: Cast, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    n_students, n_small = 1_500, 10
    numbers = [f"P{n:05}" for n in range(n_small + n_students)]
    with cast.database.unit(cast.scope) as session:
        make_students(session, [Pupil(school_id=cast.school_a.id, number=number) for number in numbers])
        this = make_round(session)
    sending.read_here(monkeypatch)
    if before == "small files":  # a plan is kept when it was made five times
        for number in numbers[:n_small]:
            assert sending.send(cast, this.id, csv_of(phq9(number, 3))).outcomes("phq9/self") == {"accepted": 1}
    if before == "a load that was cut off":
        raised_and_taken_back(server, cast.database, this.id)
    sent = sending.send(cast, this.id, csv_of(*(phq9(number, 3) for number in numbers[n_small:])))
    assert sent.outcomes("phq9/self") == {"accepted": n_students}
    assert n_students < rows_read(server, cast.database, "alerts") < 20 * n_students
