"""Erasure: asked for by a withdrawal, held while a red is open, and then gone from tables, files and backups alike."""

import datetime as dt
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from alerts import raising, timetable
from alerts.models import Alert
from screening import assignments, audit_chain, backup, db, embedded, erasure, identity, intake, replay, sealing
from screening.backup import dumping
from screening.db import Database
from screening.identity import Person
from screening.models import Base, Student
from tests.alerts.episodes import in_case, made_up_settings, ring, talk
from tests.cast import Cast, assemble
from tests.conftest import in_memory
from tests.factories import decide, make_round, make_student

RED = 3


class Home:
    """A district alone on a database, with a round that somebody has answered."""

    def __init__(self, server: embedded.Server, database: Database, folder: Path) -> None:
        self.server, self.cast, self.folder = server, assemble(database), folder
        self.ledger = folder / "ledgers" / erasure.FOLDER
        with database.unit() as session:
            self.now = db.now(session)
        with database.unit(self.cast.scope) as session:
            self.round_id = make_round(session).id

    @property
    def owner_url(self) -> str:
        return self.server.url(database=str(make_url(self.cast.database.url).database), role="owner")

    def answer(self, student: Student, answer: int) -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            row = session.execute(
                text("select id from assignments where student_id = :student"), {"student": student.id}
            ).scalar_one()
            pages = {f"{code}_{n}": answer for code, count in (("phq9", 9), ("gad7", 7)) for n in range(1, count + 1)}
            assignments.save(session, row, pages, by=self.cast.an, now=self.now)
            assignments.submit(session, row, by=self.cast.an, now=self.now)
            raising.sweep(session, now=self.now)

    def withdraw(self, student: Student, decision: str = "withdrawn") -> None:
        with self.cast.database.unit(self.cast.scope) as session:
            at = self.now + dt.timedelta(hours=1 if decision == "withdrawn" else 2)
            decide(session, student.id, decision, at=at)

    def erase(self, days: int = 4) -> dict[str, int]:
        later = self.now + dt.timedelta(days=days)
        return dict(erasure.erase_due(self.cast.database, self.cast.district.id, later, self.ledger))

    def count(self, table: str, student: Student) -> int:
        with self.cast.database.unit(self.cast.scope) as session:
            query = f"select count(*) from {table} where student_id = :student"
            return int(session.execute(text(query), {"student": student.id}).scalar_one())

    def state(self, student: Student) -> str:
        with self.cast.database.unit(self.cast.scope) as session:
            return erasure.of_student(session, student.id)[0].state


@pytest.fixture
def home(server: embedded.Server, fresh_database: Database, tmp_path: Path) -> Home:
    made = Home(server, fresh_database, tmp_path)
    with fresh_database.unit(made.cast.scope) as session:  # one of the cast withdrew long ago; nothing of it waits
        session.execute(text("select erase_as_asked(id) from erasures"))
    return made


def test_a_withdrawal_erases_the_answers_after_three_days(home: Home) -> None:
    student, other = home.cast.students.granted_13, home.cast.students.guardian_grant_16
    for each in (student, other):
        home.answer(each, 1)
    home.withdraw(student)
    assert home.state(student) == "waiting"
    assert home.erase(days=2) == {}
    assert home.count("results", student) == 1
    assert home.erase() == {"done": 1}
    assert {table: home.count(table, student) for table in ("results", "administrations", "weighings")} == {
        "results": 0, "administrations": 0, "weighings": 0,
    }  # fmt: skip
    assert home.count("results", other) == 1
    # that it was asked for, consent and place in the round stay as facts; the child is still on the school's list
    assert home.count("consents", student) == 2
    assert home.count("assignments", student) == 1
    assert home.count("identities", student) == 1
    assert home.state(student) == "done"
    assert home.erase() == {}
    with home.cast.database.unit(home.cast.scope) as session:
        told = session.execute(text("select action from audit_entries where subject_id = :id order by id"),
                               {"id": str(student.id)}).scalars()  # fmt: skip
        assert [action for action in told if action.startswith("erasure")] == ["erasure.asked", "erasure.done"]
        assert list(replay.replay(session).differences) == []


