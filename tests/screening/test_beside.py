"""A statement in a thread of its own: it is done at the block's end, and neither side's error is lost."""

import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from screening.beside import beside
from screening.db import Database


def test_what_is_done_beside_is_done_at_the_end_of_the_block(database: Database) -> None:
    with database.unit() as session:
        with beside(session, lambda: session.execute(text("select 1")).scalar_one()) as doing:
            made = "meanwhile"
        assert (doing.result(), made) == (1, "meanwhile")
        assert session.execute(text("select 2")).scalar_one() == 2


def test_what_fails_beside_fails_at_the_end_of_the_block(database: Database) -> None:
    reached = []
    with pytest.raises(DataError), database.unit() as session:
        with beside(session, lambda: session.execute(text("select 1 / 0"))):
            reached.append("the end of the block")
        reached.append("what comes after it")
    assert reached == ["the end of the block"]


def test_a_block_that_fails_has_the_database_break_off(database: Database) -> None:
    began = time.monotonic()
    with (
        pytest.raises(ZeroDivisionError),
        database.unit() as session,
        beside(session, lambda: session.execute(text("select pg_sleep(60)"))),
    ):
        raise ZeroDivisionError
    assert time.monotonic() - began < 30
    with database.unit() as session:
        assert session.execute(text("select 1")).scalar_one() == 1
