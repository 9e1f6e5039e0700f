"""What begins before the rest is imported, and what a second process does beside."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from api import ahead
from api.demo import hands
from screening import embedded, migration
from screening.db import Database
from screening.settings import Settings
from tests.conftest import MASTER_KEY, MEMORY


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    key = tmp_path / "master.key"
    key.write_bytes(MASTER_KEY)
    return Settings.read({"SCREENING_HOME": str(tmp_path / "home"), "SCREENING_MASTER_KEY_FILE": str(key)})


@pytest.fixture
def home() -> Iterator[Path]:
    """A short folder: pytest's own are too long for a socket on some systems."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=MEMORY if MEMORY.is_dir() else None)).resolve()
    yield folder
    shutil.rmtree(folder)


def test_nothing_begins_where_the_database_is_another_one(settings: Settings) -> None:
    elsewhere = dataclasses.replace(settings, database_url="postgresql://app@elsewhere/wellbeing")
    assert ahead.begin(elsewhere) is None
    assert not settings.home.exists()


def test_a_home_that_cannot_be_is_left_to_whoever_needs_it(settings: Settings, tmp_path: Path) -> None:
    assert ahead.begin(dataclasses.replace(settings, home=tmp_path / ("long" * 30))) is None


def test_a_new_database_is_migrated_by_whoever_hears_its_address(server: embedded.Server) -> None:
    name = f"ahead_{os.urandom(4).hex()}"
    server.create_database(name)
    url = server.url(database=name, role="owner")
    assert ahead.migrate(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("select version_num from alembic_version").fetchone() == (migration.head(),)
    server.drop_database(name)


def test_nothing_is_migrated_where_the_server_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "migrate", pytest.fail)
    assert not ahead.migrate("")


BEGUN = """
import psycopg
from api import ahead
from screening import embedded
from screening.settings import Settings

settings = Settings.read()
beginning = ahead.begin(settings)
is_new = beginning.result()
with embedded.start(settings.home) as server, psycopg.connect(server.owner_url) as connection:
    (version,) = connection.execute("select version_num from alembic_version").fetchone()
print(is_new, ahead.begin(settings) is beginning, version)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a fork takes the system's own libraries along on Linux only")
def test_a_new_home_has_its_schema_when_the_start_is_over_and_a_second_start_makes_none(
    home: Path, is_storm: bool
) -> None:
    environment = {**os.environ, "SCREENING_HOME": str(home)}
    environment.pop("DATABASE_URL", None)
    for is_new in (True, False)[: 2 if is_storm else 1]:
        done = subprocess.run([sys.executable, "-c", BEGUN], env=environment, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"{is_new} True {migration.head()}\n", "")


def who_and_where(database: Database, words: str) -> tuple[int, str, str]:
    with database.unit() as session:
        return os.getpid(), words, str(session.scalar(text("select current_database()")))


def meet(database: Database, place: str) -> int:
    """Comes to an end when another act has begun."""
    Path(place, str(os.getpid())).touch()
    while len(list(Path(place).iterdir())) < 2:
        pass
    return os.getpid()


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


def test_a_crew_shares_what_is_to_be_done(database: Database, settings: Settings, tmp_path: Path) -> None:
    with hands.in_process(settings) as beside, hands.crew(beside) as crew:
        met = [crew.begin(meet, database, str(tmp_path)) for _ in range(2)]
        assert len({one.result() for one in met}) == 2
        with pytest.raises(LookupError, match="of another process"):
            [crew.begin(broken, database).result() for _ in range(2)]
        assert crew.begin(who_and_where, database, "afterwards").result()[1] == "afterwards"
