"""What the planner knows of a district that has just come."""

import uuid

import psycopg
import pytest
from sqlalchemy.engine import make_url

from screening import embedded, planner
from screening.access import Scope
from screening.db import Database
from screening.inserting import insert_many
from tests.factories import make_district, make_school


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
