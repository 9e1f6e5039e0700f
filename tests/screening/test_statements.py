"""Hot statements, spoken by the library under the driver, mean and fail as the session's own would."""

import datetime as dt
import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from screening.db import Database
from screening.statements import Statement, driver_of

ECHO = Statement(
    "select cast(:id as uuid) as id, cast(:n as bigint) as n, cast(:word as text) as word,"
    " cast(:at as timestamptz) as at, cast(:on as date) as on_day, cast(:ids as uuid[]) as ids,"
    " cast(:sealed as bytea) as sealed, cast(:nothing as text) as nothing, cast(:tiers as smallint[]) as tiers,"
    " jsonb_build_object('a', 1) as found, :n > 1 as is_more"
)
ASKED: dict[str, Any] = {
    "id": uuid.UUID(int=7),
    "n": 2**40,
    "word": "北京 100% 'of' \"it\"",
    "at": dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC),
    "on": dt.date(2024, 2, 29),
    "ids": [uuid.UUID(int=1), uuid.UUID(int=2)],
    "sealed": b"\x00\xff'\\",
    "nothing": None,
    "tiers": [3, 2],
}


def test_what_is_written_is_what_is_read(database: Database) -> None:
    with database.unit() as session:
        (row,) = ECHO.run(session, ASKED)
    on_day = row.pop("on_day")
    assert row == {key: value for key, value in ASKED.items() if key != "on"} | {"found": {"a": 1}, "is_more": True}
    assert on_day == ASKED["on"]


def test_it_says_the_same_as_the_session_would(database: Database) -> None:
    with database.unit() as session:
        own = session.execute(text(ECHO.sql), ASKED).mappings().one()
        assert dict(own) == ECHO.first(session, ASKED)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select nowhere", ProgrammingError),
        ("select 1 / (1 - :one)", DataError),
        ("insert into districts (id, code, name, wrapped_key) values (null, 'a', 'b', '')", IntegrityError),
    ],
)
def test_it_fails_as_the_session_would(database: Database, sql: str, kind: type[DBAPIError]) -> None:
    asked = {"one": 1} if ":one" in sql else {}
    states = []
    for is_ours in (True, False):
        with pytest.raises(kind) as raised, database.unit() as session:
            Statement(sql).run(session, asked) if is_ours else session.execute(text(sql), asked)
        states.append(raised.value.orig.sqlstate)  # type: ignore[union-attr]
    assert states[0] == states[1]


def test_a_rollback_takes_back_what_it_wrote_and_leaves_it_usable(database: Database) -> None:
    makes = Statement("select set_config('screening.schools', :to, true) as set, now() as at")
    for _ in range(8):  # beyond what the driver would prepare by itself
        with pytest.raises(KeyError), database.unit() as session:
            session.execute(text("select 1"))
            assert makes.first(session, {"to": "{}"}) is not None
            raise KeyError
        with database.unit() as session:
            left = Statement("select current_setting('screening.schools', true) as left").first(session, {})
            assert left in ({"left": ""}, {"left": None})


def test_a_savepoint_that_is_rolled_back_costs_nothing_that_was_prepared(database: Database) -> None:
    with database.unit() as session:
        for _ in range(8):
            assert ECHO.first(session, ASKED)
            inner = session.begin_nested()
            session.execute(text("select 1"))
            inner.rollback()
        assert ECHO.first(session, ASKED)


def test_who_made_the_server_forget_is_forgiven_at_the_next_transaction(database: Database) -> None:
    one = Statement("select 1 as one")
    with pytest.raises(DBAPIError), database.unit() as session:
        one.run(session, {})
        driver_of(session).execute("deallocate all")
        one.run(session, {})
    with database.unit() as session:
        assert one.run(session, {}) == [{"one": 1}]


def test_alone_is_a_transaction_by_itself_and_leaves_no_scope(database: Database) -> None:
    sets = Statement("select set_config('screening.schools', '*', true) as set")
    stands = Statement("select coalesce(current_setting('screening.schools', true), '') as schools")
    assert sets.alone(database.engine, {}) == [{"set": "*"}]
    assert stands.alone(database.engine, {}) == [{"schools": ""}]
    with pytest.raises(ProgrammingError):
        Statement("select nowhere").alone(database.engine, {})
    assert stands.alone(database.engine, {}) == [{"schools": ""}]


def test_who_waits_for_the_database_lets_others_work(database: Database) -> None:
    """Statements that wait for a lock, in threads: were one thread to keep the interpreter, nobody could free them."""
    lock = Statement("select pg_advisory_xact_lock(:key)")
    key = uuid.uuid4().int % 2**62
    done = []

    def waits() -> None:
        with database.unit() as session:
            lock.run(session, {"key": key})
            done.append(key)

    with database.unit() as session:
        lock.run(session, {"key": key})
        waiting = [threading.Thread(target=waits) for _ in range(3)]
        for each in waiting:
            each.start()
        assert done == []
    for each in waiting:
        each.join(timeout=30)
    assert done == [key] * 3
