"""Erasing for good: what is asked for waits a short while, then answers or the whole person go; the fact stays.

The app's role deletes no answer. It asks the database's own function, which looks whether the table of erasures
asks for it, and whether an open red still needs what is left: then processing is narrowed to safety until that is
resolved. Whoever was erased is written into a ledger outside the database first, so that a restored backup, which
still knows them, erases them again before it serves.
"""

import datetime as dt
import fcntl
import json
import os
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import access, audit
from screening.db import Database
from screening.models import Base, Erasure

FOLDER = "erasures"
"""Under the folder of ledgers."""
GRACE = dt.timedelta(days=3)
"""How long a withdrawal may still be taken back."""


def ask(
    session: Session,
    student_ids: Collection[uuid.UUID],
    extent: str,
    reason: str,
    *,
    by: access.Actor,
    now: dt.datetime,
    grace: dt.timedelta = GRACE,
) -> int:
    """Queues erasures of `extent` (answers or person) and answers how many are new; who waits already, waits on.

    `reason` is withdrawal, request or retention. The row is the receipt: it says by when, and then that it is done.
    """
    if not student_ids:
        return 0
    asked = session.execute(
        _ASK,
        {
            "district": access.scope_of(session).district_id,
            "students": list(student_ids),
            "extent": extent,
            "reason": reason,
            "by": by.staff_id or by.account_id,
            "now": now,
            "due": now + grace,
        },
    ).scalars()
    found = list(asked)
    audit.record_many(session, by, "erasure.asked", "student", found)
    return len(found)


def of_student(session: Session, student_id: uuid.UUID) -> list[Erasure]:
    """The receipts of a student, the latest first."""
    return list(
        session.scalars(
            select(Erasure)
            .where(Erasure.district_id == access.scope_of(session).district_id, Erasure.student_id == student_id)
            .order_by(Erasure.asked_at.desc())
        )
    )


def erase_due(database: Database, district_id: uuid.UUID, now: dt.datetime, folder: Path) -> Counter[str]:
    """Erases what is due, a unit each, and counts how they ended: done, narrowed, taken_back."""
    counted: Counter[str] = Counter()
    with database.unit(access.Scope(district_id)) as session:
        due = session.execute(_DUE, {"district": district_id, "now": now}).all()
    for row in due:
        with database.unit(access.Scope(district_id)) as session:
            ended = str(session.execute(_ERASE, {"id": row.id}).scalar())
            if ended == "done":
                # before the commit: what the ledger knows too much is only erased again
                _write(folder, district_id, row.student_id, row.extent, now, erasure=str(row.id), reason=row.reason)
            if ended in ("done", "taken_back") or (ended == "narrowed" and row.narrowed_at is None):
                by = access.system(district_id)
                audit.record(session, by, f"erasure.{ended}", "student", row.student_id, extent=row.extent)
            counted[ended] += 1
    return counted


def apply_ledger(owner: "psycopg.Connection[Any]", folder: Path) -> int:
    """Erases again, as the owner, whom the ledger names and this database still knows; answers how many entries.

    Each is applied once: what somebody answered after it, on a new consent, is no part of it. One that still waits
    here while a red is open is left to the worker, which holds it until that is resolved.
    """
    return sum(_apply(owner, entry) for entry in _entries(folder))


def _apply(owner: "psycopg.Connection[Any]", entry: "_Entry") -> int:
    if entry.student_id is None:
        is_there = owner.execute("select 1 from districts where id = %s", [entry.district_id]).fetchone()
        return _erase_rows_of_district(owner, entry.district_id) if is_there else 0
    about = {
        "district": entry.district_id,
        "student": entry.student_id,
        "extent": entry.extent,
        "erasure": entry.erasure_id,
        "reason": entry.reason,
        "at": entry.at,
    }
    if owner.execute(_IS_SETTLED, about).fetchone():
        return 0
    with owner.transaction():
        found = owner.execute(_ERASE_AGAIN, about).rowcount
        owner.execute(_END, about)
        owner.execute(_NOTE, about)
    return found


def erase_district(owner: "psycopg.Connection[Any]", district_id: uuid.UUID, folder: Path, now: dt.datetime) -> int:
    """Erases a whole district as the owner: its key, then every row but the account; answers how many rows.

    The account of who did what to which pseudonym stays, and its chain is walked as before.
    """
    _write(folder, district_id, None, "district", now)
    return _erase_rows_of_district(owner, district_id)


