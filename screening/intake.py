"""A file of answers, from the bytes to its receipt: stored, read in a limited process, loaded in one transaction.

The unit of acceptance is student x instrument: a bad cell of one form costs neither the row's other forms nor the
rest of the file. What cannot be kept is named in the receipt; a critical answer in it reaches a person all the same,
which the receipt never says.
"""

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

import psycopg
from polars.exceptions import PanicException
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from screening import access, audit, files, loading, reading, receipts, rounds, sealing
from screening.db import Database, lock
from screening.errors import InvalidUpload, NotFound, Problem
from screening.loading import Weigh
from screening.models import Upload

MOST_FAILURES = 3
MOST_INTERRUPTIONS = 50
MOST_TRIES_OF_ONE_LOAD = 5
CHUNKS_AT_ONCE = 8


# -- receiving -----------------------------------------------------------------------------------------------------


def receive(
    session: Session,
    round_id: uuid.UUID,
    content: Iterable[bytes],
    *,
    file_name: str,
    by: access.Actor,
    school_id: uuid.UUID | None = None,
    column_map: Mapping[str, str] | None = None,
    is_dry_run: bool = False,
    is_correction: bool = False,
) -> Upload:
    """Stores a file of answers for a round, to be loaded by the worker.

    The same file, map and options for the same round while that load is still to come, or was finished only after
    this transaction began, join it: the upload that is already there is returned. `school_id` bounds whose answers
    may be in it; None stands for the whole district. A closed round takes the file too: it will be refused by its
    receipt, after a look for answers that somebody must see. Raises NotFound for an unknown round, InvalidUpload for
    an empty or too large file.
    """
    rounds.get(session, round_id)
    stored = files.store_file(session, content, file_name, school_id=school_id)
    options = json.dumps([str(school_id), dict(column_map or {}), is_dry_run, is_correction], sort_keys=True)
    digest = sealing.keyed_hash(sealing.keys(session).lookup_key("upload"), stored.digest + options.encode())
    lock(session, f"receive/{round_id}/{digest.hex()}")
    running = session.scalars(
        select(Upload)
        .where(
            Upload.district_id == stored.district_id,
            Upload.round_id == round_id,
            Upload.digest == digest,
            (Upload.state == "received") | (Upload.finished_at >= text("now()")),
        )
        .order_by(Upload.received_at)
        .limit(1)
    ).first()
    if running is not None:
        files.erase_file(session, stored.id)
        return running
    upload = Upload(
        district_id=stored.district_id,
        id=uuid.uuid4(),
        round_id=round_id,
        school_id=school_id,
        file_id=stored.id,
        digest=digest,
        column_map=dict(column_map or {}),
        is_dry_run=is_dry_run,
        is_correction=is_correction,
        received_by=by.person,
    )
    session.add(upload)
    session.flush()
    session.refresh(upload)
    audit.record(session, by, "upload.received", "upload", upload.id, round=str(round_id), dry_run=is_dry_run)
    return upload


def get(session: Session, upload_id: uuid.UUID) -> Upload:
    """The upload, if it is within the scope. Raises NotFound."""
    upload = session.get(Upload, (access.scope_of(session).district_id, upload_id))
    if upload is None or not access.reaches(session, upload.school_id):
        raise NotFound("There is no such upload.")
    return upload


def problems(session: Session, upload_id: uuid.UUID, *, limit: int | None = None) -> list[Problem]:
    """What the receipt names, in the file's order."""
    get(session, upload_id)
    rows = session.execute(
        text(
            "select code, message, sheet, row_number, column_name from upload_problems"
            " where district_id = :district and upload_id = :upload order by position limit :limit"
        ),
        {"district": access.scope_of(session).district_id, "upload": upload_id, "limit": limit},
    )
    return [Problem(*row) for row in rows]


# -- loading -------------------------------------------------------------------------------------------------------


def load_waiting(database: Database, district_id: uuid.UUID, *, weigh: Weigh) -> int:
    """Loads every upload of the district that waits, oldest first; returns how many came to an end here.

    One that breaks holds up none behind it: what it raised is raised when all had their turn.
    """
    with database.unit(access.Scope(district_id)) as session:
        waiting = session.scalars(
            select(Upload.id)
            .where(Upload.district_id == district_id, Upload.state == "received")
            .order_by(Upload.received_at)
        ).all()
    ended, broken = 0, []
    for upload_id in waiting:
        try:
            ended += load(database, district_id, upload_id, weigh=weigh)
        except (Exception, PanicException) as error:
            broken.append(error)
    if broken:
        raise broken[0]
    return ended


