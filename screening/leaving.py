"""A district that leaves: asked for by one, confirmed by another, handed over whole in a sealed file, then erased.

The file holds every row of the district, the persons of its vault in plain words and the keys that open what is
sealed in its rows; only the private half of the key that its receiver made opens it.
"""

import datetime as dt
import hashlib
import json
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, approvals, audit, db, identity, sealing
from screening.backup import sealed_file
from screening.db import Database
from screening.errors import Conflict, NotFound, Refused
from screening.models import GLOBAL_TABLES, Base, DistrictExit

ASKING = frozenset({"district_admin", "privacy_officer"})
CONFIRMED_FOR = dt.timedelta(days=30)
"""How long the second person's word lasts."""
ROWS_AT_ONCE = 5_000


def ask(session: Session, *, by: access.Actor, now: dt.datetime) -> DistrictExit:
    """Asks that the district leave; again while it stands is the same. Raises Refused (`second_factor_old`)."""
    _require_proof(by, now)
    standing = latest(session, now=now)
    if standing is not None:
        return standing
    made = DistrictExit(district_id=access.scope_of(session).district_id, asked_by=by.person, asked_at=now)
    session.add(made)
    session.flush()
    audit.record(session, by, "exit.asked", "district", made.district_id, exit=str(made.id))
    return made


def confirm(session: Session, exit_id: uuid.UUID, *, by: access.Actor, now: dt.datetime) -> DistrictExit:
    """The second person's word. Raises NotFound, Refused for one's own (`second_person`), Conflict when it is said."""
    found = session.get(DistrictExit, (access.scope_of(session).district_id, exit_id))
    if found is None:
        raise NotFound("There is no such request.")
    _require_proof(by, now)
    if found.asked_by == by.person:
        raise Refused("A second person has to say so.", code="second_person")
    if found.confirmed_at is not None:
        raise Conflict("This is confirmed already.", code="decided")
    found.confirmed_by, found.confirmed_at = by.person, now
    session.flush()
    audit.record(session, by, "exit.confirmed", "district", found.district_id, exit=str(found.id))
    return found


def latest(session: Session, *, now: dt.datetime) -> DistrictExit | None:
    """The exit that stands: asked for or confirmed within the last days."""
    return session.scalars(
        select(DistrictExit)
        .where(
            DistrictExit.district_id == access.scope_of(session).district_id,
            DistrictExit.asked_at > now - CONFIRMED_FOR,
        )
        .order_by(DistrictExit.asked_at.desc())
        .limit(1)
    ).one_or_none()


def require_confirmed(session: Session, *, now: dt.datetime) -> DistrictExit:
    """Raises Refused (`exit_not_confirmed`) without the word of two persons within the last days."""
    found = latest(session, now=now)
    if found is None or found.confirmed_at is None:
        words = "Two persons of the district have to say that it leaves: POST /v1/district-exits, and its confirmation."
        raise Refused(words, code="exit_not_confirmed")
    return found


def hand_over(
    database: Database, district_id: uuid.UUID, target: Path, public_key: bytes, *, by: access.Actor
) -> Mapping[str, int]:
    """Writes the whole district into a file sealed for its receiver, notes its digest, and answers rows by table.

    Raises Refused as `require_confirmed` does, FileExistsError for a file that is there.
    """
    with database.unit(access.Scope(district_id)) as session:
        now = db.now(session)
        confirmed = require_confirmed(session, now=now)
        counts: dict[str, int] = {}
        with target.open("xb") as file:
            target.chmod(0o600)
            sealed_file.seal(_zipped(session, counts), file, public_key)
        confirmed.exported_at, confirmed.export_digest = now, digest_of(target)
        session.flush()
        audit.record(
            session, by, "exit.handed_over", "district", district_id,
            exit=str(confirmed.id), rows=sum(counts.values()), digest=confirmed.export_digest.hex(), purpose="exit",
        )  # fmt: skip
    return counts


def require_handed_over(session: Session, file: Path, *, now: dt.datetime) -> None:
    """Raises Refused (`not_handed_over`) unless this very file is what was handed over after two said so."""
    found = require_confirmed(session, now=now)
    if found.export_digest is None or found.export_digest != digest_of(file):
        raise Refused("This file is not what was handed over of the district.", code="not_handed_over")


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class _Pieces:
    """Where an archive is written to, and taken from piece by piece; nothing of it lies plain anywhere."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, piece: bytes) -> int:
        self._held += piece
        return len(piece)

    def flush(self) -> None:
        """Nothing waits."""

    def taken(self) -> bytes:
        found = bytes(self._held)
        self._held.clear()
        return found


def _zipped(session: Session, counts: dict[str, int]) -> Iterator[bytes]:
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]  # it asks for no more
        for name in _tables():
            counts[name] = 0
            with archive.open(f"{name}.jsonl", "w") as member:
                for row in _rows(session, name):
                    member.write(_line(row))
                    counts[name] += 1
                    yield pieces.taken()
        archive.writestr("people.jsonl", b"".join(_people(session)))
        archive.writestr("keys.json", json.dumps(sealing.keys(session).exported()))
    yield pieces.taken()


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, default=_plain, ensure_ascii=False).encode() + b"\n"


def _tables() -> list[str]:
    """Every table of a district; secrets of signing in stand outside of them, and are nobody's to hand over."""
    return sorted(Base.metadata.tables.keys() - GLOBAL_TABLES)


def _rows(session: Session, name: str) -> Iterator[dict[str, Any]]:
    statement = text(f"select * from {name} where district_id = :district")  # noqa: S608 - our own names
    district = {"district": access.scope_of(session).district_id}
    found = session.execute(statement, district, execution_options={"yield_per": ROWS_AT_ONCE})
    yield from (dict(row) for row in found.mappings())


def _people(session: Session) -> Iterator[bytes]:
    district = {"district": access.scope_of(session).district_id}
    ids = session.execute(text("select student_id from identities where district_id = :district"), district).scalars()
    for student_id, person in identity.people(session, ids.all()).items():
        told = {"student_id": student_id, "name": person.name, "number": person.number, "born_on": person.born_on}
        yield _line(told | {"phone": person.phone})


def _plain(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(value)


def _require_proof(by: access.Actor, now: dt.datetime) -> None:
    if by.proved_at is None or by.proved_at < now - approvals.PROOF_LASTS:
        raise Refused("Show your second factor first: it was not shown just now.", code="second_factor_old")