def test_an_open_red_narrows_it_to_safety_until_that_is_resolved(home: Home) -> None:
    student = home.cast.students.granted_13
    home.answer(student, 3)
    home.withdraw(student)
    assert home.erase() == {"narrowed": 1}
    assert home.erase() == {"narrowed": 1}
    assert home.count("results", student) == 1
    with home.cast.database.unit(home.cast.scope) as session:
        [waiting] = erasure.of_student(session, student.id)
        assert (waiting.state, waiting.narrowed_at is not None) == ("waiting", True)
        lines = session.execute(text("select count(*) from audit_entries where action = 'erasure.narrowed'")).scalar()
        assert lines == 1
        session.execute(text("update alerts set closed_at = now() where student_id = :id"), {"id": student.id})
    assert home.erase() == {"done": 1}
    with home.cast.database.unit(home.cast.scope) as session:
        alert = session.execute(text("select tier, state from alerts where student_id = :id"), {"id": student.id}).one()
        assert alert.tier == RED  # that there was one is a fact
        rules = session.execute(text("select rule from alert_reasons")).scalars().all()
        assert rules == ["erased"]


def test_who_grants_again_in_time_takes_it_back(home: Home) -> None:
    student = home.cast.students.granted_13
    home.answer(student, 1)
    home.withdraw(student)
    home.withdraw(student, "granted")
    assert home.erase() == {"taken_back": 1}
    assert home.count("results", student) == 1
    assert home.state(student) == "taken_back"


def test_a_person_goes_with_key_notes_codes_and_files(home: Home) -> None:
    with home.cast.database.unit(home.cast.scope) as session:
        student = make_student(session, home.cast.school_a.id, name="欧阳一去", number="GONE-1")
        case = in_case(session, student, 2, home.cast.an)
        talk(session, case, home.cast.an)
        session.execute(text("update cases set state = 'closed', closed_at = now()"))
        session.execute(text("update alerts set closed_at = now()"))
        erasure.ask(session, [student.id], "person", "request", by=home.cast.system, now=home.now)
    assert home.erase() == {"done": 1}
    assert home.count("identities", student) == 0
    with home.cast.database.unit(home.cast.scope) as session:
        assert identity.names(session, [student.id]) == {}
        keys = sealing.keys(session)
        number = session.execute(text("select count(*) from enrollments where number_hash = :hash"),
                                 {"hash": identity.number_hash(keys, "GONE-1")}).scalar()  # fmt: skip
        assert number == 0
        assert session.execute(text("select count(*) from interviews where length(sealed_note) > 0")).scalar() == 0
        assert session.execute(text("select count(*) from triages where length(sealed_note) > 0")).scalar() == 0
        assert session.execute(text("select tier from cases")).scalar() == 2


def test_every_sealed_word_about_a_student_is_known_to_the_erasure() -> None:
    """A later table with sealed words of a student has to be written into the function, or named here with a reason."""
    migrations = "".join(path.read_text() for path in sorted(Path("alembic/versions").glob("*erasure*.py")))
    about = {"student_id", "case_id", "alert_id", "assignment_id"}
    sealed = [
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name.startswith("sealed") and column.name != "sealed_at" and about & set(table.columns.keys())
    ]
    assert len(sealed) > 10
    missing = [
        f"{table}.{column}"
        for table, column in sealed
        if f"delete from {table} " not in migrations
        and not any(line.split("update ")[1].startswith(f"{table} ") for line in migrations.split("\n")
                    if "update " in line and column in line)
        and not _is_set(migrations, table, column)
    ]  # fmt: skip
    assert missing == []


def _is_set(migrations: str, table: str, column: str) -> bool:
    statements = [part.split(";")[0] for part in migrations.split(f"update {table} set ")[1:]]
    return any(column in statement for statement in statements)


