"""Ground for every test: a real PostgreSQL of this worker's own, migrated once, and districts made per test."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from argon2 import PasswordHasher

from screening import embedded, migration, passwords
from screening.db import Database
from tests import asking
from tests.cast import Cast, assemble

MASTER_KEY = bytes(range(32))

# How long an example takes says more of the machine's other work than of ours.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


# What the shared server holds is gone with the run, and nobody kills it: whoever asks what is left after a death starts
# a server of their own, as it is shipped. The long checks have it as it is shipped too, for they measure.
PASSING = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
}
MEMORY, ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108 - a folder of our own in it
LONGEST = {"test_storm.py", "test_serving.py", "test_kill.py", "test_bench.py"}


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """What was made on the way to the tests stays, and is never looked through again."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    gc.enable()


def in_memory() -> Path | None:
    """Where files are kept in memory, if there is such a place, programs may lie in it, and it has room to spare."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK) or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return None
    is_roomy = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > ROOM
    return MEMORY if is_roomy else None


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    """One embedded server per xdist worker."""
    settings, place = (None, None) if _runs_whole() else (PASSING, in_memory())
    with embedded.temporary(settings, within=place) as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[PasswordHasher]:
    """Passwords are kept with little work, but where somebody asks how much that is; gives what works as shipped."""
    as_shipped = passwords._HASHER
    passwords._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield as_shipped
    passwords._HASHER = as_shipped


@pytest.fixture
def slow_passwords(quick_passwords: PasswordHasher, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With as much work as the product asks."""
    monkeypatch.setattr(passwords, "_HASHER", quick_passwords)
    passwords._nobodys.cache_clear()
    yield
    passwords._nobodys.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def loop_of_requests() -> Iterator[None]:
    """Closes what the requests of the tests ran in."""
    yield
    asking.end()


@pytest.fixture(scope="session")
def template(server: embedded.Server) -> str:
    """A migrated, empty database that others are copied from."""
    server.create_database("template_screening")
    faults = migration.migrate(server.url(database="template_screening", role="owner"), "screening_app")
    assert faults == []
    return "template_screening"


@pytest.fixture(scope="session")
def database(server: embedded.Server, template: str) -> Iterator[Database]:
    """The database most tests share: each makes a district of its own, and sees no other's."""
    server.create_database("tests", template=template)
    opened = Database(server.url(database="tests", role="app"), MASTER_KEY)
    yield opened
    opened.dispose()


@pytest.fixture
def fresh_database(server: embedded.Server, template: str) -> Iterator[Database]:
    """A database for one test alone, for what looks at every district."""
    name = f"fresh_{os.urandom(6).hex()}"
    server.create_database(name, template=template)
    opened = Database(server.url(database=name, role="app"), MASTER_KEY)
    yield opened
    opened.dispose()
    server.drop_database(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks how long it should be is a long check: no run of the long checks can leave it out.

    What waits for whole services begins first, so that no worker sits alone with it at the end.
    """
    for item in items:
        if {"is_storm", "share"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.storm)
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def is_storm() -> bool:
    """Whether the long checks run whole; the ordinary run takes a seeded tenth of them."""
    return _runs_whole()


def _runs_whole() -> bool:
    return os.environ.get("SCREENING_STORM") == "1"


@pytest.fixture(scope="session")
def share(is_storm: bool) -> Callable[[int], int]:
    """How many rounds of a long check to take."""
    return lambda whole: whole if is_storm else max(1, whole // 10)


@pytest.fixture
def cast(database: Database) -> Cast:
    """The people we know, in a district of this test's own."""
    return assemble(database)
