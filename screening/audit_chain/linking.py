"""Linking committed lines into the chain of their district, some seconds after they were written.

A line is written without a lock, so ids come to light out of order: a long transaction commits a low id late. Each
line therefore carries its transaction's number. Whoever seals looks with one snapshot: below its horizon (the
oldest transaction still running) nothing can come to light any more, so the next look begins there, and what
commits late is found because its transaction is not below it.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg.rows import dict_row
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from screening import access, db
from screening.audit_chain import lines, signing
from screening.db import Database
from screening.inserting import as_array, bytea_array
from screening.statements import driver_of

BATCH = 5_000


def seal(database: Database, district_id: uuid.UUID) -> int:
    """Seals every committed line of a district that has no place yet, and answers how many; two never do it at once."""
    with database.unit(access.Scope(district_id)) as session:
        if not session.execute(_TAKE, {"what": f"audit/{district_id}"}).scalar():
            return 0
        last = session.execute(_LAST, {"district": district_id}).one_or_none()
        mark = _mark(session, district_id, last)
        start, before = (last.sequence, bytes(last.hash)) if last else (0, lines.BEGINNING)
        sequence, below = start, mark["keep"]
        for found in _waiting(session, district_id, mark):
            hashes = []
            for number, line in enumerate(found, sequence + 1):
                before = lines.link(before, number, line["canonical"].encode())
                hashes.append(before)
            _insert_seals(session, district_id, sequence, [line["id"] for line in found], hashes)
            sequence += len(found)
            below = below or found[0]["horizon"]
        if sequence > start:
            _insert_head(session, district_id, sequence, before, below, mark["above"])
        return sequence - start


def _waiting(session: Session, district_id: uuid.UUID, mark: Mapping[str, int]) -> Iterator[list[dict[str, Any]]]:
    """The lines without a place, as one snapshot sees them, some thousand at a time."""
    with driver_of(session).cursor(name="waiting", row_factory=dict_row) as cursor:
        cursor.execute(_WAITING, {"district": district_id, **mark})
        while found := cursor.fetchmany(BATCH):
            yield found


def _mark(session: Session, district_id: uuid.UUID, last: Row[Any] | None) -> dict[str, int]:
    """Where to begin to look. After a restore into another server transactions are counted anew, ids are not."""
    if last is None:
        return {"below": 0, "above": 0, "keep": 0}
    if last.xact_below <= last.horizon:
        return {"below": last.xact_below, "above": last.id_above, "keep": 0}
    if session.execute(_OLD_WORLD_WAITS, {"district": district_id, "next": last.next_xact}).scalar():
        # all of it is looked through, and the mark that betrays the other server is kept until that is done
        return {"below": 0, "above": 0, "keep": last.xact_below}
    above = session.execute(_OLD_WORLD, {"district": district_id, "next": last.next_xact}).scalar_one()
    return {"below": 0, "above": above, "keep": 0}


def _insert_seals(session: Session, district_id: uuid.UUID, start: int, ids: list[int], hashes: list[bytes]) -> None:
    session.execute(
        _SEAL,
        {"district": district_id, "start": start, "ids": as_array("integer", ids), "hashes": bytea_array(hashes)},
    )


def _insert_head(
    session: Session, district_id: uuid.UUID, sequence: int, chain_hash: bytes, below: int, above: int
) -> None:
    sealed_at = db.now(session)
    message = lines.head_message(district_id, sequence, chain_hash, sealed_at)
    session.execute(
        _HEAD,
        {
            "district": district_id,
            "sequence": sequence,
            "hash": chain_hash,
            "at": sealed_at,
            "signature": signing.sign(session.info["master_key"], message),
            "below": below,
            "above": above,
        },
    )


_TAKE = text("select pg_try_advisory_xact_lock(hashtextextended(:what, 0))")
_LAST = text(
    "select sequence, hash, xact_below, id_above, pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon,"
    " pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_xact"
    " from audit_heads where district_id = :district order by sequence desc limit 1"
)
_WAITING = (
    f"select e.id, {lines.CANONICAL} as canonical,"  # noqa: S608 - our own SQL
    " pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon"
    " from audit_entries e where e.district_id = %(district)s and e.xact >= %(below)s and e.id > %(above)s"
    " and not exists (select from audit_seals s where s.district_id = e.district_id and s.entry_id = e.id)"
    " order by e.xact, e.id"
)
_OLD_WORLD_WAITS = text(
    "select exists (select from audit_entries e where e.district_id = :district and e.xact >= :next and not exists"
    " (select from audit_seals s where s.district_id = e.district_id and s.entry_id = e.id))"
)
_OLD_WORLD = text(
    "select coalesce(max(id), 0) from audit_entries where district_id = :district and xact >= cast(:next as bigint)"
)
_SEAL = text(
    "insert into audit_seals (district_id, sequence, entry_id, hash)"
    " select :district, :start + n.place, n.entry_id, n.hash"
    " from unnest(cast(:ids as bigint[]), cast(:hashes as bytea[])) with ordinality n(entry_id, hash, place)"
)
_HEAD = text(
    "insert into audit_heads (district_id, sequence, hash, sealed_at, signature, xact_below, id_above)"
    " values (:district, :sequence, :hash, :at, :signature, :below, :above)"
)
