"""The account: every line gets a place in a chain, late ones too, and what is done to it behind our back is found."""

import datetime as dt
import json
import os
import random
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from screening import access, audit, audit_chain, embedded
from screening.audit_chain import Verdict, lines, linking, verifying
from screening.db import Database
from tests.factories import make_district

COUNT = 120
KINDS = 200
Owner = psycopg.Connection[tuple[object, ...]]


class Chain:
    """One district's account in a database of its own, its heads in a folder, and the owner who can do anything."""

    def __init__(self, database: Database, owner: Owner, folder: Path) -> None:
        self.database, self.owner, self.folder = database, owner, folder
        self.district_id = make_district(database).id

    def write(self, count: int = 1) -> None:
        for number in range(count):
            with self.database.unit(access.Scope(self.district_id)) as session:
                audit.record(session, access.system(self.district_id), "queue.read", "queue", "all", count=number)

    def seal(self) -> int:
        sealed = audit_chain.seal(self.database, self.district_id)
        assert audit_chain.write_heads(self.database, self.district_id, self.folder) == ()
        return sealed

    def verify(self) -> Verdict:
        outside = audit_chain.in_files(self.folder).get(self.district_id, [])
        return audit_chain.verify(self.database, self.district_id, outside)

    def do(self, statement: str, *parameters: object) -> None:
        """As the owner, whom no wall stops."""
        self.owner.execute(statement, parameters)

    @property
    def file(self) -> Path:
        return audit_chain.file_of(self.database, self.district_id, self.folder)

    def count(self, table: str) -> int:
        row = self.owner.execute(f"select count(*) from {table} where district_id = %s", [self.district_id]).fetchone()
        assert row is not None
        return int(str(row[0]))


@contextmanager
def as_owner(server: embedded.Server, database: Database) -> Iterator[Owner]:
    name = str(make_url(database.url).database)
    with psycopg.connect(server.url(database=name, role="owner"), autocommit=True) as owner:
        yield owner


@pytest.fixture
def chain(server: embedded.Server, fresh_database: Database, tmp_path: Path) -> Iterator[Chain]:
    with as_owner(server, fresh_database) as owner:
        yield Chain(fresh_database, owner, tmp_path / "heads")


def test_every_line_gets_one_place_and_the_walk_agrees(chain: Chain) -> None:
    chain.write(25)
    assert chain.seal() == chain.count("audit_entries")
    assert chain.seal() == 0
    chain.write(5)
    assert chain.seal() == 5
    found = chain.verify()
    assert (found.entries, found.heads, found.faults) == (chain.count("audit_entries"), 2, [])


def test_a_line_that_commits_late_is_sealed_late_and_never_skipped(chain: Chain) -> None:
    """Its id is lower than those of lines that were sealed long before it came to light."""
    by = access.system(chain.district_id)
    with chain.database.unit(access.Scope(chain.district_id)) as slow:
        audit.record(slow, by, "queue.read", "queue", "slow")
        for _ in range(3):
            chain.write(4)
            chain.seal()
    assert chain.seal() == 1
    chain.write()
    assert chain.seal() == 1
    assert chain.verify().faults == []
    assert chain.count("audit_seals") == chain.count("audit_entries")


def test_no_line_of_many_writers_is_skipped(chain: Chain, share: Callable[[int], int]) -> None:
    """Writers of short, long and broken-off transactions, while two seal at once."""
    done = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311
        for _ in range(share(400)):
            try:
                with chain.database.unit(access.Scope(chain.district_id)) as session:
                    for _ in range(dice.randint(1, 4)):
                        audit.record(session, access.system(chain.district_id), "queue.read", "queue", "all")
                        session.execute(_PAUSE, {"seconds": dice.choice([0, 0, 0.002, 0.02])})
                    if dice.random() < 0.2:
                        raise LookupError
            except LookupError:
                pass

    def seal() -> None:
        while not done.is_set():
            audit_chain.seal(chain.database, chain.district_id)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    sealers = [threading.Thread(target=seal) for _ in range(2)]
    for each in writers + sealers:
        each.start()
    for each in writers:
        each.join()
    done.set()
    for each in sealers:
        each.join()
    chain.seal()
    assert chain.count("audit_seals") == chain.count("audit_entries") > share(400)
    assert chain.verify().faults == []


