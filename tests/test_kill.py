"""A worker that is killed at any moment of a load: the next one ends with exactly the rows of one clean run."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from screening import access, db, identity, sealing, staff
from screening.access import Scope
from screening.db import Database
from screening.models import Round
from tests import sending
from tests.cast import Cast, assemble
from tests.factories import make_round
from tests.files import both, csv_of

ROOT = Path(__file__).resolve().parents[1]
SEED = 20260901
SCHOOLS = 5

WORKER = """
import os, time, uuid
from alerts import raising
from screening import access, intake
from screening.db import Database
from sqlalchemy import text

database = Database(os.environ["URL"], bytes.fromhex(os.environ["KEY"]))
district = uuid.UUID(os.environ["DISTRICT"])
print("ready", flush=True)
waits = True
while waits:
    intake.load_waiting(database, district, weigh=raising.weigh_load)
    with database.unit(access.Scope(district)) as session:
        waits = session.execute(text("select exists (select from uploads where state = 'received')")).scalar_one()
    time.sleep(0.05)
"""


@dataclass
class Crowd:
    """A district full of students, one round, and an upload that waits. Students are known by their class's name."""

    cast: Cast
    round: Round
    upload_id: uuid.UUID

    @property
    def database(self) -> Database:
        return self.cast.database


def crowd(database: Database, content: bytes, size: int) -> Crowd:
    cast = assemble(database)
    with database.unit(cast.scope) as session:
        schools = [
            staff.create_school(session, f"S{i}", f"School {i}", by=access.system(cast.district.id)).id
            for i in range(SCHOOLS)
        ]
        numbers = [f"K{i:06}" for i in range(size)]
        session.execute(
            text(
                "with made as (insert into students (district_id, id, school_id, sex, born_month)"
                " select :district, n.id, n.school, 'f', '2011-03-01' from unnest(cast(:ids as uuid[]),"
                "  cast(:schools as uuid[])) as n (id, school)),"
                " placed as (insert into enrollments (district_id, id, student_id, school_id, grade, class_name,"
                "  number_hash, since_on) select :district, gen_random_uuid(), n.id, n.school, 8, n.number, n.hash,"
                "  '2026-09-01' from unnest(cast(:ids as uuid[]), cast(:schools as uuid[]), cast(:numbers as text[]),"
                "  cast(:hashes as bytea[])) as n (id, school, number, hash))"
                " insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version,"
                "  channel, decided_at) select :district, gen_random_uuid(), n.id, n.school, 'granted', 'guardian',"
                "  '1', 'paper', now() - interval '1 day'"
                " from unnest(cast(:ids as uuid[]), cast(:schools as uuid[])) as n (id, school)"
            ),
            {
                "district": cast.district.id,
                "ids": [uuid.uuid4() for _ in numbers],
                "schools": [schools[i % SCHOOLS] for i in range(size)],
                "numbers": numbers,
                "hashes": identity.number_hashes(sealing.keys(session), numbers),
            },
        )
    with database.unit(cast.scope) as session:
        made = make_round(session, opens_at=db.now(session))
    return Crowd(cast, made, sending.receive(cast, made.id, content).id)


def answers_of(size: int) -> bytes:
    """Answers of everybody: some bad cells, some blanks, some who are unknown, a few in red."""
    chance = random.Random(SEED)  # noqa: S311 - the same again every time
    rows = []
    for i in range(size):
        row = both(f"K{i:06}") | {f"phq9_{j}": chance.choice((0, 0, 0, 1, 2)) for j in range(1, 9)}
        row |= {f"gad7_{j}": chance.choice((0, 0, 1, 3)) for j in range(1, 8)}
        odd = chance.random()
        if odd < 0.02:
            row["phq9_9"] = chance.choice((1, 2, 3))
        elif odd < 0.03:
            row["phq9_3"] = "x"
        elif odd < 0.04:
            row["gad7_5"] = ""
        elif odd < 0.05:
            row |= {"student_number": f"unknown-{i}", "phq9_9": 1}
        rows.append(row)
    return csv_of(*rows)


# -- the worker ------------------------------------------------------------------------------------------


def start_worker(own: Crowd, prelude: str = "") -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-c", prelude + WORKER],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "URL": own.database.url,
            "KEY": own.database.ring.first.hex(),
            "DISTRICT": str(own.cast.district.id),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    return worker


def finish(worker: subprocess.Popen[str]) -> None:
    _, complaints = worker.communicate(timeout=300)
    assert worker.returncode == 0, complaints


def kill(worker: subprocess.Popen[str]) -> None:
    """By SIGKILL; its reading process, if there is one, must not stay behind."""
    children = psutil.Process(worker.pid).children(recursive=True) if worker.poll() is None else []
    worker.kill()
    worker.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


# -- all that came of it ---------------------------------------------------------------------------------

