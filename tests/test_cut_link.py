"""The link to PostgreSQL breaks after the n-th message of one submit and of one upload: all of it, or nothing."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from alerts import raising
from api.app import create_app
from screening import intake, rounds
from screening.db import Database
from tests import sending
from tests.asking import TestClient
from tests.cast import Cast
from tests.cutting import Link, cuttable, settled
from tests.doors import PHQ9, settings, token_for
from tests.factories import make_round, make_student
from tests.files import csv_of, phq9

CUTS = 5
"""So many places of the whole in the ordinary run."""
MORE = 3
"""Two runs differ by a message or two: a connection says good-bye, or is gone before."""

State = dict[str, list[Any]]
OF_STUDENTS = {
    "administrations": "select e.class_name, x.instrument, x.revision, x.answers::text, x.status"
    " from administrations x",
    "results": "select e.class_name, x.revision, x.tier, x.reasons::text from results x",
    "weighings": "select e.class_name, x.revision, x.tier from weighings x",
    "alerts": "select e.class_name, x.tier, x.state, x.has_self_harm from alerts x",
    "alert_reasons": "select e.class_name, r.rule, r.tier from alert_reasons r"
    " join alerts x on x.district_id = r.district_id and x.id = r.alert_id",
    "deliveries": "select e.class_name, d.urgency, d.state from deliveries d"
    " join alerts x on x.district_id = d.district_id and x.id = d.subject_id",
    "audit lines": "select e.class_name, l.action from audit_entries l join (select district_id, student_id,"
    " id::text as subject_id from assignments union all select district_id, student_id, id::text from alerts"
    " union all select district_id, id, id::text from students)"
    " x on x.district_id = l.district_id and x.subject_id = l.subject_id",
}


@dataclass
class Ground:
    """Students of one round, some for each cut; `class_name` says which of a cut's students one is."""

    cast: Cast
    link: Link
    database: Database
    round_id: uuid.UUID

    def students(self, *answers: int) -> list[tuple[uuid.UUID, str]]:
        """As many as there are answers: id and number."""
        numbers = [f"C{uuid.uuid4().hex[:10]}" for _ in answers]
        with self.cast.database.unit(self.cast.scope) as session:
            made = [
                make_student(session, self.cast.school_a.id, number=number, class_name=str(place)).id
                for place, number in enumerate(numbers)
            ]
            rounds.enroll_late(session, self.round_id, student_ids=made)
        return list(zip(made, numbers, strict=True))

    def state(self, students: list[uuid.UUID]) -> State:
        """All that came of these students, without any id."""
        found: State = {}
        with self.cast.database.unit(self.cast.scope) as session:
            for name, query in OF_STUDENTS.items():
                rows = session.execute(
                    text(
                        f"{query} join enrollments e on e.district_id = x.district_id and e.student_id = x.student_id"
                        " where x.district_id = :district and x.student_id = any(:students)"
                    ),
                    {"district": self.cast.district.id, "students": students},
                )
                found[name] = sorted(map(tuple, rows))
        return found


@pytest.fixture
def ground(cast: Cast) -> Iterator[Ground]:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, instruments=[("phq9", ["self"])])
    with cuttable(cast.database) as (link, database):
        yield Ground(cast, link, database, made.id)