def test_more_lines_than_one_look_takes(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "BATCH", 7)
    monkeypatch.setattr(verifying, "AT_ONCE", 11)
    with chain.database.unit(access.Scope(chain.district_id)) as session:
        for _ in range(20):  # of one transaction: a look ends in the middle of it
            audit.record(session, access.system(chain.district_id), "queue.read", "queue", "all")
    chain.write(20)
    assert chain.seal() == chain.count("audit_entries")
    assert chain.verify().faults == []


def test_after_a_restore_into_another_server_lines_are_sealed_on(chain: Chain) -> None:
    """There transactions are counted anew: what was written before has numbers that are still to come."""
    chain.write(10)
    chain.seal()
    chain.write(3)
    ahead = 1_000_000
    chain.do("update audit_heads set xact_below = xact_below + %s", ahead)
    chain.do("update audit_entries set xact = xact + %s", ahead)
    chain.do("delete from audit_seals")
    chain.do("delete from audit_heads where sequence < (select max(sequence) from audit_heads)")
    chain.do("update audit_heads set sequence = 0, hash = %s", lines.BEGINNING)
    everything = chain.count("audit_entries")
    assert audit_chain.seal(chain.database, chain.district_id) == everything  # the old ones all wait
    chain.write(2)
    assert audit_chain.seal(chain.database, chain.district_id) == 2
    chain.write(2)
    assert audit_chain.seal(chain.database, chain.district_id) == 2
    row = chain.owner.execute("select id_above, xact_below from audit_heads order by sequence desc limit 1").fetchone()
    assert row is not None
    assert int(str(row[0])) > 0
    assert int(str(row[1])) < ahead


def test_lines_unsealed_for_over_a_minute_are_named(chain: Chain) -> None:
    chain.write(3)
    chain.seal()
    chain.write(1)
    assert chain.verify().faults == []  # it is only just written
    chain.do("update audit_entries set at = at - interval '2 minutes' where id = (select max(id) from audit_entries)")
    [fault] = chain.verify().faults
    assert fault.words.startswith("unsealed for over a minute: line ")


def test_heads_that_were_never_written_outside_are_named(chain: Chain) -> None:
    chain.write(3)
    audit_chain.seal(chain.database, chain.district_id)
    outside: list[audit_chain.Head] = []
    assert audit_chain.verify(chain.database, chain.district_id, outside).faults == []
    chain.do("update audit_heads set sealed_at = sealed_at - interval '6 minutes'")
    words = {fault.words for fault in audit_chain.verify(chain.database, chain.district_id, outside).faults}
    assert any("not kept outside" in each for each in words)
    assert any("not signed" in each for each in words)  # its time is signed too


