"""Many people of several schools and districts at once on the same few connections: nobody is shown another's."""

import contextlib
import http.client
import random
import re
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
import uvicorn
from sqlalchemy import text

from api.app import create_app
from screening import embedded
from screening.access import Actor, Scope
from screening.db import Database
from tests.cast import assemble
from tests.conftest import MASTER_KEY
from tests.doors import settings, token_for
from tests.factories import make_staff, make_student

SEED = 20260901
THREADS = 50
REQUESTS = 50_000
FEW = 400
CONNECTIONS = 8
CANARY = re.compile(r"canary-[0-9a-f]{8}")


@dataclass
class Tenant:
    """A school as a counselor of it sees it: a word that stands in each of its names, and nowhere else."""

    token: str
    canary: str
    own: list[uuid.UUID]
    foreign: list[uuid.UUID] = field(default_factory=list)


@pytest.fixture
def pooled(server: embedded.Server, template: str) -> Iterator[Database]:
    """A database of its own with few connections, so that each is used by everybody."""
    server.create_database("pool", template=template)
    opened = Database(server.url(database="pool", role="app"), MASTER_KEY, pool_size=CONNECTIONS)
    yield opened
    opened.dispose()
    server.drop_database("pool")


def tenants_of(database: Database) -> list[Tenant]:
    """Two schools in each of two districts, and a lead in a third school of each."""
    found = []
    for _ in range(2):
        cast = assemble(database)
        for role, school in (("counselor", cast.school_a), ("counselor", cast.school_b), ("lead", cast.school_c)):
            canary = f"canary-{uuid.uuid4().hex[:8]}"
            with database.unit(cast.scope) as session:
                actor: Actor = make_staff(session, (role, school.id))[1]
                own = [make_student(session, school.id, name=f"{canary} {i}", class_name=canary).id for i in range(5)]
            found.append(Tenant(token_for(database, actor), canary, own))
    for tenant in found:
        tenant.foreign = [student for other in found if other is not tenant for student in other.own]
    return found


@contextlib.contextmanager
def served(database: Database) -> Iterator[int]:
    """The port of a real server on this database."""
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(database, settings()), log_config=None, access_log=False, server_header=False, lifespan="off"
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        running.should_exit = True
        thread.join()


@dataclass
class Asked:
    """What one thread met."""

    statuses: Counter[str] = field(default_factory=Counter)
    own: int = 0
    foreign: list[str] = field(default_factory=list)


class Asker(threading.Thread):
    """Asks as one tenant after the other; now and then hangs up at once, or does not wait for the answer."""

    def __init__(self, port: int, tenants: list[Tenant], count: int, seed: int) -> None:
        super().__init__()
        self.port, self.tenants, self.count = port, tenants, count
        self.chance = random.Random(seed)  # noqa: S311 - a sample
        self.asked = Asked()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        for _ in range(self.count):
            tenant = self.chance.choice(self.tenants)
            patience = self.chance.choices((20.0, 0.004, 0.0), (80, 12, 8))[0]
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            connection = self._ask(connection, tenant, patience)
        if connection is not None:
            connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection, tenant: Tenant, patience: float
    ) -> http.client.HTTPConnection | None:
        """Answers the connection while it can be used again."""
        try:
            method, address, body = self._request(tenant)
            headers = {"Authorization": f"Bearer {tenant.token}"} | (
                {"Content-Type": "application/json"} if body else {}
            )
            connection.request(method, address, body, headers)
            if patience == 0.0:
                raise ConnectionAbortedError
            if connection.sock is not None:
                connection.sock.settimeout(patience)
            answer = connection.getresponse()
            self._look(tenant, str(answer.status), answer.read().decode())
        except (OSError, http.client.HTTPException) as error:
            self.asked.statuses[{0.0: "hung up", 0.004: "timed out"}.get(patience, type(error).__name__)] += 1
            connection.close()
            return None
        return connection

    def _request(self, tenant: Tenant) -> tuple[str, str, str | None]:
        own, foreign = self.chance.choice(tenant.own), self.chance.choice(tenant.foreign)
        return self.chance.choice(
            [
                ("GET", "/v1/students?limit=200", None),
                ("GET", f"/v1/students/{own}", None),
                ("GET", f"/v1/students/{own}/history", None),
                ("GET", f"/v1/students/{foreign}", None),
                ("GET", f"/v1/students/{foreign}/history", None),
                ("GET", "/v1/alerts", None),
                ("GET", "/v1/cases", None),
                ("GET", "/v1/students?after=nonsense", None),
                ("POST", "/v1/alerts", f'{{"student_id": "{foreign}", "tier": "red", "facts": "x"}}'),
                ("POST", "/v1/alerts", f'{{"student_id": "{own}", "tier": "yellow", "facts": "x"}}'),
            ]
        )

    def _look(self, tenant: Tenant, status: str, body: str) -> None:
        self.asked.statuses[status] += 1
        seen = set(CANARY.findall(body))
        self.asked.own += tenant.canary in seen
        self.asked.foreign += sorted(seen - {tenant.canary})
        self.asked.foreign += [str(student) for student in tenant.foreign if str(student) in body]