def test_the_ledger_erases_nothing_that_came_after_an_erasure_that_this_database_knows(home: Home) -> None:
    student = home.cast.students.granted_13
    home.answer(student, 1)
    home.withdraw(student)
    assert home.erase() == {"done": 1}
    with home.cast.database.unit(home.cast.scope) as session:
        decide(session, student.id, "granted", at=home.now + dt.timedelta(hours=3))
        home.round_id = make_round(session).id
    with home.cast.database.unit(home.cast.scope) as session:
        place = session.execute(
            text("select id from assignments where student_id = :student and round_id = :round"),
            {"student": student.id, "round": home.round_id},
        ).scalar_one()
        later = home.now + dt.timedelta(hours=4)
        pages = {f"{code}_{n}": 1 for code, count in (("phq9", 9), ("gad7", 7)) for n in range(1, count + 1)}
        assignments.save(session, place, pages, by=home.cast.an, now=later)
        assignments.submit(session, place, by=home.cast.an, now=later)
    assert home.count("results", student) == 1
    with psycopg.connect(home.owner_url, autocommit=True) as owner:
        assert erasure.apply_ledger(owner, home.ledger) == 0
        assert home.count("results", student) == 1
        # a database of before knows nothing of it
        owner.execute("delete from erasures")
        assert erasure.apply_ledger(owner, home.ledger) == 1
        assert (home.count("results", student), home.state(student)) == (0, "done")
        assert erasure.apply_ledger(owner, home.ledger) == 0
        # where it waits still, and a red came up, the worker holds it
        owner.execute("update erasures set state = 'waiting', ended_at = null")
        with home.cast.database.unit(home.cast.scope) as session:
            ring(session, student, RED)
        assert erasure.apply_ledger(owner, home.ledger) == 0
        assert home.state(student) == "waiting"


def test_the_app_erases_nothing_that_was_not_asked_for(home: Home) -> None:
    student = home.cast.students.granted_13
    with home.cast.database.direct() as app:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("select erase_student(%s, %s, 'person')", [home.cast.district.id, student.id])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("update erasures set state = 'done'")
        row = app.execute("select erase_as_asked(%s)", [uuid.uuid4()]).fetchone()
        assert row == ("nothing",)


def test_another_district_cannot_erase(home: Home) -> None:
    other = assemble(home.cast.database)
    home.withdraw(home.cast.students.granted_13)
    with home.cast.database.unit(home.cast.scope) as session:
        [asked] = erasure.of_student(session, home.cast.students.granted_13.id)
    with other.database.unit(other.scope) as session:
        assert session.execute(text("select erase_as_asked(:id)"), {"id": asked.id}).scalar() == "nothing"
    assert home.state(home.cast.students.granted_13) == "waiting"


def test_a_district_that_leaves_is_gone_with_its_key(home: Home, tmp_path: Path) -> None:
    staying = assemble(home.cast.database)
    timetable.run_due(home.cast.database, home.now, made_up_settings(tmp_path), only={"sealing", "heads"})
    tables = [table.name for table in Base.metadata.sorted_tables if "district_id" in table.columns]
    with psycopg.connect(home.owner_url, autocommit=True) as owner:
        before = _rows(owner, tables, staying.district.id)
        assert erasure.erase_district(owner, home.cast.district.id, home.ledger, home.now) > 100
        left = {name: count for name, count in _rows(owner, tables, home.cast.district.id).items() if count}
        assert left.keys() == {"audit_entries", "audit_seals", "audit_heads"}
        assert _rows(owner, tables, staying.district.id) == before
        assert erasure.apply_ledger(owner, home.ledger) == 0  # twice is once
    outside = audit_chain.in_files(tmp_path / "ledgers" / audit_chain.FOLDER)
    verdict = audit_chain.verify(home.cast.database, home.cast.district.id, outside[home.cast.district.id])
    assert verdict.faults == []


def _rows(owner: psycopg.Connection[tuple[object, ...]], tables: list[str], district_id: uuid.UUID) -> dict[str, int]:
    found = {}
    for name in tables:
        row = owner.execute(f"select count(*) from {name} where district_id = %s", [district_id]).fetchone()
        found[name] = int(str(row[0])) if row else 0
    return found


