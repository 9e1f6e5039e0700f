"""Backups: sealed for a key that is elsewhere, refused when changed, and a drill from the wreck back to the service."""

import io
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from alerts import timetable
from screening import audit_chain, backup, embedded, erasure, identity, migration
from screening.backup import CannotRead, dumping, sealed_file
from screening.db import Database
from screening.errors import Refused
from tests.alerts.episodes import MONDAY, RED, made_up_settings, ring
from tests.cast import Cast, assemble
from tests.conftest import MASTER_KEY
from tests.factories import make_student

CANARY = "欧阳不可见 13800138000"


@dataclass(frozen=True)
class Pair:
    private: bytes
    public: bytes


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    backup.make_key_pair(tmp_path / "offline" / "backup.key", tmp_path / "backup.pub")
    return Pair(
        backup.read_private_key(tmp_path / "offline" / "backup.key"), backup.read_public_key(tmp_path / "backup.pub")
    )


def sealed(content: bytes, pair: Pair) -> bytes:
    target = io.BytesIO()
    assert sealed_file.seal([content[:7], content[7:]], target, pair.public) == len(content)
    return target.getvalue()


def opened(content: bytes, private: bytes) -> bytes:
    return b"".join(sealed_file.unseal(io.BytesIO(content), private))


@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_000, 1_000_001, 2_500_000])
def test_what_is_sealed_opens_again_and_with_no_other_key(pair: Pair, size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    assert opened(sealed(content, pair), pair.private) == content
    backup.make_key_pair(tmp_path / "other.key", tmp_path / "other.pub")
    with pytest.raises(CannotRead, match="for another key"):
        opened(sealed(content, pair), backup.read_private_key(tmp_path / "other.key"))


def test_one_flipped_bit_anywhere_is_refused(pair: Pair) -> None:
    whole = sealed(os.urandom(1_200_000), pair)
    dice = random.Random(4)  # noqa: S311 - the same again every time
    for place in [*range(0, 83, 5), *(dice.randrange(len(whole)) for _ in range(40)), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1 << dice.randrange(8)
        with pytest.raises(CannotRead):
            opened(bytes(changed), pair.private)


def test_a_backup_that_was_cut_or_put_together_otherwise_is_refused(pair: Pair) -> None:
    whole = sealed(os.urandom(2_500_000), pair)
    header, piece = 83, 1_000_016
    first, second = whole[header : header + piece], whole[header + piece : header + 2 * piece]
    for changed in (
        whole[: header + piece],
        whole[: header + 2 * piece],
        whole[:header] + second + first + whole[header + 2 * piece :],
        whole[:-1],
        whole[:50],
        b"",
        whole + b"\0",
    ):
        with pytest.raises(CannotRead):
            opened(changed, pair.private)


def test_a_key_is_never_written_over_and_halves_are_not_mixed_up(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        backup.make_key_pair(tmp_path / "new.key", tmp_path / "backup.pub")
    with pytest.raises(CannotRead, match="private half"):
        backup.read_private_key(tmp_path / "backup.pub")
    assert (tmp_path / "offline" / "backup.key").stat().st_mode & 0o777 == 0o600


# -- the drill ------------------------------------------------------------------------------------------


@dataclass
class Town:
    """A district at work on a server whose owner may be asked for a backup."""

    server: embedded.Server
    cast: Cast
    folder: Path

    @property
    def name(self) -> str:
        return str(make_url(self.cast.database.url).database)

    @property
    def owner_url(self) -> str:
        return self.server.url(database=self.name, role="owner")

    def counts(self, url: str) -> dict[str, int]:
        with psycopg.connect(url) as owner:
            tables = [row[0] for row in owner.execute("select tablename from pg_tables where schemaname = 'public'")]
            return {
                name: row[0]
                for name in tables
                if (row := owner.execute(f"select count(*) from {name}").fetchone()) is not None
            }


@pytest.fixture
def town(server: embedded.Server, fresh_database: Database, tmp_path: Path) -> Town:
    cast = assemble(fresh_database)
    with cast.database.unit(cast.scope) as session:
        for number in range(5):
            student = make_student(session, cast.school_a.id, name=CANARY, number=f"{CANARY}-{number}")
            ring(session, student, RED)
    settings = made_up_settings(tmp_path)
    timetable.run_due(cast.database, MONDAY, settings, only={"sealing", "heads"})
    return Town(server, cast, tmp_path)


@pytest.fixture
def incoming(server: embedded.Server) -> Iterator[str]:
    name = f"incoming_{os.urandom(6).hex()}"
    server.create_database(name)
    yield name
    server.drop_database(name)


def bring_back(town: Town, path: Path, incoming: str, pair: Pair) -> backup.Restored:
    return backup.restore(
        path,
        owner_url=town.server.url(database=incoming, role="owner"),
        app_url=town.server.url(database=incoming, role="app"),
        app_role=embedded.APP,
        master_key=MASTER_KEY,
        private_key=pair.private,
        ledgers=town.folder / "ledgers",
    )


def test_the_drill(town: Town, incoming: str, pair: Pair) -> None:
    """Backup, an erasure and work after it, the wreck, and back: equal, proved, erased again, nothing sent twice."""
    path = town.folder / "night.backup"
    before = town.counts(town.owner_url)
    assert dumping.dump(town.owner_url, path, pair.public) > 10_000
    content = path.read_bytes()
    assert CANARY.encode() not in content
    assert b"PGDMP" not in content
    settings = made_up_settings(town.folder)
    gone = town.cast.students.in_school_c.id
    with town.cast.database.unit(town.cast.scope) as session:
        erasure.ask(session, [gone], "person", "request", by=town.cast.system, now=MONDAY)
    ledger = town.folder / "ledgers" / erasure.FOLDER
    assert (
        erasure.erase_due(town.cast.database, town.cast.district.id, MONDAY + erasure.GRACE, ledger)["done"] == 2
    )  # and one withdrew
    timetable.run_due(town.cast.database, MONDAY, settings, only={"sealing", "heads"})
    town.cast.database.dispose()

    found = bring_back(town, path, incoming, pair)

    assert found.is_whole, (found.faults, found.verdicts)
    assert len(found.lost) == 1, found.lost
    same = {name: n for name, n in found.counts.items() if name not in ("identities", "enrollments", "erasures")}
    assert same == {name: before[name] for name in same}
    assert found.counts["identities"] == before["identities"] - 1
    assert (found.erasures_applied, found.counts["erasures"]) == (2, before["erasures"] + 1)
    assert found.deliveries_held_back == before["deliveries"] > 0
    restored = Database(town.server.url(database=incoming, role="app"), MASTER_KEY)
    try:
        with restored.unit(town.cast.scope) as session:
            assert gone not in identity.names(session, [gone])
            assert list(identity.names(session, [town.cast.students.granted_13.id]).values()) == ["王小明"]
        assert timetable.run_due(restored, MONDAY, settings, only={"sealing", "heads", "deliveries"}).keys() <= {
            "deliveries"
        }
        with restored.unit(town.cast.scope) as session:
            sent = session.execute(text("select count(*) from deliveries where state = 'sent'")).scalar()
            assert sent == 0
        outside = audit_chain.in_files(town.folder / "ledgers" / audit_chain.FOLDER)
        verdict = audit_chain.verify(restored, town.cast.district.id, outside[town.cast.district.id])
        assert verdict.faults == []
    finally:
        restored.dispose()


def test_a_backup_is_not_restored_over_anything(town: Town, incoming: str, pair: Pair) -> None:
    path = town.folder / "night.backup"
    dumping.dump(town.owner_url, path, pair.public)
    migration.migrate(town.server.url(database=incoming, role="owner"), embedded.APP)
    with pytest.raises(Refused, match="not empty"):
        bring_back(town, path, incoming, pair)


def test_a_changed_backup_touches_no_database(town: Town, incoming: str, pair: Pair) -> None:
    path = town.folder / "night.backup"
    dumping.dump(town.owner_url, path, pair.public)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CannotRead, match="changed or cut off"):
        bring_back(town, path, incoming, pair)
    assert town.counts(town.server.url(database=incoming, role="owner")) == {}


def test_one_dump_a_night_and_thirty_in_all(town: Town, pair: Pair) -> None:
    folder = town.folder / "nights"
    folder.mkdir()
    for day in range(1, 32):
        (folder / f"screening-202608{day:02}.backup").touch()
    (folder / "a letter").touch()
    made = backup.dump_nightly(town.owner_url, folder, pair.public, MONDAY.date())
    assert made is not None
    assert backup.dump_nightly(town.owner_url, folder, pair.public, MONDAY.date()) is None
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 31
    assert "a letter" in left
    assert made.name in left


def test_a_dump_that_fails_leaves_the_old_one(town: Town, pair: Pair) -> None:
    path = town.folder / "night.backup"
    path.write_text("the old one")
    with pytest.raises(dumping.DumpFailed, match="pg_dump failed"):
        dumping.dump(town.server.url(database=f"absent_{uuid.uuid4().hex}", role="owner"), path, pair.public)
    assert path.read_text() == "the old one"
    assert [each.name for each in town.folder.iterdir() if each.name.startswith(".night")] == []
