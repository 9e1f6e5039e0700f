"""A district leaves: by the word of two, handed over whole to its receiver alone, and then gone."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from screening import access, db, embedded, erasure, leaving, sealing
from screening.access import Actor
from screening.backup import CannotRead, make_key_pair, read_private_key, read_public_key
from screening.backup.sealed_file import unseal
from screening.errors import Conflict, Refused
from screening.models import GLOBAL_TABLES, Base
from tests.api.test_command import Shell, run
from tests.cast import Cast, assemble
from tests.doors import somebody

assert run  # the fixture


def proved(cast: Cast, actor: Actor) -> Actor:
    with cast.database.unit(cast.scope) as session:
        return replace(actor, proved_at=db.now(session))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[bytes, bytes]:
    make_key_pair(tmp_path / "theirs", tmp_path / "theirs.pub")
    return read_private_key(tmp_path / "theirs"), read_public_key(tmp_path / "theirs.pub")


def agreed(cast: Cast) -> None:
    one, other = proved(cast, cast.district_admin), proved(cast, somebody(cast, "privacy_officer"))
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        asked = leaving.ask(session, by=one, now=now)
        assert leaving.ask(session, by=other, now=now).id == asked.id
        with pytest.raises(Refused, match="second person"):
            leaving.confirm(session, asked.id, by=one, now=now)
        leaving.confirm(session, asked.id, by=other, now=now)
        with pytest.raises(Conflict):
            leaving.confirm(session, asked.id, by=other, now=now)


def test_two_say_so_with_their_second_factor_or_nothing_leaves(
    cast: Cast, tmp_path: Path, keys: tuple[bytes, bytes]
) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(Refused, match="second factor"):
        leaving.ask(session, by=cast.district_admin, now=db.now(session))
    with pytest.raises(Refused, match="Two persons"):
        leaving.hand_over(cast.database, cast.district.id, tmp_path / "all", keys[1], by=cast.system)
    with cast.database.unit(cast.scope) as session:
        now = db.now(session)
        leaving.ask(session, by=proved(cast, cast.district_admin), now=now)
        with pytest.raises(Refused, match="Two persons"):
            leaving.require_confirmed(session, now=now)


def test_everything_is_handed_over_and_only_its_receiver_reads_it(
    cast: Cast, tmp_path: Path, keys: tuple[bytes, bytes]
) -> None:
    other = assemble(cast.database)
    agreed(cast)
    target = tmp_path / "all"
    counts = leaving.hand_over(cast.database, cast.district.id, target, keys[1], by=cast.system)
    assert set(counts) == Base.metadata.tables.keys() - GLOBAL_TABLES
    with target.open("rb") as file:
        archive = zipfile.ZipFile(io.BytesIO(b"".join(unseal(file, keys[0]))))
    told = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    assert {name: len(told[f"{name}.jsonl"]) for name in counts} == counts
    people = {json.loads(line)["number"] for line in told["people.jsonl"]}
    assert {"A001", "B001", "C001"} <= people
    assert str(other.district.id) not in "".join(line for lines in told.values() for line in lines)
    [given] = [json.loads("".join(told["keys.json"]))]
    row = json.loads(told["identities.jsonl"][0])
    held = sealing.Keys(cast.district.id, tuple(bytes.fromhex(key) for key in given["keys"]), given["number"])
    place = f"student/{row['student_id']}"
    opened = sealing.unseal(held.open(bytes.fromhex(row["wrapped_key"]), place), bytes.fromhex(row["sealed"]), place)
    assert json.loads(opened)[1] in people
    with cast.database.unit(cast.scope) as session:
        leaving.require_handed_over(session, target, now=db.now(session))
        with pytest.raises(Refused, match="not what was handed over"):
            leaving.require_handed_over(session, tmp_path / "theirs", now=db.now(session))
    changed = bytearray(target.read_bytes())
    changed[-20] ^= 1
    (tmp_path / "changed").write_bytes(changed)
    with (tmp_path / "changed").open("rb") as file, pytest.raises(CannotRead):
        list(unseal(file, keys[0]))


def test_a_word_that_was_given_long_ago_is_none(cast: Cast) -> None:
    agreed(cast)
    with cast.database.unit(access.Scope(cast.district.id)) as session:
        now = db.now(session)
        leaving.require_confirmed(session, now=now)
        with pytest.raises(Refused, match="Two persons"):
            leaving.require_confirmed(session, now=now + leaving.CONFIRMED_FOR)


def test_the_commands_hand_a_district_over_and_only_then_erase_it(
    server: embedded.Server, cast: Cast, run: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staying = assemble(cast.database)
    name = str(make_url(cast.database.url).database)
    monkeypatch.setenv("DATABASE_OWNER_URL", server.url(database=name, role="owner"))
    make_key_pair(tmp_path / "theirs", tmp_path / "theirs.pub")
    code, file = cast.district.code, tmp_path / "all"
    export = ("district", "export", code, str(file), "--key", str(tmp_path / "theirs.pub"))
    refused = run(*export)
    assert refused.exit_code == 2, refused.output
    assert not file.exists()
    agreed(cast)
    assert run(*export).exit_code == 0
    assert run(*export).exit_code == 2  # what was written is not written over
    erase = ("district", "erase", code, "--again", code, "--handed-over")
    assert run(*erase, str(tmp_path / "theirs")).exit_code == 2
    came = run(*erase, str(file))
    assert came.exit_code == 0, came.output
    assert " 0 left but for the account" in came.stdout
    with psycopg.connect(server.url(database=name, role="owner")) as owner:
        assert erasure.left_of_district(owner, cast.district.id) == {}
        assert erasure.left_of_district(owner, staying.district.id)["students"] == 12
