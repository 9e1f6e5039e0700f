"""The way back from a backup: into an empty database, proved, and rid of what was erased since, before it serves."""

import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from screening import access, audit, audit_chain, db, erasure, key_rotation, migration, sealing
from screening.audit_chain import Verdict
from screening.backup import dumping, sealed_file
from screening.db import Database
from screening.errors import Refused

NOBODY = uuid.UUID(int=0)
HELD_BACK = "restored: it may have been sent already"


@dataclass
class Restored:
    """What came back, and what does not hold."""

    counts: dict[str, int] = field(default_factory=dict)
    deliveries_held_back: int = 0
    erasures_applied: int = 0
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.faults and not any(verdict.faults for _, verdict in self.verdicts)


def restore(
    path: Path,
    *,
    owner_url: str,
    app_url: str,
    app_role: str,
    master_key: bytes | sealing.Ring,
    private_key: bytes,
    ledgers: Path,
) -> Restored:
    """Brings a backup into the empty database of these URLs, to the present schema, and proves it.

    Messages that were waiting in it are not sent again. Raises CannotRead for another key or a changed file, Refused
    for a database that is not empty, DumpFailed when PostgreSQL refuses; what it had written is then of no use.
    """
    with psycopg.connect(owner_url, autocommit=True) as owner:
        if _tables(owner):
            raise Refused("The database to restore into is not empty; give an empty one.")
        _prove(path, private_key)
        _load(path, owner_url, private_key)
        found = Restored(faults=list(migration.migrate(owner_url, app_role)))
        found.deliveries_held_back = owner.execute(_HOLD_BACK, [HELD_BACK]).rowcount
        found.erasures_applied = erasure.apply_ledger(owner, ledgers / erasure.FOLDER)
        for name in _tables(owner):
            row: Any = owner.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(name))).fetchone()
            found.counts[name] = row[0]
    database = Database(app_url, master_key)
    try:
        _wrap_anew(database)
        _check(database, ledgers, found)
    finally:
        database.dispose()
    return found


def _tables(owner: "psycopg.Connection[Any]") -> list[str]:
    rows = owner.execute("select tablename from pg_tables where schemaname = 'public' order by 1")
    return [row[0] for row in rows]


def _prove(path: Path, private_key: bytes) -> None:
    """Reads it through once: nothing of a backup that was changed anywhere reaches the database."""
    with path.open("rb") as file:
        for _ in sealed_file.unseal(file, private_key):
            pass


def _load(path: Path, owner_url: str, private_key: bytes) -> None:
    command = [
        dumping.tool("pg_restore"), "--no-owner", "--exit-on-error", "--single-transaction", "--no-password",
        f"--dbname={_name(owner_url)}",
    ]  # fmt: skip
    with dumping.running(command, owner_url, stdin=subprocess.PIPE) as process, path.open("rb") as file:
        assert process.stdin is not None  # noqa: S101 - asked for above
        for piece in sealed_file.unseal(file, private_key):
            process.stdin.write(piece)


def _name(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


def _wrap_anew(database: Database) -> None:
    """A backup from before a rotation comes under the first key of the ring, as everything else is."""
    try:
        key_rotation.rotate_master(database, database.ring.keys, lambda _: None, by_id=NOBODY)
    except sealing.CannotOpen:
        words = "The backup was made under a master key that is not here; name its file with --former-key."
        raise Refused(words) from None


def _check(database: Database, ledgers: Path, found: Restored) -> None:
    """Opens every key and walks every chain; heads of lines that were lost since the backup are set aside and told."""
    folder = ledgers / audit_chain.FOLDER
    with psycopg.connect(database.url) as app:
        districts = app.execute("select id, code from districts order by code").fetchall()
    for district_id, code in [*districts, (audit.NOWHERE, "nowhere")]:
        if district_id != audit.NOWHERE:
            found.faults += _unopened(database, district_id, code)
        with database.unit(access.Scope(district_id)) as session:
            last = max((head.sequence for head in audit_chain.in_database(session, district_id)), default=0)
            mark = f"{db.now(session):%Y%m%dT%H%M%SZ}"
        file = audit_chain.file_of(database, district_id, folder)
        lost = audit_chain.set_aside(file, last, mark)
        if lost:
            found.lost.append(
                f"{code}: the account after place {last}; {lost} heads of it are kept in {file.name}.{mark}"
            )
        if district_id != audit.NOWHERE:
            with database.unit(access.Scope(district_id)) as session:
                by = access.system(district_id)
                audit.record(session, by, "database.restored", "district", district_id, place=last, heads_lost=lost)
        audit_chain.seal(database, district_id)
        outside = audit_chain.in_files(file).get(district_id, []) if file.exists() else []
        found.verdicts.append((code, audit_chain.verify(database, district_id, outside)))
        audit_chain.write_heads(database, district_id, folder)


def _unopened(database: Database, district_id: Any, code: str) -> list[str]:
    try:
        with database.unit(access.Scope(district_id)) as session:
            sealing.keys(session)
    except sealing.CannotOpen:
        return [f"the master key does not open the district {code}"]
    return []


_HOLD_BACK = "update deliveries set state = 'refused', problem = %s where state = 'pending'"
