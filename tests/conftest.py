"""Ground for every test: a real PostgreSQL of this worker's own, migrated once, and districts made per test."""

import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from screening import embedded, migration
from screening.db import Database
from tests.cast import Cast, assemble

MASTER_KEY = bytes(range(32))

# How long an example takes says more of the machine's other work than of ours.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    """One embedded server per xdist worker."""
    with embedded.temporary() as started:
        yield started


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
    """What asks how long it should be is a long check: no run of the long checks can leave it out."""
    for item in items:
        if {"is_storm", "share"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.storm)


@pytest.fixture(scope="session")
def is_storm() -> bool:
    """Whether the long checks run whole; the ordinary run takes a seeded tenth of them."""
    return os.environ.get("SCREENING_STORM") == "1"


@pytest.fixture(scope="session")
def share(is_storm: bool) -> Callable[[int], int]:
    """How many rounds of a long check to take."""
    return lambda whole: whole if is_storm else max(1, whole // 10)


@pytest.fixture
def cast(database: Database) -> Cast:
    """The people we know, in a district of this test's own."""
    return assemble(database)