_OF_STUDENT = " join enrollments e on e.district_id = x.district_id and e.student_id = x.student_id"
STATE = {
    "administrations": "select e.class_name, x.instrument, x.informant, x.attempt, x.revision, x.answers::text,"
    " x.status, x.missing_count, x.scores::text from administrations x" + _OF_STUDENT,
    "results": "select e.class_name, x.revision, x.tier, x.validity, x.reasons::text, x.forms::text, x.prior_tier,"
    " x.age from results x" + _OF_STUDENT,
    "weighings": "select e.class_name, x.revision, x.tier from weighings x" + _OF_STUDENT,
    "assignments": "select e.class_name, x.informant, x.grade, x.exempt_reason from assignments x" + _OF_STUDENT,
    "alerts": "select coalesce(e.class_name, x.place), x.tier, x.has_self_harm, x.state, x.source"
    " from alerts x left" + _OF_STUDENT,
    "alert_reasons": "select coalesce(e.class_name, a.place), x.rule, x.tier from alert_reasons x"
    " join alerts a on a.district_id = x.district_id and a.id = x.alert_id"
    " left join enrollments e on e.district_id = a.district_id and e.student_id = a.student_id",
    "coverage_summaries": "select s.code, x.grade, x.sex, x.enrolled, x.consented, x.submitted, x.valid, x.suspect,"
    " x.invalid, x.tier_none, x.tier_yellow, x.tier_orange, x.tier_red from coverage_summaries x"
    " join schools s on s.district_id = x.district_id and s.id = x.school_id",
    "upload_problems": "select x.position, x.row_number, x.column_name, x.code, x.message from upload_problems x",
    "uploads": "select x.state, x.progress, x.receipt::text from uploads x",
}


def state_of(own: Crowd) -> dict[str, tuple[int, str]]:
    """Each table's number of rows, and the hash of its rows in their order, students by their numbers."""
    found = {}
    with own.database.unit(Scope(own.cast.district.id)) as session:
        session.execute(text("set local enable_nestloop = off"))  # there are no statistics yet
        for table, query in STATE.items():
            rows = session.execute(
                text(f"{query} where x.district_id = :district"), {"district": own.cast.district.id}
            ).all()
            lines = sorted(json.dumps([str(cell) for cell in row]) for row in rows)
            found[table] = (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest())
    return found


def duplicates(own: Crowd) -> list[Any]:
    return sending.rows(
        own.database,
        own.cast.scope,
        "select student_id, place from alerts where district_id = :district group by 1, 2 having count(*) > 1",
    )


@pytest.mark.storm
def test_a_load_killed_at_any_moment_ends_as_one_clean_run(
    database: Database, is_storm: bool, share: Callable[[int], int]
) -> None:
    size = 100_000 if is_storm else 1_500
    content = answers_of(size)
    clean, killed = crowd(database, content, size), crowd(database, content, size)

    began = time.monotonic()
    sending.load(clean.cast, clean.upload_id)
    whole = time.monotonic() - began
    wanted = state_of(clean)

    chance = random.Random(SEED)  # noqa: S311 - the same again every time
    kills = 0
    while kills < share(20):
        worker = start_worker(killed)
        try:
            worker.wait(chance.uniform(0, whole))
        except subprocess.TimeoutExpired:
            kill(worker)
            kills += 1
        else:  # it was done before its time: that load is whole, and the others are killed earlier in another
            finish(worker)
            assert state_of(killed) == wanted
            whole, killed = 0.7 * whole, crowd(database, content, size)
    for worker in [start_worker(killed) for _ in range(2 if is_storm else 1)]:
        finish(worker)

    assert wanted["administrations"][0] > size
    assert state_of(killed) == wanted
    assert duplicates(killed) == []
    assert sending.rows(database, killed.cast.scope, "select id from uploads where district_id = :district") == [
        {"id": killed.upload_id}
    ]


STEPS = (
    ("screening.receipts", "end"),
    ("alerts.raising", "weigh"),
    ("screening.matching", "match"),
    ("screening.results", "append_results"),
    ("screening.coverage", "recount"),
)


@pytest.mark.storm
def test_a_load_killed_in_its_transaction_leaves_nothing_and_is_begun_anew(
    database: Database, share: Callable[[int], int]
) -> None:
    """Not left to chance: the process dies at the end of a step, with everything before it done."""
    content = answers_of(60)
    clean, own = crowd(database, content, 60), crowd(database, content, 60)
    sending.load(clean.cast, clean.upload_id)

    for module, step in STEPS[: share(len(STEPS))]:
        worker = start_worker(own, _dying_after(module, step))
        worker.communicate(timeout=120)
        assert worker.returncode == -signal.SIGKILL
        left = state_of(own)
        for table in ("administrations", "results", "weighings", "alerts", "upload_problems"):
            assert left[table][0] == 0, (step, table)

    sending.load(own.cast, own.upload_id)
    assert state_of(own) == state_of(clean)


def _dying_after(module: str, step: str) -> str:
    return f"""
import os, signal
import {module} as its_module
whole = its_module.{step}
def dying(*about, **more):
    whole(*about, **more)
    os.kill(os.getpid(), signal.SIGKILL)
its_module.{step} = dying
"""
