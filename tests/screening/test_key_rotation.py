"""New keys under load: nobody meets an error, everything opens under the new and nothing under the old."""

import datetime as dt
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from screening import identity, key_rotation, sealing, staff
from screening.db import Database
from screening.identity import Person
from screening.settings import Settings
from tests.cast import Cast, assemble
from tests.conftest import MASTER_KEY
from tests.factories import make_student

BY = uuid.UUID(int=5)


class KeyFile:
    """The file of master keys, and databases of processes that read it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.url = database.url
        self.processes: list[Database] = []
        path = folder / "master.key"
        path.write_text(f"{MASTER_KEY.hex()}\n")
        path.chmod(0o600)
        self.settings = Settings.read({"SCREENING_MASTER_KEY_FILE": str(path), "SCREENING_HOME": str(folder)})

    def process(self) -> Database:
        return self.with_keys(sealing.Ring(self.settings.master_keys(), self.settings.master_keys))

    def with_keys(self, keys: sealing.Ring | bytes) -> Database:
        self.processes.append(Database(self.url, keys))
        return self.processes[-1]

    def rotate(self, database: Database) -> key_rotation.Rotated:
        keys = [sealing.new_key(), *self.settings.master_keys()]
        self.settings.keep_master_keys(keys)
        database.ring.read_anew()
        return key_rotation.rotate_master(database, keys, self.settings.keep_master_keys, by_id=BY)


@pytest.fixture
def home(fresh_database: Database) -> Cast:
    return assemble(fresh_database)


@pytest.fixture
def keys(home: Cast, tmp_path: Path) -> Iterator[KeyFile]:
    made = KeyFile(home.database, tmp_path)
    yield made
    for each in made.processes:
        each.dispose()


def names(database: Database, cast: Cast) -> set[str]:
    with database.unit(cast.scope) as session:
        return set(identity.names(session, [student.id for student in cast.students.all()]).values())


def test_under_load_nobody_meets_an_error(home: Cast, keys: KeyFile, share: Callable[[int], int]) -> None:
    """Readers, writers and signers-in in processes of their own while master and district keys are changed."""
    wanted = names(home.database, home)
    token = _token(home)
    done, errors, acts = threading.Event(), [], [0] * 4
    processes = [keys.process() for _ in range(4)]

    def read(number: int) -> None:
        while not done.is_set():
            try:
                assert names(processes[number], home) >= wanted
                assert staff.actor_by_token(processes[number], token) is not None
                with processes[number].unit(home.scope) as session:
                    student = make_student(session, home.school_a.id, name="新同学")
                    assert identity.names(session, [student.id]) == {student.id: "新同学"}
                acts[number] += 1
            except Exception as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    rotating = keys.process()
    for _ in range(share(20)):
        assert keys.rotate(rotating).districts == 1
        assert key_rotation.rotate_district(rotating, home.district.id, by_id=BY) >= len(wanted)
    done.set()
    for each in threads:
        each.join()
    assert errors == []
    assert min(acts) > 0
    assert len(keys.settings.master_keys()) == 1
    fresh = keys.process()
    assert names(fresh, home) == wanted
    with pytest.raises(sealing.CannotOpen):
        names(keys.with_keys(MASTER_KEY), home)
    with fresh.unit(home.scope) as session:
        numbers = session.execute(text("select distinct get_byte(wrapped_key, 0) from identities")).scalars().all()
        assert numbers == [share(20) + 1]
        [found] = session.execute(
            text("select student_id from enrollments where number_hash = :hash"),
            {"hash": identity.number_hash(sealing.keys(session), "A001")},
        ).scalars()
        assert found == home.students.granted_13.id
    print(f"\n{sum(acts)} rounds of acts beside {share(20)} rotations of both, {len(errors)} errors")  # noqa: T201


def _token(cast: Cast) -> str:
    with cast.database.unit(cast.scope) as session:
        assert cast.an.account_id is not None
        return staff.issue_token(session, cast.an.account_id, 60, by=cast.system, now=dt.datetime.now(dt.UTC))


def test_a_rotation_that_was_broken_off_is_finished_by_the_next(home: Cast, keys: KeyFile) -> None:
    second = assemble(home.database)
    both = [sealing.new_key(), MASTER_KEY]
    keys.settings.keep_master_keys(both)
    ring = sealing.Ring(both)
    with home.database.unit(home.scope) as session:  # one district was done when it stopped
        wrapped = sealing.keys(session).wrapped(ring)
        session.execute(
            text("update districts set wrapped_key = :w where id = :d"), {"w": wrapped, "d": home.district.id}
        )
    between = keys.process()
    assert names(between, home)
    assert names(between, second)
    key_rotation.rotate_master(between, keys.settings.master_keys(), keys.settings.keep_master_keys, by_id=BY)
    assert keys.settings.master_keys() == both[:1]
    assert names(keys.process(), second) == names(between, home)


def test_no_key_is_taken_away_while_a_value_is_under_none(home: Cast, keys: KeyFile) -> None:
    with home.database.unit(home.scope) as session:
        session.execute(
            text("update districts set wrapped_key = set_byte(wrapped_key, 20, 1 - get_byte(wrapped_key, 20) % 2)")
        )
    rotating = keys.process()
    with pytest.raises(sealing.CannotOpen):
        keys.rotate(rotating)
    assert len(keys.settings.master_keys()) == 2


def test_a_flipped_byte_another_row_and_another_district_are_refused(home: Cast) -> None:
    other = assemble(home.database)
    with home.database.unit(home.scope) as session:
        held = sealing.keys(session)
    with other.database.unit(other.scope) as session:
        foreign = sealing.keys(session)
    sealed = held.seal_text("王小明", "row/1")
    assert held.open_text(sealed, "row/1") == "王小明"
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(sealing.CannotOpen):
            held.open(bytes(changed), "row/1")
    with pytest.raises(sealing.CannotOpen):
        held.open(sealed, "row/2")
    with pytest.raises(sealing.CannotOpen):
        foreign.open(sealed, "row/1")
    with pytest.raises(sealing.CannotOpen):
        held.open(b"", "row/1")


def test_keys_hold_what_they_held_before_one_more(home: Cast) -> None:
    with home.database.unit(home.scope) as session:
        held = sealing.keys(session)
    old = held.seal(b"old", "row")
    waiting = held.with_one_more()
    assert waiting.seal(b"x", "row")[0] == 1
    used = waiting.with_the_last()
    new = used.seal(b"new", "row")
    assert (old[0], new[0]) == (1, 2)
    ring = sealing.Ring([os.urandom(32)])
    again = sealing.unwrap_district_keys(ring, home.district.id, used.wrapped(ring))
    assert (again.open(old, "row"), again.open(new, "row")) == (b"old", b"new")
    assert again.lookup("A001", "number") == held.lookup("A001", "number")
    with pytest.raises(sealing.CannotOpen):
        held.open(new, "row")
    assert "Keys(" in repr(held)
    assert repr(ring) == "Ring(1 keys)"


def test_a_person_is_read_the_same_before_and_after(home: Cast, keys: KeyFile) -> None:
    student = home.students.granted_13
    with home.database.unit(home.scope) as session:
        before = identity.people(session, [student.id])[student.id]
    process = keys.process()
    keys.rotate(process)
    with process.unit(home.scope) as session:
        assert identity.people(session, [student.id])[student.id] == before
        assert isinstance(before, Person)
