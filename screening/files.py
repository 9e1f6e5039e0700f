"""Files as they were handed in: sealed in the database in chunks of a megabyte, read again, erased after their use."""

import datetime as dt
import hmac
import uuid
from collections.abc import Iterable, Iterator

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from screening import sealing
from screening.errors import InvalidUpload, NotFound, Problem
from screening.models import FileChunk, StoredFile

CHUNK_BYTES = 1_000_000
MAX_BYTES = 2_000_000_000


def store_file(
    session: Session,
    chunks: Iterable[bytes],
    file_name: str,
    *,
    school_id: uuid.UUID | None = None,
    max_bytes: int = MAX_BYTES,
) -> StoredFile:
    """Stores the bytes sealed, a megabyte a row; `digest` is a keyed hash of the whole content.

    Raises InvalidUpload when there is nothing in it or more than `max_bytes`; the caller's transaction then keeps
    no part of it.
    """
    keys = sealing.keys(session)
    mac = hmac.new(keys.lookup_key("file"), digestmod="sha256")
    stored = StoredFile(district_id=keys.district_id, id=uuid.uuid4(), school_id=school_id, digest=b"", byte_count=0)
    stored.sealed_name = keys.seal_text(file_name, f"file/{stored.id}/name")
    session.add(stored)
    session.flush()
    for position, piece in enumerate(_pieces(chunks)):
        stored.byte_count += len(piece)
        if stored.byte_count > max_bytes:
            raise _unusable("too_large", f"The file is larger than {max_bytes // 1_000_000} MB; send it in parts.")
        mac.update(piece)
        session.execute(
            insert(FileChunk.__table__),  # type: ignore[arg-type]
            {
                "district_id": keys.district_id,
                "file_id": stored.id,
                "position": position,
                "school_id": school_id,
                "sealed": keys.seal(piece, f"file/{stored.id}/{position}"),
            },
        )
    if not stored.byte_count:
        raise _unusable("empty_file", "The file is empty.")
    stored.digest = mac.digest()[: sealing.LOOKUP_BYTES]
    session.flush()
    return stored


def read_file(session: Session, file_id: uuid.UUID) -> Iterator[bytes]:
    """The bytes again, a chunk at a time. Raises NotFound when they were erased or are out of scope."""
    keys = sealing.keys(session)
    position = 0
    while (piece := read_chunk(session, keys, file_id, position)) is not None:
        yield piece
        position += 1
    if not position:
        raise NotFound("there is no such file, or it was erased")


def read_chunk(session: Session, keys: sealing.Keys, file_id: uuid.UUID, position: int) -> bytes | None:
    """One chunk, opened; None after the last."""
    sealed = session.execute(
        select(FileChunk.sealed).where(
            FileChunk.district_id == keys.district_id, FileChunk.file_id == file_id, FileChunk.position == position
        )
    ).scalar_one_or_none()
    return None if sealed is None else keys.open(sealed, f"file/{file_id}/{position}")


def file_name(session: Session, stored: StoredFile) -> str:
    return sealing.keys(session).open_text(stored.sealed_name, f"file/{stored.id}/name")


def erase_file(session: Session, file_id: uuid.UUID) -> int:
    """Deletes the content and answers how many chunks went; that a file was there, and its digest, stay."""
    district_id = sealing.keys(session).district_id
    gone = session.execute(
        delete(FileChunk)
        .where(FileChunk.district_id == district_id, FileChunk.file_id == file_id)
        .returning(FileChunk.position),
        execution_options={"synchronize_session": False},
    ).all()
    session.execute(
        update(StoredFile).where(StoredFile.district_id == district_id, StoredFile.id == file_id).values(erase_at=None),
        execution_options={"synchronize_session": False},
    )
    return len(gone)


def erase_due(session: Session, now: dt.datetime) -> int:
    """Erases every file whose time has come and answers how many; a second run finds none."""
    due = session.execute(
        select(StoredFile.id).where(
            StoredFile.district_id == sealing.keys(session).district_id, StoredFile.erase_at <= now
        )
    ).scalars()
    return sum(1 for file_id in list(due) if erase_file(session, file_id) >= 0)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def _unusable(code: str, message: str) -> InvalidUpload:
    return InvalidUpload(message, code=code, problems=[Problem(code, message)])