def test_the_app_can_add_to_the_chain_and_change_nothing(chain: Chain) -> None:
    chain.write(2)
    chain.seal()
    with chain.database.direct() as app:
        for statement in ("update {} set district_id = district_id", "delete from {}", "truncate {}"):
            for table in ("audit_entries", "audit_seals", "audit_heads"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(statement.format(table))


def test_a_refusal_of_whom_nobody_knew_stands_in_a_chain_too(chain: Chain) -> None:
    audit.security_event(chain.database, "sign_in.failed", "account", "unknown", district_id=None)
    assert audit_chain.seal(chain.database, audit.NOWHERE) == 1
    assert audit_chain.verify(chain.database, audit.NOWHERE, []).faults == []


# -- the seven ways -------------------------------------------------------------------------------------


class Tampering:
    """Seven ways to change an account behind our back; each answers the first place that no longer holds."""

    def __init__(self, chain: Chain, dice: random.Random, last: int) -> None:
        self.chain, self.dice, self.last = chain, dice, last

    def edit(self) -> int:
        place = self.dice.randint(1, self.last)
        column = self.dice.choice(
            [
                "role = 'auditor'",
                "subject_id = 'x'",
                "at = at + interval '1 microsecond'",
                "actor_id = gen_random_uuid()",
            ]
        )
        self.chain.do(f"update audit_entries set {column} where id = {self.entry(place)}")
        return place

    def delete(self) -> int:
        place = self.dice.randint(1, self.last)
        entry = self.entry(place)
        self.chain.do(f"delete from audit_entries where id = {entry}")
        if self.dice.random() < 0.5:
            self.chain.do("delete from audit_seals where sequence = %s", place)
        return place

    def swap(self) -> int:
        first, second = sorted(self.dice.sample(range(1, self.last + 1), 2))
        if self.dice.random() < 0.5:
            one, other = self.entry(first), self.entry(second)
            for old, new in ((one, -1), (other, one), (-1, other)):
                self.chain.do(f"update audit_entries set id = {new} where id = {old}")
        else:
            for old, new in ((first, -1), (second, first), (-1, second)):
                self.chain.do("update audit_seals set sequence = %s where sequence = %s", new, old)
        return first

    def insert(self) -> int:
        """A line put in between, the places after it moved on."""
        place = self.dice.randint(1, self.last)
        self.chain.do("update audit_seals set sequence = -sequence - 1 where sequence >= %s", place)
        self.chain.do("update audit_seals set sequence = -sequence where sequence < 0")
        self.chain.do(
            "insert into audit_entries (district_id, id, role, action, subject, subject_id) overriding system value"
            " values (%s, -5, 'system', 'queue.read', 'queue', 'all')",
            self.chain.district_id,
        )
        self.chain.do(
            "insert into audit_seals (district_id, sequence, entry_id, hash) values (%s, %s, -5, %s)",
            self.chain.district_id, place, os.urandom(32),
        )  # fmt: skip
        return place

    def cut(self) -> int:
        """The last lines and every trace of them in the database."""
        place = self.dice.randint(1, self.last)
        self.chain.do(
            "delete from audit_entries where id in (select entry_id from audit_seals where sequence >= %s)", place
        )
        self.chain.do("delete from audit_seals where sequence >= %s", place)
        self.chain.do("delete from audit_heads where sequence >= %s", place)
        return place

    def rewrite(self) -> int:
        """A line changed and every hash from there on made anew, as only a key holder could not tell."""
        place = self.dice.randint(1, self.last)
        self.chain.do(f"update audit_entries set role = 'auditor' where id = {self.entry(place)}")
        rows = self.chain.owner.execute(
            f"select s.sequence, {lines.CANONICAL} from audit_seals s"
            " join audit_entries e on e.id = s.entry_id order by 1"
        ).fetchall()
        before = lines.BEGINNING
        for sequence, canonical in rows:
            before = lines.link(before, int(str(sequence)), str(canonical).encode())
            self.chain.do("update audit_seals set hash = %s where sequence = %s", before, sequence)
        if self.dice.random() < 0.5:
            self.chain.do("delete from audit_heads")
        return place

    def put_back(self) -> int:
        """The tables as they were some time ago."""
        place = self.dice.choice([head for head in self.heads() if head < self.last]) + 1
        self.chain.do(
            "delete from audit_entries where id in (select entry_id from audit_seals where sequence >= %s)", place
        )
        self.chain.do("delete from audit_seals where sequence >= %s", place)
        self.chain.do("delete from audit_heads where sequence >= %s", place)
        return place

    def entry(self, place: int) -> int:
        row = self.chain.owner.execute("select entry_id from audit_seals where sequence = %s", [place]).fetchone()
        assert row is not None
        return int(str(row[0]))

    def heads(self) -> list[int]:
        return [int(str(row[0])) for row in self.chain.owner.execute("select sequence from audit_heads order by 1")]


TABLES = ("audit_entries", "audit_seals", "audit_heads")


@pytest.mark.parametrize("kind", ["edit", "delete", "swap", "insert", "cut", "rewrite", "put_back"])
def test_tampering_is_found_and_the_first_bad_place_named(chain: Chain, kind: str, share: Callable[[int], int]) -> None:
    dice = random.Random(kind)  # noqa: S311
    while chain.count("audit_entries") < COUNT:
        chain.write(dice.randint(1, 9))
        chain.seal()
    chain.do("alter table audit_entries alter id set generated by default")  # an owner can
    for table in TABLES:
        chain.do(f"create table kept_{table} as table {table}")
    last = chain.count("audit_seals")
    heads = [head.sequence for head in audit_chain.in_files(chain.folder)[chain.district_id]]
    assert chain.verify().faults == []
    for _ in range(share(KINDS)):
        place = getattr(Tampering(chain, dice, last), kind)()
        found = chain.verify()
        assert found.faults
        if kind == "rewrite":  # between two heads nobody can know where
            place = max((head for head in heads if head < place), default=0) + 1
        assert found.first_bad == place, found.faults[:3]
        put_right(chain)
    assert chain.verify().faults == []


def put_right(chain: Chain) -> None:
    for table in TABLES:
        chain.do(f"truncate {table}")
        overriding = " overriding system value" if table == "audit_entries" else ""
        chain.do(f"insert into {table}{overriding} select * from kept_{table}")


def test_who_writes_heads_shouts_when_the_chain_no_longer_holds_the_last(chain: Chain) -> None:
    chain.write(5)
    chain.seal()
    size = chain.file.stat().st_size
    last = chain.count("audit_seals")
    Tampering(chain, random.Random(1), last).cut()  # noqa: S311
    shouted = audit_chain.write_heads(chain.database, chain.district_id, chain.folder)
    assert shouted == [f"audit_chain_differs at {last}"]
    assert chain.file.stat().st_size == size


def test_heads_are_of_this_installation_only(chain: Chain) -> None:
    chain.write(5)
    chain.seal()
    file = chain.file
    told = json.loads(file.read_text().splitlines()[-1])
    file.write_text(json.dumps(told | {"signature": "00" * 64}) + "\n")
    assert "not signed by this installation" in chain.verify().faults[0].words
    file.write_text("{}\n")
    with pytest.raises(audit_chain.HeadsMissing, match="line 1"):
        chain.verify()


def test_half_a_line_of_heads_is_ended_and_written_again(chain: Chain) -> None:
    """The machine stopped in the middle of it."""
    chain.write(5)
    chain.seal()
    file = chain.file
    whole = file.read_bytes()
    chain.write(5)
    chain.seal()
    file.write_bytes(file.read_bytes()[:-10])
    chain.seal()
    assert file.read_bytes().startswith(whole)
    assert chain.verify().faults == []


def test_a_million_lines_are_walked_in_a_minute(chain: Chain, is_storm: bool) -> None:
    """A tenth of it in the ordinary run, in a tenth of the time."""
    count = 1_000_000 if is_storm else 20_000
    chain.do(
        "insert into audit_entries (district_id, actor_id, role, action, subject, subject_id, detail)"
        " select %s, gen_random_uuid(), 'counselor', 'alert.read', 'alert', gen_random_uuid()::text, '{\"n\": 1}'"
        " from generate_series(1, %s)",
        chain.district_id, count,
    )  # fmt: skip
    chain.do("analyze audit_entries")
    begun = dt.datetime.now(dt.UTC)
    chain.seal()
    sealed = dt.datetime.now(dt.UTC)
    found = chain.verify()
    walked = dt.datetime.now(dt.UTC)
    assert (found.entries >= count, found.faults) == (True, [])
    sys.stdout.write(
        f"{found.entries} lines: sealed in {(sealed - begun).total_seconds():.1f} s,"
        f" walked in {(walked - sealed).total_seconds():.1f} s\n"
    )
    assert (walked - sealed).total_seconds() <= count * 60 / 1_000_000 + 2


def test_nobody_is_in_the_canonical_text_but_a_pseudonym() -> None:
    assert lines.link(lines.BEGINNING, 1, b"[]") != lines.link(lines.BEGINNING, 2, b"[]")
    at = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
    district = uuid.UUID(int=1)
    assert lines.head_message(district, 1, b"\1" * 32, at) == lines.head_message(
        district, 1, b"\1" * 32, at.astimezone(dt.timezone(dt.timedelta(hours=8)))
    )


_PAUSE = text("select pg_sleep(:seconds)")