class Disturber(threading.Thread):
    """Breaks off what connections are doing, and now and then a connection itself."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.is_over, self.cancelled = url, threading.Event(), 0

    def run(self) -> None:
        chance = random.Random(SEED)  # noqa: S311 - a sample
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.is_over.wait(0.02):
                breaking = b"pg_terminate_backend" if chance.random() < 0.05 else b"pg_cancel_backend"
                connection.execute(
                    b"select " + breaking + b"(pid) from pg_stat_activity where usename = 'screening_app'"
                    b" and datname = current_database() and state <> 'idle' order by random() limit 1"
                )
                self.cancelled += 1


def test_nobody_is_shown_anothers_however_many_ask_and_break_off(
    server: embedded.Server, pooled: Database, is_storm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tenants = tenants_of(pooled)
    whole = REQUESTS if is_storm else FEW
    with served(pooled) as port:
        askers = [Asker(port, tenants, whole // THREADS, SEED + i) for i in range(THREADS)]
        disturber = Disturber(server.url(database="pool", role="superuser"))
        for thread in (*askers, disturber):
            thread.start()
        for asker in askers:
            asker.join()
        disturber.is_over.set()
        disturber.join()
    statuses = sum((asker.asked.statuses for asker in askers), Counter[str]())
    own = sum(asker.asked.own for asker in askers)
    foreign = [each for asker in askers for each in asker.asked.foreign]
    with capsys.disabled():
        print(  # noqa: T201
            f"\npool: {sum(statuses.values())} requests on {THREADS} threads over {CONNECTIONS} connections,"
            f" {disturber.cancelled} broken off in the database; {dict(statuses.most_common())};"
            f" own canaries in {own} answers, foreign ones in {len(foreign)}"
        )
    assert foreign == []
    assert own > whole // 10
    assert statuses["hung up"] > whole // 50
    assert statuses["timed out"] > whole // 50
    assert statuses["500"] == 0
    assert _left_on_connections(pooled) == []


def _left_on_connections(database: Database) -> list[str]:
    """What each connection of the pool still sees when nobody asks."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(database.engine.connect()) for _ in range(CONNECTIONS)]
        found = []
        for connection in held:
            district = connection.scalar(text("select current_setting('screening.district', true)"))
            rows = connection.scalar(text("select count(*) from students"))
            found += [f"{district}: {rows}"] if district or rows else []
        return found


def test_a_scope_that_raises_midway_leaves_nothing_for_the_next(pooled: Database) -> None:
    cast = assemble(pooled)
    for _ in range(3 * CONNECTIONS):
        with pytest.raises(ZeroDivisionError), pooled.unit(Scope(cast.district.id)) as session:
            session.execute(text("select count(*) from students"))
            raise ZeroDivisionError
    assert _left_on_connections(pooled) == []
