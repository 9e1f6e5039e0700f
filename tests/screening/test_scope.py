"""What a scope lets through, tried on a row of every tenant table: its district, its schools, nothing when unset."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import alerts.models  # noqa: F401 - its tables belong to the schema
from screening import access, embedded
from screening.access import Scope
from screening.db import Database
from screening.models import DISTRICT_WIDE_TABLES, GLOBAL_TABLES, Base
from tests.cast import Cast

TENANTS = sorted(Base.metadata.tables.keys() - GLOBAL_TABLES)
HAS_SCHOOL = {name: "school_id" in Base.metadata.tables[name].columns for name in TENANTS}
NAMED = sorted(name for name in TENANTS if HAS_SCHOOL[name] and name not in DISTRICT_WIDE_TABLES)
MASTER_KEY = bytes(32)
NO_RIGHT = "42501"

_VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "'x'",
    "bytea": "'x'::bytea",
    "integer": "1",
    "bigint": "1",
    "smallint": "1",
    "real": "1",
    "boolean": "false",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "jsonb": "'{}'::jsonb",
    "ARRAY": "'{}'",
}


@dataclass(frozen=True)
class Filled:
    """A database with one row per school of two districts in every tenant table."""

    database: Database
    ours: uuid.UUID
    theirs: uuid.UUID
    school_a: uuid.UUID
    school_b: uuid.UUID
    columns: dict[str, list[tuple[str, str]]]

    def insert(self, table: str, district_id: uuid.UUID, school_id: uuid.UUID) -> str:
        """A statement that adds a row of that district and school to any tenant table."""
        given = {"district_id": f"'{district_id}'", "school_id": f"'{school_id}'"}
        values = {name: given.get(name, _VALUES[kind]) for name, kind in self.columns[table]}
        return f"insert into {table} ({', '.join(values)}) values ({', '.join(values.values())})"


@pytest.fixture(scope="module")
def filled(server: embedded.Server, template: str) -> Iterator[Filled]:
    server.create_database("scopes", template=template)
    opened = Database(server.url(database="scopes", role="app"), MASTER_KEY)
    ours, theirs, school_a, school_b = (uuid.uuid4() for _ in range(4))
    with psycopg.connect(server.url(database="scopes", role="superuser"), autocommit=True) as connection:
        made = Filled(opened, ours, theirs, school_a, school_b, _needed(connection))
        # what a row says and refers to is no matter here: only whose it is
        for table, constraint in connection.execute(
            "select conrelid::regclass::text, conname from pg_constraint where contype = 'c'"
            " and connamespace = 'public'::regnamespace"
        ).fetchall():
            drop = sql.SQL("alter table {} drop constraint {}")
            connection.execute(drop.format(sql.Identifier(table), sql.Identifier(constraint)))
        connection.execute("set session_replication_role = replica")
        for district_id, schools in ((ours, (school_a, school_b)), (theirs, (uuid.uuid4(), uuid.uuid4()))):
            for school_id in schools:
                for table in TENANTS:
                    connection.execute(made.insert(table, district_id, school_id).encode())
    yield made
    opened.dispose()
    server.drop_database("scopes")


def _needed(connection: "psycopg.Connection[tuple[object, ...]]") -> dict[str, list[tuple[str, str]]]:
    """The columns of every table that a row must give, or that say whose it is."""
    found: dict[str, list[tuple[str, str]]] = {}
    for table, name, kind in connection.execute(
        "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public'"
        " and is_generated = 'NEVER' and is_identity = 'NO'"
        " and (column_default is null and is_nullable = 'NO' or column_name = 'school_id')"
    ).fetchall():
        found.setdefault(str(table), []).append((str(name), str(kind)))
    # a key of one row per district would not take the second school's row
    return found | {
        name: _with_own_keys(name, columns) for name, columns in found.items() if name in Base.metadata.tables
    }


def _with_own_keys(name: str, columns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(column, "own text" if (name, column) in _UNIQUE_TEXTS else kind) for column, kind in columns]


_UNIQUE_TEXTS = {
    ("calendar_days", "calendar"),
    ("schools", "code"),
    ("definitions", "digest"),
    ("rule_sets", "digest"),
}
_VALUES["own text"] = "gen_random_uuid()::text"


def count(session: Session, table: str) -> int:
    return int(session.execute(text(f"select count(*) from {table}")).scalar_one())


@pytest.mark.parametrize("table", TENANTS)
def test_each_scope_sees_its_own_rows(filled: Filled, table: str) -> None:
    is_named = table in NAMED
    with filled.database.unit() as session:
        assert count(session, table) == 0
    for district_id in (filled.ours, filled.theirs):
        with filled.database.unit(Scope(district_id)) as session:
            assert count(session, table) == 2
            assert session.execute(text(f"select distinct district_id from {table}")).scalars().all() == [district_id]
    with filled.database.unit(Scope(filled.ours, frozenset({filled.school_a}))) as session:
        assert count(session, table) == (1 if is_named else 2)
        if is_named:
            assert session.execute(text(f"select school_id from {table}")).scalar_one() == filled.school_a
    with filled.database.unit(Scope(filled.ours, frozenset({filled.school_a, filled.school_b}))) as session:
        assert count(session, table) == 2
    with filled.database.unit(Scope(filled.ours, frozenset())) as session:
        assert count(session, table) == (0 if is_named else 2)
    with filled.database.unit(Scope(uuid.uuid4())) as session:
        assert count(session, table) == 0


@pytest.mark.parametrize("table", TENANTS)
def test_a_row_of_another_district_or_school_is_refused_by_the_database(filled: Filled, table: str) -> None:
    attempts = [(None, filled.ours, filled.school_a), (Scope(filled.ours), filled.theirs, filled.school_a)]
    if table in NAMED:
        attempts.append((Scope(filled.ours, frozenset({filled.school_a})), filled.ours, filled.school_b))
        attempts.append((Scope(filled.ours, frozenset()), filled.ours, filled.school_a))
    for scope, district_id, school_id in attempts:
        with pytest.raises(DBAPIError) as refused, filled.database.unit(scope) as session:
            session.execute(text(filled.insert(table, district_id, school_id).replace(":", r"\:")))
        assert isinstance(refused.value.orig, psycopg.Error)
        assert "row-level security" in str(refused.value.orig), table


@pytest.mark.parametrize("table", [name for name in NAMED if HAS_SCHOOL[name]])
def test_a_row_cannot_be_pushed_out_of_the_scope(filled: Filled, table: str) -> None:
    with (
        pytest.raises(DBAPIError) as refused,
        filled.database.unit(Scope(filled.ours, frozenset({filled.school_a}))) as session,
    ):
        session.execute(text(f"update {table} set school_id = :other"), {"other": filled.school_b})
    assert isinstance(refused.value.orig, psycopg.Error)
    assert refused.value.orig.sqlstate == NO_RIGHT


def test_after_a_unit_its_connection_has_no_scope_left(cast: Cast) -> None:
    one = Database(cast.database.url, cast.database.master_key, pool_size=1)
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
