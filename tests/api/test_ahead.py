"""What begins before the rest is imported, and what a second process does beside."""

import dataclasses
import io
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from api import ahead
from api.demo import hands
from screening import embedded, migration
from screening.db import Database
from screening.settings import Settings
from tests.conftest import MASTER_KEY


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    key = tmp_path / "master.key"
    key.write_bytes(MASTER_KEY)
    return Settings.read({"SCREENING_HOME": str(tmp_path / "home"), "SCREENING_MASTER_KEY_FILE": str(key)})


def test_nothing_begins_where_the_database_is_another_one(settings: Settings) -> None:
    elsewhere = dataclasses.replace(settings, database_url="postgresql://app@elsewhere/wellbeing")
    assert ahead.begin(elsewhere) is None
    assert not settings.home.exists()


def test_a_new_database_is_migrated_by_whoever_hears_its_address(
    server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"ahead_{os.urandom(4).hex()}"
    server.create_database(name)
    url = server.url(database=name, role="owner")
    monkeypatch.setattr("sys.stdin", io.StringIO(url))
    ahead.migrate()
    with psycopg.connect(url) as connection:
        assert connection.execute("select version_num from alembic_version").fetchone() == (migration.head(),)
    server.drop_database(name)


def test_nothing_is_migrated_where_the_server_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr(migration, "migrate", pytest.fail)
    ahead.migrate()


def who_and_where(database: Database, words: str) -> tuple[int, str, str]:
    with database.unit() as session:
        return os.getpid(), words, str(session.scalar(text("select current_database()")))


def broken(database: Database) -> None:
    raise LookupError("of another process")


def test_hands_of_another_process_open_the_database_for_themselves(database: Database, settings: Settings) -> None:
    ours = who_and_where(database, "copied")
    with hands.in_process(settings) as beside:
        theirs = beside.begin(who_and_where, database, "copied").result()
        with pytest.raises(LookupError, match="of another process"):
            beside.begin(broken, database).result()
    assert theirs[1:] == ours[1:]
    assert theirs[0] != ours[0]
    with hands.in_thread() as own:
        assert own.begin(who_and_where, database, "copied").result() == ours
