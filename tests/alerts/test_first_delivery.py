"""How long it takes from a form that was acknowledged until a mail server has the first message about it."""

import contextlib
import math
import os
import random
import socketserver
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text

from alerts import raising
from screening import access, assignments, db, identity, sealing
from screening.db import Database
from tests.cast import Cast, assemble
from tests.factories import make_round
from tests.test_storm import STUDENTS

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 5.0
PATIENCE = 30.0
"""In the ordinary run, beside other tests: that it goes out at all."""
WEIGHTY_IN = 14
"""One in so many forms is a red: what weighs less waits for the end of the quiet hours."""


@dataclass
class Mailbox:
    """A mail server's side: when it took which message."""

    port: int = 0
    taken: dict[uuid.UUID, float] = field(default_factory=dict)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    found = Mailbox()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 stub")
            for line in self.rfile:
                match line[:4].upper().strip():
                    case b"DATA":
                        self._say("354 go on")
                        self._take()
                        self._say("250 taken")
                    case b"QUIT":
                        self._say("221 bye")
                        return
                    case _:
                        self._say("250 yes")

        def _take(self) -> None:
            for line in self.rfile:
                if line.startswith(b"X-Screening-Delivery: "):
                    found.taken.setdefault(uuid.UUID(line.split()[1].decode()), time.monotonic())
                if line == b".\r\n":
                    return

        def _say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        server.daemon_threads = True
        found.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def home(fresh_database: Database) -> Cast:
    return assemble(fresh_database)


def places_of(cast: Cast, count: int) -> list[uuid.UUID]:
    """Forms of so many students of school A that wait to be handed in."""
    with cast.database.unit(cast.scope) as session:
        numbers = [f"P{number:06}" for number in range(count)]
        students = [uuid.uuid4() for _ in numbers]
        session.execute(
            STUDENTS,
            {
                "district": cast.district.id,
                "school": cast.school_a.id,
                "ids": students,
                "hashes": identity.number_hashes(sealing.keys(session), numbers),
            },
        )
    with cast.database.unit(cast.scope) as session:
        make_round(session, instruments=[("phq9", ["self"])], grades=[8], opens_at=db.now(session))
        found = text("select id from assignments where student_id = any(:students)")
        return list(session.scalars(found, {"students": students}))


@dataclass
class Desk:
    """Hands forms in at a steady rate, and remembers when each was acknowledged."""

    cast: Cast
    acknowledged: dict[uuid.UUID, float] = field(default_factory=dict)

    def hand_in(self, place: uuid.UUID, is_weighty: bool, moment: float) -> None:
        time.sleep(max(0.0, moment - time.monotonic()))
        answers = {f"phq9_{number}": 0 for number in range(1, 9)} | {"phq9_9": 3 if is_weighty else 0}
        with self.cast.database.unit(self.cast.scope_a) as session:
            now = db.now(session)
            done = assignments.submit(session, place, answers=answers, by=self.cast.an, now=now)
            assert done.revisions is not None
            raising.weigh(session, done.revisions, now=now, policy=done.rules.policy)
        self.acknowledged[done.student_id] = time.monotonic()

    def run(self, places: list[uuid.UUID], rate: float) -> float:
        """The rate that was reached."""
        chance = random.Random(9)  # noqa: S311 - who tells of self-harm
        began = time.monotonic()
        with ThreadPoolExecutor(12) as threads:
            acts = [
                threads.submit(self.hand_in, place, chance.random() < 1 / WEIGHTY_IN, began + number / rate)
                for number, place in enumerate(places)
            ]
            for act in acts:
                act.result()
        return len(places) / (time.monotonic() - began)


WORKER = """
import os, signal, sys, threading
from api import worker
from screening.db import Database
from screening.settings import Settings

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
database = Database(os.environ["DATABASE_URL"], bytes.fromhex(os.environ["KEY"]))
print("ready", flush=True)
worker.run(database, Settings.read(), stop)
"""


@contextlib.contextmanager
def at_work(cast: Cast, mailbox: Mailbox, home: Path) -> Iterator[None]:
    """A worker in a process of its own, until the block ends."""
    environ = {
        "PYTHONPATH": str(ROOT),
        "SCREENING_HOME": str(home),
        "SCREENING_SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
        "DATABASE_URL": cast.database.url,
        "KEY": cast.database.ring.first.hex(),
    }
    command, quietly = [sys.executable, "-c", WORKER], subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=quietly, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.storm
def test_the_first_message_is_handed_over_within_seconds_while_forms_come_in(
    home: Cast, mailbox: Mailbox, tmp_path: Path, is_storm: bool
) -> None:
    rate, seconds = (150, 30) if is_storm else (15, 2)
    places, desk = places_of(home, rate * seconds), Desk(home)
    with at_work(home, mailbox, tmp_path):
        reached = desk.run(places, rate)
        lags = _waited_for(home, mailbox, desk)
    p50, p99 = (lags[math.ceil(share * len(lags)) - 1] for share in (0.5, 0.99))
    print(  # noqa: T201 - the figure is the point
        f"{len(places)} forms at {reached:.0f}/s, {len(lags)} alerts: first message handed over"
        f" p50 {p50:.2f} s, p99 {p99:.2f} s, longest {lags[-1]:.2f} s"
    )
    assert p99 <= (MOST_SECONDS if is_storm else PATIENCE)


_FIRST = text(
    "select a.student_id, array_agg(d.id) as messages from alerts a join deliveries d on d.district_id = a.district_id"
    " and d.subject = 'alert' and d.subject_id = a.id where a.district_id = :district group by 1"
)


def _waited_for(cast: Cast, mailbox: Mailbox, desk: Desk) -> list[float]:
    """For each alert, how long after its form was acknowledged the first message went out."""
    with cast.database.unit(access.Scope(cast.district.id)) as session:
        rows = session.execute(_FIRST, {"district": cast.district.id}).all()
    assert rows
    until = time.monotonic() + 60
    while time.monotonic() < until and not all(set(row.messages) & set(mailbox.taken) for row in rows):
        time.sleep(0.05)
    return sorted(
        min(mailbox.taken.get(one, until) for one in row.messages) - desk.acknowledged[row.student_id] for row in rows
    )