def load(database: Database, district_id: uuid.UUID, upload_id: uuid.UUID, *, weigh: Weigh) -> bool:
    """Brings one upload to its receipt; False when another worker has it, or it has one already, or it must wait.

    The session lock falls with the worker: after a crash at any moment the next one begins anew, and the one
    transaction that keeps the answers has then either happened or not. A file that the reader cannot survive is
    refused by name after `MOST_FAILURES`.
    """
    with contextlib.closing(database.direct()) as direct:
        if not _claim(direct, upload_id):
            return False
        upload = _begin(database, district_id, upload_id)
        if upload is None:
            return False
        try:
            parts, summary = _read(database, upload, direct)
        except InvalidUpload as refused:
            return _refuse(database, upload, refused.problems)
        except reading.ReaderFailed as failed:
            return _count_failure(database, upload, failed.reason)
        for attempt in range(1, MOST_TRIES_OF_ONE_LOAD + 1):
            try:
                loading.load(database, upload, parts, summary, weigh)
                return True
            except DBAPIError as error:
                # another door stored one of these students first, or two loads met: what is there now decides
                if _is_race(error) and attempt < MOST_TRIES_OF_ONE_LOAD:
                    continue
                if _is_race(error) or not isinstance(error, OperationalError):
                    _count_failure(database, upload, "database")
                # a database that goes down is no fault of the file: it waits until there is one again
                raise
    return False


def _claim(direct: "psycopg.Connection[tuple[object, ...]]", upload_id: uuid.UUID) -> bool:
    row = direct.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", [f"upload/{upload_id}"]).fetchone()
    return bool(row and row[0])


def _begin(database: Database, district_id: uuid.UUID, upload_id: uuid.UUID) -> Upload | None:
    with database.unit(access.Scope(district_id)) as session:
        upload = get(session, upload_id)
        if upload.state != "received":
            return None
        upload.interruptions += 1
        if upload.interruptions > MOST_INTERRUPTIONS:
            receipts.refuse(session, upload, [receipts.told("interrupted_too_often")])
            return None
        return upload


def _read(
    database: Database, upload: Upload, direct: "psycopg.Connection[tuple[object, ...]]"
) -> tuple[list[reading.PackedPart], reading.Summary]:
    """The whole file read and scored, in no transaction, with progress kept on the side."""
    with database.unit(access.Scope(upload.district_id)) as session:
        rules = rounds.rules_of(session, upload.round_id)
    plan = reading.AnswersPlan(
        forms=tuple((rules.instruments[code].body, form) for code, names in rules.forms.items() for form in names),
        column_map=upload.column_map,
    )
    direct.execute("select set_config('screening.district', %s, false)", [str(upload.district_id)])
    direct.execute("select set_config('screening.schools', '*', false)")
    parts: list[reading.PackedPart] = []
    for read in reading.read_answers(_content(database, upload), plan):
        if isinstance(read, reading.Summary):
            return parts, read
        parts.append(reading.pack(read))
        direct.execute(
            "update uploads set progress = least(0.7, progress + 0.1) where district_id = %s and id = %s",
            [upload.district_id, upload.id],
        )
    raise reading.ReaderFailed("died")


def _content(database: Database, upload: Upload) -> Iterator[bytes]:
    """The file, a few chunks at a time: what is being read holds no transaction open, nor much memory."""
    for start in count(step=CHUNKS_AT_ONCE):
        pieces: list[bytes] = []
        with database.unit(access.Scope(upload.district_id)) as session:
            keys = sealing.keys(session)
            for place in range(start, start + CHUNKS_AT_ONCE):
                piece = files.read_chunk(session, keys, upload.file_id, place)
                if piece is None:
                    break
                pieces.append(piece)
        yield from pieces
        if len(pieces) < CHUNKS_AT_ONCE:
            return


def _is_race(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in {"23505", "23503", "40P01", "40001"}


def _count_failure(database: Database, upload: Upload, reason: str) -> bool:
    """One more failed attempt; the last one is the refusal."""
    with database.unit(access.Scope(upload.district_id)) as session:
        current = get(session, upload.id)
        current.failures += 1
        if current.failures < MOST_FAILURES:
            return False
        receipts.refuse(session, current, [receipts.told(f"unreadable_{reason}")])
        return True


def _refuse(database: Database, upload: Upload, why: Sequence[Problem]) -> bool:
    with database.unit(access.Scope(upload.district_id)) as session:
        receipts.refuse(session, get(session, upload.id), why)
    return True