def places(total: int, is_storm: bool) -> list[int]:
    """After which messages to cut: after each, or after a few of them and some of the last."""
    every = range(1, total + MORE)
    return list(every) if is_storm else sorted({*every[: -2 * MORE : max(1, total // CUTS)], total - 4, total - 3})


@pytest.mark.storm
def test_a_submit_whose_link_is_cut_is_there_whole_or_not_at_all_and_once_when_it_is_sent_again(
    ground: Ground, is_storm: bool
) -> None:
    client = TestClient(create_app(ground.database, settings()), raise_server_exceptions=False)
    headers = {"Authorization": f"Bearer {token_for(ground.cast.database, ground.cast.an)}"}

    def submit(student: uuid.UUID, cut: int | None) -> int:
        ground.database.dispose()  # each begins with a connection of its own, which may be cut as well
        place = place_of(ground, student)
        ground.link.cut_after(cut)
        came = client.post(
            f"/v1/assignments/{place}/submit",
            json={"answers": dict.fromkeys(PHQ9, 3)},
            headers=headers | {"Idempotency-Key": str(student)},
        )
        return came.status_code

    def clean() -> tuple[State, State, int]:
        ((student, _),) = ground.students(3)
        before = ground.state([student])
        assert submit(student, None) == 200
        return before, ground.state([student]), ground.link.passed

    clean()  # what is read once per process is read now
    nothing, whole, total = clean()
    assert [row[1] for row in whole["alerts"]] == [3]
    seen = {"nothing": 0, "whole": 0}
    for n in places(total, is_storm):
        ((student, _),) = ground.students(3)
        status = submit(student, n)
        if not ground.link.is_cut:  # that was all of it
            assert n > total - MORE
            break
        ground.database.dispose()
        settled(ground.cast.database)
        left = ground.state([student])
        assert left in (nothing, whole), n
        assert left == whole if status == 200 else status == 503, n  # what was acknowledged is there
        seen["whole" if left == whole else "nothing"] += 1
        assert submit(student, None) == 200
        assert ground.state([student]) == whole, n
    assert seen["nothing"] > 0
    told("submit", total, seen)


@pytest.mark.storm
def test_an_upload_whose_link_is_cut_is_there_whole_or_not_at_all_and_once_when_it_is_loaded_again(
    ground: Ground, is_storm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.read_here(monkeypatch)

    def received() -> tuple[list[uuid.UUID], uuid.UUID]:
        students = ground.students(0, 2, 3)
        rows = [phq9(number, answer) for (_, number), answer in zip(students, (0, 2, 3), strict=True)]
        upload = sending.receive(ground.cast, ground.round_id, csv_of(*rows))
        return [student for student, _ in students], upload.id

    def load(upload_id: uuid.UUID, cut: int | None) -> None:
        ground.database.dispose()
        ground.link.cut_after(cut)
        intake.load(ground.database, ground.cast.district.id, upload_id, weigh=raising.weigh_load)

    def clean() -> tuple[State, State, str, int]:
        students, upload_id = received()
        before = ground.state(students)
        load(upload_id, None)
        return before, ground.state(students), receipt_of(ground, upload_id), ground.link.passed

    clean()
    nothing, whole, receipt, total = clean()
    assert [row[1] for row in whole["alerts"]] == [2, 3]
    seen = {"nothing": 0, "whole": 0}
    for n in places(total, is_storm):
        students, upload_id = received()
        with contextlib.suppress(OperationalError, psycopg.OperationalError):
            load(upload_id, n)
        if not ground.link.is_cut:
            assert n > total - MORE
            break
        ground.database.dispose()
        settled(ground.cast.database)
        left = ground.state(students), receipt_of(ground, upload_id)
        assert left in ((nothing, NO_RECEIPT), (whole, receipt)), n
        seen["whole" if left[0] == whole else "nothing"] += 1
        load(upload_id, None)
        assert (ground.state(students), receipt_of(ground, upload_id)) == (whole, receipt), n
    assert seen["nothing"] > 0
    told("upload", total, seen)


NO_RECEIPT = "received None"


def receipt_of(ground: Ground, upload_id: uuid.UUID) -> str:
    sent = sending.receipt_of(ground.cast, upload_id)
    return f"{sent.upload.state} {sent.upload.receipt and sent.upload.receipt['forms']}"


def place_of(ground: Ground, student: uuid.UUID) -> uuid.UUID:
    with ground.cast.database.unit(ground.cast.scope) as session:
        found: uuid.UUID = session.execute(
            text("select id from assignments where student_id = :student"), {"student": student}
        ).scalar_one()
        return found


def told(what: str, total: int, seen: dict[str, int]) -> None:
    cuts = sum(seen.values())
    print(f"{what}: {cuts} cuts within {total} messages, {seen['nothing']} left nothing, {seen['whole']} all of it")  # noqa: T201