# -- canaries -------------------------------------------------------------------------------------------


@pytest.fixture
def lone_server() -> Iterator[embedded.Server]:
    """A server of this test's own, as it is shipped, whose every file is looked through."""
    with embedded.temporary(within=in_memory()) as started:
        yield started


def test_no_canary_lies_open_in_data_files_logs_or_backups(
    lone_server: embedded.Server, template: str, tmp_path: Path, share: Callable[[int], int]
) -> None:
    """Names, numbers, phones and free text through the house's own verbs, then every byte of the server's folder."""
    from screening import migration
    from tests.conftest import MASTER_KEY

    lone_server.create_database("canaries")
    assert migration.migrate(lone_server.url(database="canaries", role="owner"), "screening_app") == []
    database = Database(lone_server.url(database="canaries"), MASTER_KEY)
    try:
        cast = assemble(database)
        canaries = [f"canary{uuid.uuid4().hex}" for _ in range(share(5_000))]
        planted = iter(canaries)
        with database.unit(cast.scope) as session:
            for _ in range(len(canaries) // 5):
                person = Person(next(planted), next(planted), dt.date(2012, 3, 15), next(planted))
                student = make_student(session, cast.school_a.id)
                identity.replace_many(session, [(student.id, cast.school_a.id, person)])
                ring(session, student, 2)
                alert = session.query(Alert).filter_by(student_id=student.id).one()
                _talk(session, cast, student, alert, next(planted))
            content = "student_number,phq9_1\n" + "\n".join(f"{canary},x" for canary in planted)
            round_id = make_round(session).id
            intake.receive(session, round_id, [content.encode()], file_name=f"{canaries[-1]}.csv", by=cast.an)
        timetable.run_due(database, dt.datetime.now(dt.UTC), made_up_settings(tmp_path))
        backup.make_key_pair(tmp_path / "backup.key", tmp_path / "backup.pub")
        owner = lone_server.url(database="canaries", role="owner")
        dumping.dump(owner, tmp_path / "night.backup", backup.read_public_key(tmp_path / "backup.pub"))
        with dumping.running([dumping.tool("pg_dump"), "--no-password"], owner, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            plain = process.stdout.read()
        with (
            database.engine.connect() as connection,
            psycopg.connect(lone_server.superuser_url, autocommit=True) as superuser,
        ):
            connection.close()
            superuser.execute("checkpoint")
        files = [path for folder in (lone_server.places.home, tmp_path) for path in folder.rglob("*") if path.is_file()]
        found = _found(canaries, [(str(path), path.read_bytes()) for path in files] + [("dump", plain)])
    finally:
        database.dispose()
    sys.stdout.write(f"{len(canaries)} canaries, {len(files)} files, {len(found)} found open\n")
    assert len(plain) > 100_000
    assert found == []
    assert len(canaries) >= 500


def _talk(session, cast: Cast, student: Student, alert: Alert, words: str) -> None:  # type: ignore[no-untyped-def]
    from alerts import triage

    now = db.now(session)
    triage.acknowledge(session, alert.id, by=cast.an, now=now)
    triage.triage(
        session, alert.id, "case_opened", by=cast.an, now=now, contact="meeting", is_student_seen=True, words=words
    )


def _found(canaries: list[str], contents: list[tuple[str, bytes]]) -> list[str]:
    """All begin alike, so one look through each content is enough."""
    known = {canary.encode() for canary in canaries}
    open_in = []
    for name, content in contents:
        place = content.find(b"canary")
        while place >= 0:
            if content[place : place + 38] in known:
                open_in.append(name)
                break
            place = content.find(b"canary", place + 1)
    return open_in


def test_the_look_for_canaries_finds_one_that_is_there() -> None:
    assert _found(["canary" + "0" * 32], [("a", b"xx canary canary" + b"0" * 32)]) == ["a"]
