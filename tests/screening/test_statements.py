"""Hot statements, spoken by the library under the driver, mean and fail as the session's own would."""

import contextlib
import datetime as dt
import os
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError

from screening import statements
from screening.db import Database
from screening.models import District
from screening.statements import Statement, driver_of, send_what_waits

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


@pytest.mark.parametrize("is_put_off", [False, True])
def test_who_waits_for_the_database_lets_others_work(database: Database, *, is_put_off: bool) -> None:
    """Statements that wait for a lock, in threads: were one thread to keep the interpreter, nobody could free them."""
    lock = Statement("select pg_advisory_xact_lock(:key)")
    key = uuid.uuid4().int % 2**62
    done = []

    def waits() -> None:
        with database.unit() as session:
            if is_put_off:
                lock.later(session, {"key": key})
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


# -- what is put off ----------------------------------------------------------------------------------------------

SETS = Statement("select set_config('screening.schools', :to, true) as was")
STANDS = Statement("select current_setting('screening.schools', true) as schools")
FAILS = Statement("select 1 / (1 - :one)")
DISTRICT = Statement(
    "insert into districts (id, code, name, wrapped_key) values (:id, cast(:id as text), 'put off', '')"
)
THERE = text("select count(*) from districts where id = :id")


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many statements went along in each trip to the database."""
    counted: list[int] = []
    say = statements._Line.say

    def counts(line: statements._Line, asked: Sequence[statements.Later]) -> None:
        counted.append(len(asked))
        say(line, asked)

    monkeypatch.setattr(statements._Line, "say", counts)
    return counted


def test_what_is_put_off_goes_along_with_what_is_asked_next(database: Database, trips: list[int]) -> None:
    with database.unit() as session:
        first = SETS.later(session, {"to": "{a}"})
        SETS.later(session, {"to": "{b}"})
        assert STANDS.run(session, {}) == [{"schools": "{b}"}]
        assert first.rows() == [{"was": "{a}"}]
        assert SETS.later(session, {"to": "{c}"}).rows() == [{"was": "{c}"}]
    assert trips == [4, 1]  # the beginning of the transaction goes along too


def test_much_is_put_off_as_well_as_little(database: Database) -> None:
    length = Statement("select length(:text) as length, cast(:text as text) as text")
    long = "a" * 3_000_000  # neither way holds as much at once
    with database.unit() as session:
        first, second = (length.later(session, {"text": long}) for _ in range(2))
        assert length.run(session, {"text": "b"}) == [{"length": 1, "text": "b"}]
        assert first.rows() == second.rows() == [{"length": len(long), "text": long}]


def test_what_is_put_off_goes_along_with_the_commit(database: Database, trips: list[int]) -> None:
    made = uuid.uuid4()
    with database.unit() as session:
        DISTRICT.later(session, {"id": made})
        assert trips == []
    assert trips == [3]
    with database.unit() as session:
        assert session.execute(THERE, {"id": made}).scalar_one() == 1


def test_whatever_the_session_says_itself_comes_after_what_was_put_off(database: Database) -> None:
    with database.unit() as session:
        SETS.later(session, {"to": "{a}"})
        assert session.execute(text(STANDS.sql)).scalar_one() == "{a}"
        SETS.later(session, {"to": "{b}"})
        assert driver_of(session).execute(STANDS.sql.encode()).fetchone() == ("{b}",)


def test_what_is_put_off_comes_after_what_the_session_had_to_write(database: Database) -> None:
    made = uuid.uuid4()
    with database.unit() as session:
        session.add(District(id=made, code=str(made), name="written before", wrapped_key=b""))
        found = Statement("select name from districts where id = :id").later(session, {"id": made})
        assert found.rows() == [{"name": "written before"}]
        session.rollback()


def test_who_rolls_back_never_says_what_was_put_off(database: Database) -> None:
    made = uuid.uuid4()
    with pytest.raises(KeyError), database.unit() as session:
        DISTRICT.later(session, {"id": made})
        raise KeyError
    with database.unit() as session:
        assert session.execute(THERE, {"id": made}).scalar_one() == 0


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_savepoint_keeps_or_loses_what_was_put_off_within_it(database: Database, *, is_kept: bool) -> None:
    before, within = uuid.uuid4(), uuid.uuid4()
    with database.unit() as session:
        DISTRICT.later(session, {"id": before})
        inner = session.begin_nested()
        DISTRICT.later(session, {"id": within})
        inner.commit() if is_kept else inner.rollback()
    with database.unit() as session:
        assert session.execute(THERE, {"id": before}).scalar_one() == 1
        assert session.execute(THERE, {"id": within}).scalar_one() == is_kept


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_savepoint_keeps_or_loses_what_was_said_within_it(database: Database, *, is_kept: bool) -> None:
    within = uuid.uuid4()
    with database.unit() as session:
        STANDS.run(session, {})
        inner = session.begin_nested()
        DISTRICT.run(session, {"id": within})
        inner.commit() if is_kept else inner.rollback()
    with database.unit() as session:
        assert session.execute(THERE, {"id": within}).scalar_one() == is_kept


def test_what_fails_is_named_and_nothing_after_it_is_done(database: Database) -> None:
    made = uuid.uuid4()
    with pytest.raises(DataError) as raised, database.unit() as session:
        DISTRICT.later(session, {"id": made})
        FAILS.later(session, {"one": 1})
        STANDS.run(session, {})
    assert raised.value.statement == FAILS.sql
    with database.unit() as session:
        assert session.execute(THERE, {"id": made}).scalar_one() == 0


def test_what_fails_with_the_commit_undoes_it_all(database: Database) -> None:
    made = uuid.uuid4()
    with pytest.raises(DataError), database.unit() as session:
        DISTRICT.run(session, {"id": made})
        FAILS.later(session, {"one": 1})
    for _ in range(2):  # and the connection can be used on
        with database.unit() as session:
            assert STANDS.run(session, {}) is not None
            assert session.execute(THERE, {"id": made}).scalar_one() == 0


def test_a_transaction_that_failed_is_not_committed_by_what_was_put_off(database: Database) -> None:
    made = uuid.uuid4()
    with pytest.raises(DBAPIError), database.unit() as session:
        DISTRICT.run(session, {"id": made})
        with contextlib.suppress(DataError):
            FAILS.run(session, {"one": 1})
        SETS.later(session, {"to": "{}"})
    with database.unit() as session:
        assert session.execute(THERE, {"id": made}).scalar_one() == 0


def test_a_connection_that_dies_between_is_replaced(database: Database) -> None:
    for is_committed in (True, False):
        with pytest.raises(OperationalError), database.unit() as session:
            SETS.run(session, {"to": "{}"})
            _hang_up(driver_of(session).info.backend_pid)
            SETS.later(session, {"to": "{}"})
            if not is_committed:
                STANDS.run(session, {})
        with database.unit() as session:
            assert STANDS.run(session, {})


def _hang_up(backend: int) -> None:
    os.kill(backend, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(backend) and time.monotonic() < deadline:
        time.sleep(0.01)


# -- what is sent and heard later ----------------------------------------------------------------------------------

HELD = Statement("select pg_advisory_xact_lock(:key)")


def test_what_is_sent_is_done_while_its_asker_does_something_else(database: Database) -> None:
    key = uuid.uuid4().int % 2**62
    with database.unit() as session, database.unit() as other:
        HELD.later(session, {"key": key})
        send_what_waits(session)
        deadline = time.monotonic() + 30
        tries = Statement("select pg_try_advisory_xact_lock(:key) as is_free")
        while tries.run(other, {"key": key})[0]["is_free"]:
            other.rollback()  # it was not there yet
            assert time.monotonic() < deadline
        assert STANDS.run(session, {}) is not None


def test_what_was_sent_is_heard_by_whoever_asks(database: Database, trips: list[int]) -> None:
    with database.unit() as session:
        first = SETS.later(session, {"to": "{a}"})
        send_what_waits(session)
        send_what_waits(session)  # nothing waits
        second = SETS.later(session, {"to": "{b}"})
        send_what_waits(session)
        assert trips == []
        assert first.rows() == [{"was": "{a}"}]
        assert second.rows() == [{"was": "{b}"}]
        SETS.later(session, {"to": "{c}"})
        send_what_waits(session)
        assert STANDS.run(session, {}) == [{"schools": "{c}"}]


def test_whatever_is_said_next_comes_after_what_was_sent(database: Database) -> None:
    never_prepared = Statement(f"select current_setting('screening.schools', true) as s{uuid.uuid4().hex}")
    with database.unit() as session:
        for to, stands in (
            ("{a}", lambda: session.execute(text(STANDS.sql)).scalar_one()),
            ("{b}", lambda: driver_of(session).execute(STANDS.sql.encode()).fetchone()[0]),  # type: ignore[index]
            ("{c}", lambda: STANDS.run(session, {}, is_bulk=True)[0]["schools"]),
            ("{d}", lambda: next(iter(never_prepared.run(session, {})[0].values()))),
        ):
            SETS.later(session, {"to": to})
            send_what_waits(session)
            assert stands() == to


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_was_sent_is_kept_or_lost_with_its_transaction(database: Database, *, is_kept: bool) -> None:
    for within in (False, True):
        made = uuid.uuid4()
        with database.unit() as session:
            inner = session.begin_nested() if within else session.get_transaction()
            assert inner is not None
            DISTRICT.later(session, {"id": made})
            send_what_waits(session)
            inner.commit() if is_kept else inner.rollback()
        with database.unit() as session:
            assert session.execute(THERE, {"id": made}).scalar_one() == is_kept


def test_what_was_sent_and_fails_is_named_by_the_commit_and_undoes_it_all(database: Database) -> None:
    made = uuid.uuid4()
    with pytest.raises(DataError) as raised, database.unit() as session:
        DISTRICT.run(session, {"id": made})
        FAILS.later(session, {"one": 1})
        send_what_waits(session)
    assert raised.value.statement == FAILS.sql
    for _ in range(2):
        with database.unit() as session:
            assert STANDS.run(session, {}) is not None
            assert session.execute(THERE, {"id": made}).scalar_one() == 0


def test_what_was_sent_and_fails_may_be_rolled_back_unheard(database: Database) -> None:
    with database.unit() as session:
        backend = driver_of(session).info.backend_pid
        inner = session.begin_nested()
        FAILS.later(session, {"one": 1})
        send_what_waits(session)
        inner.rollback()
        assert STANDS.run(session, {}) is not None
        assert driver_of(session).info.backend_pid == backend


def test_much_is_sent_as_well_as_little(database: Database) -> None:
    length = Statement("select length(:text) as length, cast(:text as text) as text")
    long = "a" * 3_000_000
    with database.unit() as session:
        sent = [length.later(session, {"text": long}) for _ in range(3)]
        send_what_waits(session)
        assert [each.rows()[0]["length"] for each in sent] == [len(long)] * 3


def test_a_connection_that_dies_over_what_was_sent_is_replaced(database: Database) -> None:
    for is_committed in (True, False):
        with pytest.raises(OperationalError), database.unit() as session:
            backend = driver_of(session).info.backend_pid
            SETS.later(session, {"to": "{}"})
            send_what_waits(session)
            _hang_up(backend)
            if not is_committed:
                session.execute(text(STANDS.sql))
        with database.unit() as session:
            assert STANDS.run(session, {})


def test_one_plan_is_made_where_the_planner_would_make_one_for_each_values(database: Database) -> None:
    few = Statement("select n from unnest(cast(:tiers as smallint[])) n order by n", is_planned_once=True)
    usual = Statement("select current_setting('plan_cache_mode') as mode")
    plans = text("select generic_plans, custom_plans from pg_prepared_statements where statement like 'select n from%'")
    with database.unit() as session:
        for _ in range(3):
            assert [row["n"] for row in few.run(session, {"tiers": [3, 1]})] == [1, 3]
            assert usual.run(session, {}) == [{"mode": "auto"}]
        assert session.execute(plans).one() == (3, 0)