def left_of_district(owner: "psycopg.Connection[Any]", district_id: uuid.UUID) -> dict[str, int]:
    """How many rows of a district each table still has, but for the account, which stays: nothing when it is erased."""
    found = {}
    for table in Base.metadata.sorted_tables:
        if "district_id" in table.columns and table.name not in _KEPT:
            query = f"select count(*) from {table.name} where district_id = %s"  # noqa: S608 - our own names
            row = owner.execute(query, [district_id]).fetchone()
            if row is not None and row[0]:
                found[table.name] = int(row[0])
    return found


def _erase_rows_of_district(owner: "psycopg.Connection[Any]", district_id: uuid.UUID) -> int:
    gone = 0
    with owner.transaction():
        owner.execute("update districts set wrapped_key = '' where id = %s", [district_id])
        owner.execute("delete from recovery_codes where account_id in (select id from accounts where district_id = %s)",
                      [district_id])  # fmt: skip
        for name, column in (("sessions", "code_id"), ("sessions", "account_id"), ("tokens", "account_id")):
            far = "codes" if column == "code_id" else "accounts"
            owner.execute(
                f"delete from {name} where {column} in (select id from {far} where district_id = %s)",  # noqa: S608 - our own names
                [district_id],
            )
        for table in reversed(Base.metadata.sorted_tables):
            if "district_id" in table.columns and table.name not in _KEPT:
                gone += owner.execute(f"delete from {table.name} where district_id = %s", [district_id]).rowcount  # noqa: S608
        gone += owner.execute("delete from districts where id = %s", [district_id]).rowcount
    return gone


def _write(
    folder: Path,
    district_id: uuid.UUID,
    student_id: uuid.UUID | None,
    extent: str,
    now: dt.datetime,
    **more: str,
) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {"student": str(student_id) if student_id else None, "extent": extent, "at": now.isoformat()}
    told |= more
    handle = os.open(folder / f"{district_id}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(told).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class _Entry:
    district_id: uuid.UUID
    student_id: uuid.UUID | None
    """None: the whole district."""
    extent: str
    at: dt.datetime
    erasure_id: uuid.UUID
    reason: str


def _entries(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.glob("*.jsonl")):
        district_id = uuid.UUID(path.stem)
        for line in path.read_text().splitlines():
            told = json.loads(line)
            yield _Entry(
                district_id,
                uuid.UUID(told["student"]) if told["student"] else None,
                told["extent"],
                dt.datetime.fromisoformat(told["at"]),
                # a line without one is known by itself
                uuid.UUID(told["erasure"]) if "erasure" in told else uuid.uuid5(district_id, line),
                told.get("reason", "request"),
            )


_KEPT = frozenset({"audit_entries", "audit_seals", "audit_heads"})
_ASK = text(
    "insert into erasures (district_id, id, student_id, school_id, extent, reason, asked_by, asked_at, due_at)"
    " select s.district_id, gen_random_uuid(), s.id, s.school_id, :extent, :reason, :by, :now, :due"
    " from students s where s.district_id = :district and s.id = any(:students)"
    " on conflict (district_id, student_id, extent) where state = 'waiting' do nothing returning student_id"
)
_DUE = text(
    "select id, student_id, extent, reason, narrowed_at from erasures"
    " where district_id = :district and state = 'waiting' and due_at <= :now order by due_at"
)
_ERASE = text("select erase_as_asked(:id)")
_ERASE_AGAIN = (
    "select erase_student(district_id, id, %(extent)s) from students"
    " where district_id = %(district)s and id = %(student)s"
)
_IS_SETTLED = (
    "select 1 from erasures e where e.district_id = %(district)s and e.student_id = %(student)s and ("
    " (e.id = %(erasure)s and e.state = 'done')"
    " or (e.extent = %(extent)s and e.state = 'waiting' and ("
    "  exists (select from alerts a where a.district_id = e.district_id and a.student_id = e.student_id"
    "   and a.tier = 3 and a.closed_at is null)"
    "  or exists (select from cases c where c.district_id = e.district_id and c.student_id = e.student_id"
    "   and c.tier = 3 and c.state <> 'closed'))))"
)
_END = (
    "update erasures set state = 'done', ended_at = now() where district_id = %(district)s"
    " and student_id = %(student)s and extent = %(extent)s and state = 'waiting'"
)
_NOTE = (
    "insert into erasures (district_id, id, student_id, school_id, extent, reason, state, asked_at, due_at, ended_at)"
    " select s.district_id, %(erasure)s, s.id, s.school_id, %(extent)s, %(reason)s, 'done', %(at)s, %(at)s, now()"
    " from students s where s.district_id = %(district)s and s.id = %(student)s"
    " on conflict (district_id, id) do update set state = 'done', ended_at = now()"
)
