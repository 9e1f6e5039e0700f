"""New keys while the service runs: both are readable before anything is sealed under the new one, and until nothing
is left under the old.

Whoever runs beside us learns of a new master key from its file when one does not open a value, and of a district's
new key from the district's row at the beginning of its next transaction. So each step waits until the transactions
that began before it have ended.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from screening import access, audit, sealing
from screening.db import Database
from screening.inserting import bytea_array
from screening.models import District, LookupKey

BATCH = 2_000
PATIENCE_SECONDS = 900.0


class StillRunning(RuntimeError):
    """A transaction from before the last step does not end; both keys open everything, and a later run finishes."""


@dataclass
class Rotated:
    """What is under new keys now."""

    districts: int = 0
    students: int = 0


def rotate_master(
    database: Database, keys: Sequence[bytes], keep: Callable[[Sequence[bytes]], None], *, by_id: uuid.UUID
) -> Rotated:
    """Wraps every district's keys with the first of `keys` and leaves that one alone to `keep`.

    `keys` are those that `keep` holds by now, the new one first: a run that was broken off is finished by the next.
    Raises sealing.CannotOpen when a value is under none of them: then none is taken away.
    """
    ring = sealing.Ring(keys)
    rotated = Rotated()
    with database.unit() as session:
        found = session.scalars(select(District.id).order_by(District.id)).all()
    for district_id in found:
        with database.unit(access.Scope(district_id)) as session:
            row = session.execute(_LOCKED, {"district": district_id}).scalar_one()
            wrapped = sealing.unwrap_district_keys(ring, district_id, bytes(row)).wrapped(ring)
            session.execute(update(District).where(District.id == district_id).values(wrapped_key=wrapped))
            audit.record(session, _operator(district_id, by_id), "keys.rotated", "district", district_id, kind="master")
        rotated.districts += 1
    with database.unit() as session:
        known = session.scalar(select(LookupKey.wrapped).with_for_update())
        if known is not None:
            again = sealing.wrap_lookup_key(ring, sealing.unwrap_lookup_key(ring, known))
            session.execute(update(LookupKey).values(wrapped=again))
    _let_the_earlier_end(database)
    keep(keys[:1])
    return rotated


def rotate_district(database: Database, district_id: uuid.UUID, *, by_id: uuid.UUID) -> int:
    """Gives a district one more key, seals under it from now on, and wraps its students' keys anew; answers how many.

    What else was sealed under an earlier key stays so, and that key stays beside the new one, as long as it is kept.
    """
    _change(database, district_id, lambda keys: keys.with_one_more())
    _let_the_earlier_end(database)
    _change(database, district_id, lambda keys: keys.with_the_last())
    _let_the_earlier_end(database)
    wrapped = 0
    while count := _wrap_some(database, district_id):
        wrapped += count
    with database.unit(access.Scope(district_id)) as session:
        by = _operator(district_id, by_id)
        audit.record(session, by, "keys.rotated", "district", district_id, kind="district", students=wrapped)
    return wrapped


def _change(database: Database, district_id: uuid.UUID, how: Callable[[sealing.Keys], sealing.Keys]) -> None:
    with database.unit(access.Scope(district_id)) as session:
        row = session.execute(_LOCKED, {"district": district_id}).scalar_one()
        wrapped = how(sealing.unwrap_district_keys(database.ring, district_id, bytes(row))).wrapped(database.ring)
        session.execute(update(District).where(District.id == district_id).values(wrapped_key=wrapped))


def _wrap_some(database: Database, district_id: uuid.UUID) -> int:
    with database.unit(access.Scope(district_id)) as session:
        keys = sealing.keys(session)
        about = {"district": district_id, "number": keys.number, "batch": BATCH}
        rows = session.execute(_UNDER_EARLIER, about).all()
        if rows:
            _keep(session, keys, [(row.student_id, bytes(row.wrapped_key)) for row in rows])
    return len(rows)


def _keep(session: Session, keys: sealing.Keys, rows: Sequence[tuple[uuid.UUID, bytes]]) -> None:
    bound = [f"student/{student_id}" for student_id, _ in rows]
    wrapped = [keys.seal(keys.open(old, to), to) for (_, old), to in zip(rows, bound, strict=True)]
    session.execute(
        _REWRAP,
        {
            "district": keys.district_id,
            "students": [student_id for student_id, _ in rows],
            "wrapped": bytea_array(wrapped),
        },
    )


def _let_the_earlier_end(database: Database) -> None:
    with database.unit() as session:
        since = session.execute(text("select clock_timestamp()")).scalar_one()
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        with database.unit() as session:
            if not session.execute(_EARLIER, {"since": since}).scalar():
                return
        if time.monotonic() > until:
            raise StillRunning("A transaction from before the new key does not end; run this again when it has.")
        time.sleep(0.02)


def _operator(district_id: uuid.UUID, account_id: uuid.UUID) -> access.Actor:
    return access.Actor(account_id, district_id, roles=(access.RoleAt("operator"),))


_LOCKED = text("select wrapped_key from districts where id = :district for no key update")
_EARLIER = text(
    "select count(*) from pg_stat_activity where datname = current_database() and usename = current_user"
    " and pid <> pg_backend_pid() and xact_start < :since"
)
_UNDER_EARLIER = text(
    "select student_id, wrapped_key from identities where district_id = :district"
    " and get_byte(wrapped_key, 0) <> :number order by student_id limit :batch for no key update"
)
_REWRAP = text(
    "update identities i set wrapped_key = n.wrapped"
    " from unnest(cast(:students as uuid[]), cast(:wrapped as bytea[])) n(student_id, wrapped)"
    " where i.district_id = :district and i.student_id = n.student_id"
)
