"""Walking a chain: every line hashed again, every signed head met, and the first place named where it does not hold."""

import datetime as dt
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import access, db
from screening.audit_chain import lines, signing
from screening.audit_chain.heads import Head, in_database
from screening.db import Database
from screening.statements import driver_of

AT_ONCE = 50_000
UNSEALED_AFTER = dt.timedelta(minutes=1)
UNWRITTEN_AFTER = dt.timedelta(minutes=5)
SHOWN = 20
MOST_FAULTS = 1_000


@dataclass(frozen=True)
class Fault:
    """One thing that does not hold, and at which place of the chain (None: at no place of it)."""

    sequence: int | None
    words: str


@dataclass
class Verdict:
    """What the walk over one district's chain found."""

    district_id: uuid.UUID
    entries: int = 0
    heads: int = 0
    faults: list[Fault] = field(default_factory=list)
    """As they were met, the first thousand."""

    def blame(self, sequence: int | None, words: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(sequence, words))

    @property
    def first_bad(self) -> int | None:
        """The lowest place that does not hold."""
        return min((each.sequence for each in self.faults if each.sequence is not None), default=None)


def verify(database: Database, district_id: uuid.UUID, outside: Sequence[Head]) -> Verdict:
    """Walks the chain of a district in one snapshot and compares it with the heads kept outside the database."""
    verdict = Verdict(district_id)
    with database.unit() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        access.enter(session, access.Scope(district_id))
        inside = in_database(session, district_id)
        signed = _signed([*inside, *outside], signing.public_key(session.info["master_key"]), verdict)
        last = _walk(session, district_id, signed, verdict)
        _look_beyond(last, signed, verdict)
        _look_for_unsealed(session, district_id, verdict)
        _look_for_unwritten(inside, outside, db.now(session), verdict)
    return verdict


def _signed(heads: Sequence[Head], public: bytes, verdict: Verdict) -> Mapping[int, set[bytes]]:
    found: dict[int, set[bytes]] = {}
    for head in dict.fromkeys(heads):
        if head.is_signed_by(public):
            found.setdefault(head.sequence, set()).add(head.hash)
        else:
            verdict.blame(head.sequence, "its head is not signed by this installation")
    verdict.heads = len(found)
    return found


def _walk(session: Session, district_id: uuid.UUID, signed: Mapping[int, set[bytes]], verdict: Verdict) -> int:
    """Hashes every line again; answers the number of the last place."""
    before, expected, held, told = lines.BEGINNING, 1, 0, 0
    for sequence, kept, canonical in _places(session, district_id):
        if words := _broken(before, expected, sequence, kept, canonical):
            told = min(expected, sequence)
            verdict.blame(told, words)
        if signed.get(sequence, {kept}) != {kept}:
            if told <= held:  # every link holds, so it is not known which was the first that was changed
                told = held + 1
                verdict.blame(told, f"from here to {sequence} the chain was written anew: a signed head says otherwise")
        elif sequence in signed:
            held = sequence
        before, expected = kept, sequence + 1
        verdict.entries += 1
    return expected - 1


def _broken(before: bytes, expected: int, sequence: int, kept: bytes, canonical: str | None) -> str | None:
    if sequence != expected:
        return "its place is gone" if sequence == expected + 1 else f"the places up to {sequence - 1} are gone"
    if canonical is None:
        return "its line is gone"
    if lines.link(before, sequence, canonical.encode()) != kept:
        return "its line is not the one that was sealed"
    return None


def _places(session: Session, district_id: uuid.UUID) -> Iterator[tuple[int, bytes, str | None]]:
    """Each place with its hash and its line, in order, some ten thousand in memory at a time."""
    start = 0
    session.execute(_PLACE_BY_PLACE, {"is_on": "off"})
    cursor: psycopg.Cursor[tuple[int, bytes, str | None]]
    with driver_of(session).cursor(binary=True) as cursor:  # type: ignore[assignment]
        while rows := cursor.execute(
            _PLACES, {"d": district_id, "after": start, "limit": AT_ONCE}, prepare=False
        ).fetchall():
            yield from rows
            start = rows[-1][0]
    session.execute(_PLACE_BY_PLACE, {"is_on": "on"})


def _look_beyond(last: int, signed: Mapping[int, set[bytes]], verdict: Verdict) -> None:
    """What the heads know and the chain does not, and the other way round."""
    furthest = max(signed, default=0)
    if furthest > last:
        verdict.blame(last + 1, f"the chain is cut off: a signed head stands at {furthest}")
    vouched = max((sequence for sequence in signed if sequence <= last), default=0)
    if last > vouched:
        verdict.blame(None, f"no signed head vouches for the places from {vouched + 1} on")


def _look_for_unsealed(session: Session, district_id: uuid.UUID, verdict: Verdict) -> None:
    before = db.now(session) - UNSEALED_AFTER
    found = session.execute(_UNSEALED, {"district": district_id, "before": before}).all()
    if found:
        ids = ", ".join(str(row.id) for row in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        verdict.blame(None, f"unsealed for over a minute: line {ids}{more}")


def _look_for_unwritten(inside: Sequence[Head], outside: Sequence[Head], now: dt.datetime, verdict: Verdict) -> None:
    written = max((head.sequence for head in outside), default=0)
    waiting = [head for head in inside if head.sequence > written and now - head.sealed_at > UNWRITTEN_AFTER]
    if waiting:
        verdict.blame(None, f"{len(waiting)} heads are not kept outside the database, from {waiting[0].sequence} on")


# In the order of the places by two indexes: of a table that was never analyzed the planner would rather hash or sort
# all of it, and again for each part.
_PLACE_BY_PLACE = text(
    "select set_config('enable_' || way, :is_on, true)"
    " from unnest(array['hashjoin', 'mergejoin', 'seqscan', 'bitmapscan', 'sort']) way"
)
_PLACES = (
    f"select s.sequence, s.hash, {lines.CANONICAL}"  # noqa: S608 - our own SQL
    " from audit_seals s left join audit_entries e on e.district_id = s.district_id and e.id = s.entry_id"
    " where s.district_id = %(d)s and s.sequence > %(after)s order by s.sequence limit %(limit)s"
)
_UNSEALED = text(
    "select e.id from audit_entries e where e.district_id = :district and e.at < :before and not exists"
    " (select from audit_seals s where s.district_id = e.district_id and s.entry_id = e.id) order by e.id"
)
