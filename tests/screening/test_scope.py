"""What a scope lets through, tried on a row of every tenant table: its district, its schools, nothing when unset."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from screening import access, embedded
from screening.access import Scope
from screening.db import Database
from tests.cast import Cast
from tests.screening.every_table import NAMED, SCHOOL_COLUMNS, TENANTS, Filled, fill

MASTER_KEY = bytes(32)
NO_RIGHT = "42501"


@dataclass(frozen=True)
class Scopes:
    """A database with one row per school of two districts in every tenant table."""

    database: Database
    rows: Filled


@pytest.fixture(scope="module")
def scopes(server: embedded.Server, template: str) -> Iterator[Scopes]:
    server.create_database("scopes", template=template)
    opened = Database(server.url(database="scopes", role="app"), MASTER_KEY)
    yield Scopes(opened, fill(server.url(database="scopes", role="superuser")))
    opened.dispose()
    server.drop_database("scopes")


def count(session: Session, table: str) -> int:
    return int(session.execute(text(f"select count(*) from {table}")).scalar_one())


@pytest.mark.parametrize("table", TENANTS)
def test_each_scope_sees_its_own_rows(scopes: Scopes, table: str) -> None:
    is_named, rows, database = table in NAMED, scopes.rows, scopes.database
    with database.unit() as session:
        assert count(session, table) == 0
    for district_id in (rows.ours, rows.theirs):
        with database.unit(Scope(district_id)) as session:
            assert count(session, table) == 2
            assert session.execute(text(f"select distinct district_id from {table}")).scalars().all() == [district_id]
    with database.unit(Scope(rows.ours, frozenset({rows.school_a}))) as session:
        assert count(session, table) == (1 if is_named else 2)
        for column in SCHOOL_COLUMNS[table] if is_named else ():
            assert session.execute(text(f"select {column} from {table}")).scalar_one() == rows.school_a
    with database.unit(Scope(rows.ours, frozenset({rows.school_a, rows.school_b}))) as session:
        assert count(session, table) == 2
    with database.unit(Scope(rows.ours, frozenset())) as session:
        assert count(session, table) == (0 if is_named else 2)
    with database.unit(Scope(uuid.uuid4())) as session:
        assert count(session, table) == 0


@pytest.mark.parametrize("table", TENANTS)
def test_a_row_of_another_district_or_school_is_refused_by_the_database(scopes: Scopes, table: str) -> None:
    rows = scopes.rows
    attempts = [(None, rows.ours, rows.school_a), (Scope(rows.ours), rows.theirs, rows.school_a)]
    if table in NAMED:
        attempts.append((Scope(rows.ours, frozenset({rows.school_a})), rows.ours, rows.school_b))
        attempts.append((Scope(rows.ours, frozenset()), rows.ours, rows.school_a))
    for scope, district_id, school_id in attempts:
        with pytest.raises(DBAPIError) as refused, scopes.database.unit(scope) as session:
            session.execute(text(rows.insert(table, district_id, school_id).replace(":", r"\:")))
        assert isinstance(refused.value.orig, psycopg.Error)
        assert "row-level security" in str(refused.value.orig), table


@pytest.mark.parametrize("table", NAMED)
def test_a_row_cannot_be_pushed_out_of_the_scope(scopes: Scopes, table: str) -> None:
    rows = scopes.rows
    away = ", ".join(f"{column} = :other" for column in SCHOOL_COLUMNS[table])
    with (
        pytest.raises(DBAPIError) as refused,
        scopes.database.unit(Scope(rows.ours, frozenset({rows.school_a}))) as session,
    ):
        session.execute(text(f"update {table} set {away}"), {"other": rows.school_b})
    assert isinstance(refused.value.orig, psycopg.Error)
    assert refused.value.orig.sqlstate == NO_RIGHT


def test_after_a_unit_its_connection_has_no_scope_left(cast: Cast) -> None:
    one = Database(cast.database.url, cast.database.ring, pool_size=1)
    try:
        with one.unit(cast.scope) as session:
            assert count(session, "students") == 12
            held = session.execute(text("select pg_backend_pid()")).scalar_one()
        with one.unit() as session:
            assert session.execute(text("select pg_backend_pid()")).scalar_one() == held
            assert count(session, "students") == 0
        with pytest.raises(ZeroDivisionError), one.unit(cast.scope):
            raise ZeroDivisionError
        with one.unit() as session:
            assert count(session, "students") == 0
    finally:
        one.dispose()


def test_a_school_sees_nothing_of_another_by_any_id(cast: Cast) -> None:
    with cast.database.unit(cast.scope_b) as session:
        for student in cast.students.all():
            seen = session.execute(
                text("select count(*) from students where id = :id"), {"id": student.id}
            ).scalar_one()
            assert seen == (1 if student.school_id == cast.school_b.id else 0)


def test_a_reference_across_districts_cannot_be_written(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        outsider = uuid.uuid4()
        with pytest.raises(DBAPIError) as refused, session.begin_nested():
            session.execute(
                text(
                    "insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version,"
                    " channel, decided_at)"
                    " values (:d, gen_random_uuid(), :s, :school, 'granted', 'guardian', 'v', 'c', now())"
                ),
                {"d": cast.district.id, "s": outsider, "school": cast.school_a.id},
            )
        assert isinstance(refused.value.orig, psycopg.errors.ForeignKeyViolation)


def test_a_scope_of_no_school_is_not_a_scope_of_all() -> None:
    actor = access.Actor(uuid.uuid4(), uuid.uuid4())
    assert actor.scope_as(["counselor"]).schools == frozenset()
