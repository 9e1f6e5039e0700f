"""The vault: name, number, birth date and phone of a student, sealed under that student's own key.

Everything else in the house knows a pseudonym. The student's key is wrapped by the district's, whose key is wrapped
by the master's; row ids are bound in, so that a sealed value copied to another student does not open.
"""

import datetime as dt
import hmac
import json
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, sealing
from screening.inserting import as_array, bytea_array, insert_many
from screening.models import Identity
from screening.statements import Statement

ROWS_AT_ONCE = 2_000
IDS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Person:
    """Who a pseudonym is. `number` is the student number as the school writes it."""

    name: str
    number: str
    born_on: dt.date | None = None
    phone: str | None = None

    def __repr__(self) -> str:
        return "Person(sealed)"


def enter(session: Session, student_id: uuid.UUID, school_id: uuid.UUID, person: Person) -> None:
    """Puts one student into the vault. The student's row must stand already."""
    enter_many(session, [(student_id, school_id, person)])


def enter_many(session: Session, rows: Iterable[tuple[uuid.UUID, uuid.UUID, Person]]) -> None:
    """Puts many (student id, school id, person) into the vault, each under a fresh key of its own."""
    keys = sealing.keys(session)
    waiting = iter(rows)
    while batch := list(islice(waiting, ROWS_AT_ONCE)):
        insert_many(session, Identity.__tablename__, _TYPES, [_row(keys, *entry) for entry in batch])


def replace_many(session: Session, rows: Iterable[tuple[uuid.UUID, uuid.UUID, Person]]) -> None:
    """Seals what is now known of many (student id, school id, person) anew, under fresh keys."""
    keys = sealing.keys(session)
    waiting = iter(rows)
    while batch := list(islice(waiting, ROWS_AT_ONCE)):
        made = [_row(keys, *entry) for entry in batch]
        columns = {f"{name}s": [row[name] for row in made] for name in ("student_id", "school_id")}
        sealed = {f"{name}s": bytea_array(row[name] for row in made) for name in ("wrapped_key", "sealed", "name_hash")}
        session.execute(_REPLACE, {"district": keys.district_id, **columns, **sealed})


class Sealed(NamedTuple):
    """One student of the vault, whom `open_names` opens."""

    student_id: uuid.UUID
    wrapped_key: bytes
    sealed: bytes


def people(session: Session, student_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Person]:
    """The persons behind these pseudonyms, as far as the session's scope reaches; others are left out.

    Raises sealing.CannotOpen for a row that was changed or copied, or under another master key.
    """
    return {
        student_id: _person(*row)
        for found in _found(session, student_ids)
        for student_id, row in _opened(sealing.keys(session), found)
    }


def names(session: Session, student_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The names behind these pseudonyms, as far as the session's scope reaches. Raises what `people` raises."""
    return open_names(session, find(session, student_ids))


def find(session: Session, student_ids: Iterable[uuid.UUID]) -> list[Sealed]:
    """Those of these pseudonyms whom the session's scope reaches, sealed as they are."""
    return [each for found in _found(session, student_ids) for each in found]


def open_names(session: Session, found: Collection[Sealed]) -> dict[uuid.UUID, str]:
    """The names of those found. Raises what `people` raises."""
    if not found:
        return {}
    return {student_id: row[0] for student_id, row in _opened(sealing.keys(session), found)}


def normal_name(name: str) -> str:
    """A name as it is compared: full-width letters made plain, without spaces, without case."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def name_hash(keys: sealing.Keys, name: str) -> bytes:
    """Finds a name again without keeping it; equal for names that differ in width, spaces or case only."""
    return keys.lookup(normal_name(name), "name")


def normal_number(number: str) -> str:
    """A student number as it is compared: full-width digits made plain, without spaces around it."""
    return unicodedata.normalize("NFKC", number).strip()


def number_hash(keys: sealing.Keys, number: str) -> bytes:
    """Finds a student number again without keeping it."""
    return keys.lookup(normal_number(number), "number")


def number_hashes(keys: sealing.Keys, numbers: Sequence[str]) -> list[bytes]:
    """`number_hash` of a whole column, in its order: a million in a few seconds."""
    hashed, normal, size = _hashing(keys.lookup_key("number")), normal_number, sealing.LOOKUP_BYTES
    return [
        # ASCII text is its own NFKC form, and a file's numbers nearly all are ASCII
        hashed((number.strip() if number.isascii() else normal(number)).encode())[:size]
        for number in numbers
    ]


def _hashing(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 under one key, which is worked into it once and not for each text."""
    begun = hmac.new(key, digestmod="sha256")

    def hashed(text: bytes) -> bytes:
        own = begun.copy()
        own.update(text)
        return own.digest()

    return hashed


_FIND = Statement(
    "select student_id, wrapped_key, sealed from identities"  # noqa: S608 - our own SQL
    f" where district_id = :district and student_id = any(cast(:students as uuid[])) and {access.within('school_id')}"
)
_TYPES = {"student_id": "uuid", "school_id": "uuid", "wrapped_key": "bytea", "sealed": "bytea", "name_hash": "bytea"}
_REPLACE = text(
    "update identities i set school_id = n.school_id, wrapped_key = n.wrapped_key, sealed = n.sealed,"
    " name_hash = n.name_hash from unnest(cast(:student_ids as uuid[]), cast(:school_ids as uuid[]),"
    " cast(:wrapped_keys as bytea[]), cast(:sealeds as bytea[]), cast(:name_hashs as bytea[]))"
    " as n(student_id, school_id, wrapped_key, sealed, name_hash)"
    " where i.district_id = :district and i.student_id = n.student_id"
)


def _row(keys: sealing.Keys, student_id: uuid.UUID, school_id: uuid.UUID, person: Person) -> Mapping[str, Any]:
    key = sealing.new_key()
    return {
        "student_id": student_id,
        "school_id": school_id,
        "wrapped_key": keys.seal(key, f"student/{student_id}"),
        "sealed": sealing.seal(key, _to_json(person), f"student/{student_id}"),
        "name_hash": name_hash(keys, person.name),
    }


def _found(session: Session, student_ids: Iterable[uuid.UUID]) -> Iterator[list[Sealed]]:
    about = {"district": access.scope_of(session).district_id, "schools": access.schools_of(session)}
    wanted = list(dict.fromkeys(student_ids))
    for start in range(0, len(wanted), IDS_AT_ONCE):
        asked = as_array("uuid", wanted[start : start + IDS_AT_ONCE])
        found = _FIND.later(session, about | {"students": asked})
        sealing.keys(session)  # asked along with the first of them
        yield [Sealed._make(row) for row in found.tuples()]


def _opened(keys: sealing.Keys, found: Iterable[Sealed]) -> Iterator[tuple[uuid.UUID, list[Any]]]:
    """Each student with what `_to_json` wrote of them."""
    for student_id, wrapped_key, sealed in found:
        own = f"student/{student_id}"
        written = sealing.unseal(keys.open(wrapped_key, own), sealed, own)
        yield student_id, json.loads(written.decode())


def _to_json(person: Person) -> bytes:
    born_on = person.born_on.isoformat() if person.born_on else None
    return json.dumps([person.name, person.number, born_on, person.phone], ensure_ascii=False).encode()


def _person(name: str, number: str, born_on: str | None, phone: str | None) -> Person:
    return Person(name, number, dt.date.fromisoformat(born_on) if born_on else None, phone)
