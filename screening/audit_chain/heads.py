"""Heads outside the database: a file a district, one signed line each time lines were sealed, only ever added to."""

import datetime as dt
import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access
from screening.audit_chain import lines, signing
from screening.db import Database

FOLDER = "heads"
"""Under the folder of ledgers."""
TAIL_BYTES = 4096


class HeadsMissing(ValueError):
    """There is no file of heads where one should be, or a line in it cannot be read."""


@dataclass(frozen=True)
class Head:
    """Where a chain ended at an instant, and who says so."""

    district_id: uuid.UUID
    sequence: int
    hash: bytes
    sealed_at: dt.datetime
    signature: bytes

    def is_signed_by(self, public: bytes) -> bool:
        message = lines.head_message(self.district_id, self.sequence, self.hash, self.sealed_at)
        return signing.is_signed(public, message, self.signature)


def write_heads(database: Database, district_id: uuid.UUID, folder: Path) -> Sequence[str]:
    """Adds the heads that the file of this district has not yet, and answers what a watchdog has to shout.

    A chain that no longer holds the head that was written last is shouted, and nothing is added to the file.
    """
    with _appending(file_of(database, district_id, folder)) as file:
        last = _last(file)
        with database.unit(access.Scope(district_id)) as session:
            if last is not None and _hash_at(session, district_id, last.sequence) != last.hash:
                return [f"audit_chain_differs at {last.sequence}"]
            found = in_database(session, district_id, above=last.sequence if last else 0)
        for head in found:
            file.write(_to_line(head))
        if found:
            file.flush()
            os.fsync(file.fileno())
    return ()


def file_of(database: Database, district_id: uuid.UUID, folder: Path) -> Path:
    """Where the heads of a district lie: apart for each key that signs, so that no two databases share a file."""
    return folder / signing.public_key(database.master_key).hex()[:16] / f"{district_id}.jsonl"


def in_database(session: Session, district_id: uuid.UUID, *, above: int = 0) -> list[Head]:
    """The heads of a district as its own table tells them, in order."""
    rows = session.execute(_HEADS, {"district": district_id, "above": above})
    return [Head(district_id, row.sequence, bytes(row.hash), row.sealed_at, bytes(row.signature)) for row in rows]


def set_aside(file: Path, above: int, mark: str) -> int:
    """After a restore: keeps the file as it was beside it, and of it only what the chain still has; answers how many
    heads stand beyond that. What was lost with them stays told in the copy."""
    if not file.exists():
        return 0
    with _appending(file) as held:
        held.seek(0)
        lines_of_file = held.read().splitlines(keepends=True)
        kept = [line for line in lines_of_file if _from_line(line, file.name).sequence <= above]
        if len(kept) < len(lines_of_file):
            copy = file.with_name(f"{file.name}.{mark}")
            copy.write_bytes(b"".join(lines_of_file))
            copy.chmod(0o400)
            held.truncate(0)
            held.write(b"".join(kept))
    return len(lines_of_file) - len(kept)


def in_files(path: Path) -> dict[uuid.UUID, list[Head]]:
    """The heads in a file or in every file of a folder, by district. Raises HeadsMissing for what cannot be read."""
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    found: dict[uuid.UUID, list[Head]] = {}
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            head = _from_line(line, f"{file.name}, line {number}")
            found.setdefault(head.district_id, []).append(head)
    return found


def told_by(heads: Mapping[uuid.UUID, Sequence[Head]], master: bytes) -> set[uuid.UUID]:
    """The districts of which this installation, and no other, has signed a head."""
    public = signing.public_key(master)
    return {district_id for district_id, found in heads.items() if any(head.is_signed_by(public) for head in found)}


def _lines(file: Path) -> Iterable[bytes]:
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise HeadsMissing(f"{file}: {error.strerror}") from error


@contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _last(file: BinaryIO) -> Head | None:
    """The last whole line; half of one is left where a machine stopped in the middle, and is made an end of."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    *whole, rest = file.read().split(b"\n")
    if rest:
        file.truncate(size - len(rest))
    return _from_line(whole[-1], "the last line") if whole else None


def _to_line(head: Head) -> bytes:
    told = {
        "district": str(head.district_id),
        "sequence": head.sequence,
        "hash": head.hash.hex(),
        "sealed_at": head.sealed_at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "signature": head.signature.hex(),
    }
    return json.dumps(told).encode() + b"\n"


def _from_line(line: bytes, where: str) -> Head:
    try:
        told: dict[str, Any] = json.loads(line)
        return Head(
            uuid.UUID(told["district"]),
            int(told["sequence"]),
            bytes.fromhex(told["hash"]),
            dt.datetime.fromisoformat(told["sealed_at"]),
            bytes.fromhex(told["signature"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise HeadsMissing(f"{where}: this is no head of a chain") from error


def _hash_at(session: Session, district_id: uuid.UUID, sequence: int) -> bytes | None:
    found = session.execute(_AT, {"district": district_id, "sequence": sequence}).scalar()
    return None if found is None else bytes(found)


_HEADS = text(
    "select sequence, hash, sealed_at, signature from audit_heads"
    " where district_id = :district and sequence > :above order by sequence"
)
_AT = text("select hash from audit_seals where district_id = :district and sequence = :sequence")
