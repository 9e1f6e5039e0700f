"""Codes on paper: a student's way to one form, a guardian's way to one child's consent.

A link holds 160 random bits, which nobody guesses, so no count of wrong guesses ever stands before it. A short code
is for typing: it counts only together with a second fact from the vault, and wrong guesses are rationed by address
and by school, so that all of them together may be expected to hit less than once in a million rounds.
"""

import datetime as dt
import secrets
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import RowMapping, text, update
from sqlalchemy.orm import Session

from screening import access, audit, db, guesses, identity, rounds, sealing, second_factor, sessions
from screening.db import Database
from screening.errors import NotSignedIn, Refused
from screening.guesses import Limit, Steady
from screening.identity import Person
from screening.inserting import bytea_array, plain_array
from screening.models import Code
from screening.signing_in import Whence

Kind = Literal["student", "guardian"]
Fact = Literal["birth_date", "phone"]

LINK_BYTES = 20
SCHOOL_LETTERS, SHORT_LETTERS = 4, 10
GUARDIANS_FOR = dt.timedelta(days=30)
BIRTH_DATES = 300
"""Among how many dates a guesser has to choose: the children of a grade, born within a year, some days more often."""
_PHONE_DIGITS = 4
_OVER = "This code is not right, or it is over. Ask at your school."


@dataclass(frozen=True)
class Slip:
    """One line of a sheet, shown this once. Without a known fact there is no short code; `fact` is what is asked."""

    student_id: uuid.UUID
    name: str
    number: str
    grade: int
    class_name: str
    code: str
    short_code: str | None
    fact: Fact | None


@dataclass(frozen=True)
class Sheet:
    """The slips of a school, a grade or a class, and of whom there is none because no second fact is known."""

    slips: Sequence[Slip]
    without: Sequence[uuid.UUID]
    until: dt.datetime


@dataclass(frozen=True)
class Opened:
    """A session that was begun with a code."""

    kind: Kind
    secret: str
    until: dt.datetime
    student_id: uuid.UUID
    assignment_id: uuid.UUID | None


def per_address(address: str) -> Steady:
    return Steady(f"code/address/{address}", seconds=2, burst=30)


def per_school(tag: str) -> Steady:
    return Steady(f"code/school/{tag}", seconds=60, burst=500)


def expected_hits(*, schools: int, codes_per_school: int, days: float) -> float:
    """How many guesses of short codes may be expected to hit while a round lasts, if every school is guessed at
    without pause: guesses taken x codes that are good / possible codes / possible birth dates."""
    ration = per_school("")
    taken = ration.burst + days * 86_400 / ration.seconds
    return float(schools * taken * codes_per_school / len(second_factor.LETTERS) ** SHORT_LETTERS / BIRTH_DATES)


# -- sheets -----------------------------------------------------------------------------------------------


def for_students(
    session: Session,
    round_id: uuid.UUID,
    school_id: uuid.UUID,
    *,
    grade: int | None = None,
    class_name: str | None = None,
    by: access.Actor,
) -> Sheet:
    """Codes for everybody of a school, grade or class who has not answered yet; good until the school's window ends.

    Earlier codes of the same students end. Raises NotFound, Refused when the round is closed.
    """
    rounds.get(session, round_id)
    found = _rows(session, _WAITING, school_id, grade, class_name, round=round_id)
    until = _window_end(session, round_id, school_id)
    return _issue(session, "student", found, until, by=by)


def for_guardians(
    session: Session,
    school_id: uuid.UUID,
    *,
    grade: int | None = None,
    class_name: str | None = None,
    by: access.Actor,
) -> Sheet:
    """Codes for the guardians of everybody enrolled in a school, grade or class, for 30 days; earlier ones end.

    The second fact is the end of the phone number in the vault, or else the child's birth date.
    """
    found = _rows(session, _ENROLLED, school_id, grade, class_name)
    return _issue(session, "guardian", found, db.now(session) + GUARDIANS_FOR, by=by)


def _rows(
    session: Session,
    statement: str,
    school_id: uuid.UUID,
    grade: int | None,
    class_name: str | None,
    **more: object,
) -> list[RowMapping]:
    where = " and (cast(:grade as smallint) is null or {0}.grade = :grade)"
    where += " and (cast(:class as text) is null or {0}.class_name = :class) order by {0}.class_name, {0}.student_id"
    about = {
        "district": access.scope_of(session).district_id,
        "schools": access.schools_of(session),
        "school": school_id,
        "grade": grade,
        "class": class_name,
    }
    return list(session.execute(text(statement + where.format("p")), about | more).mappings())


def _window_end(session: Session, round_id: uuid.UUID, school_id: uuid.UUID) -> dt.datetime:
    found = session.execute(
        text(
            "select closes_at from openings where district_id = :district and round_id = :round"
            " and school_id = :school and state <> 'closed' and closes_at > now()"
        ),
        {"district": access.scope_of(session).district_id, "round": round_id, "school": school_id},
    ).scalar_one_or_none()
    if found is None:
        raise Refused("The round is over at this school, or it takes no part.", code="round_not_open")
    until: dt.datetime = found
    return until


def _issue(session: Session, kind: Kind, found: Sequence[RowMapping], until: dt.datetime, *, by: access.Actor) -> Sheet:
    ids = [row["student_id"] for row in found]
    people = identity.people(session, ids)
    _end(session, kind, found)
    slips, kept, without = [], [], []
    for row in found:
        made = _made(session, kind, row, people.get(row["student_id"]))
        if made is None:
            without.append(row["student_id"])
        else:
            slips.append(made[0])
            kept.append(made[1])
    _keep(session, kind, kept, until)
    audit.record_many(session, by, "student.named", "student", [slip.student_id for slip in slips])
    audit.record_many(session, by, "code.issued", "student", [slip.student_id for slip in slips])
    return Sheet(slips, without, until)


def _made(session: Session, kind: Kind, row: RowMapping, person: Person | None) -> tuple[Slip, dict[str, Any]] | None:
    """A slip, and what is kept of it; None for a guardian of whose child no second fact is known."""
    master = session.info["master_key"]
    fact, value = _fact(kind, person)
    if kind == "guardian" and fact is None:
        return None
    code_id, code = uuid.uuid4(), secrets.token_urlsafe(LINK_BYTES)
    short = None
    if kind == "student" and fact is not None:
        short = school_tag(master, row["school_id"]) + second_factor.letters(SHORT_LETTERS)
    slip = Slip(
        student_id=row["student_id"],
        name=person.name if person else "",
        number=person.number if person else "",
        grade=row["grade"],
        class_name=row["class_name"],
        code=code,
        short_code=None if short is None else _printed(short),
        fact=fact,
    )
    return slip, {
        "id": code_id,
        "code_hash": sealing.code_lookup(master, code),
        "short_hash": None if short is None else sealing.code_lookup(master, f"short/{short}"),
        "fact": fact,
        "fact_hash": None if fact is None else sealing.fact_lookup(master, f"{code_id}/{value}"),
        "school_id": row["school_id"],
        "student_id": row["student_id"],
        "assignment_id": row["assignment_id"],
    }


def _fact(kind: Kind, person: Person | None) -> tuple[Fact | None, str]:
    if person is None:
        return None, ""
    phone = _digits(person.phone or "")
    if kind == "guardian" and len(phone) >= _PHONE_DIGITS:
        return "phone", phone[-_PHONE_DIGITS:]
    if person.born_on is not None:
        return "birth_date", f"{person.born_on:%Y%m%d}"
    return None, ""


def school_tag(master: bytes, school_id: uuid.UUID) -> str:
    """The letters with which a school's short codes begin: no secret, they say whose ration a guess is taken from."""
    number = int.from_bytes(sealing.code_lookup(master, f"school/{school_id}")[:4], "big")
    return "".join(second_factor.LETTERS[(number >> (5 * place)) & 31] for place in range(SCHOOL_LETTERS))


def _printed(short: str) -> str:
    return f"{short[:SCHOOL_LETTERS]}-{second_factor.readable(short[SCHOOL_LETTERS:], group=5)}"


def _digits(told: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKC", told) if sign in "0123456789")


def _end(session: Session, kind: Kind, rows: Sequence[RowMapping]) -> None:
    """Ends earlier codes for the same, and what was begun with them."""
    about = {name: [row[f"{name}_id"] for row in rows] for name in ("student", "assignment")}
    ended = (
        session.execute(_END_CODES, about | {"district": access.scope_of(session).district_id, "kind": kind})
        .scalars()
        .all()
    )
    session.execute(_END_SESSIONS, {"codes": list(ended)})


def _keep(session: Session, kind: Kind, kept: Sequence[Mapping[str, Any]], until: dt.datetime) -> None:
    columns = {f"{name}s": plain_array(row[name] for row in kept) for name in _PLAIN_COLUMNS}
    columns |= {f"{name}s": bytea_array(row[name] for row in kept) for name in _BYTES_COLUMNS}
    about = {"district": access.scope_of(session).district_id, "kind": kind, "until": until}
    session.execute(_KEEP, about | {"facts": [row["fact"] for row in kept]} | columns)


# -- entering ---------------------------------------------------------------------------------------------


def enter(database: Database, code: str, whence: Whence, *, fact: str | None = None) -> Opened:
    """Begins a session with a code; one that was begun with it before ends. Raises NotSignedIn, TooManyAttempts."""
    short = second_factor.as_typed(code)
    is_short = len(short) == SCHOOL_LETTERS + SHORT_LETTERS
    limits: list[Limit] = []
    if is_short:
        limits = [per_address(whence.address), per_school(short[:SCHOOL_LETTERS])]
        guesses.admit(database, limits)
    found = _find(database, "short_hash" if is_short else "code_hash", f"short/{short}" if is_short else code)
    if found is None:
        raise _refused(database, None, whence)
    if is_short or found["kind"] == "guardian":
        limits += [ration := _facts_of(found)]
        guesses.admit(database, [ration])
        if not _fits(database, found, fact):
            raise _refused(database, found, whence)
    return _begin(database, found, limits)


def spend(session: Session, by: access.Actor) -> None:
    """Ends the code behind this session: its form was handed in. The session itself ends shortly after."""
    session.execute(
        update(Code)
        .where(
            Code.id.in_(text("(select code_id from sessions where id = :session)").bindparams(session=by.session_id))
        )
        .values(ended_at=text("now()"))
    )
    sessions.let_out(session, by)


def forget(session: Session) -> None:
    """Deletes codes a month after they ended, once nothing refers to them."""
    session.execute(_FORGET, {"kept": sessions.KEPT})


def _find(database: Database, column: str, what: str) -> RowMapping | None:
    with database.unit() as session:
        return session.execute(
            text(
                "select id, kind, fact_hash, district_id, school_id, student_id, assignment_id from codes"  # noqa: S608 - our own names
                f" where {column} = :hash and kind <> 'invitation' and ended_at is null and expires_at > now()"
            ),
            {"hash": sealing.code_lookup(database.master_key, what)},
        ).mappings().one_or_none()  # fmt: skip


def _facts_of(found: RowMapping) -> Steady:
    """Whoever holds a slip gets ten tries at the fact; a guardian four more each day, for want of another way in."""
    seconds = 86_400 / 4 if found["kind"] == "guardian" else 30 * 86_400
    return Steady(f"code/fact/{found['id']}", seconds=seconds, burst=10)


def _fits(database: Database, found: RowMapping, fact: str | None) -> bool:
    told = sealing.fact_lookup(database.master_key, f"{found['id']}/{_digits(fact or '')}")
    return found["fact_hash"] is not None and secrets.compare_digest(told, bytes(found["fact_hash"]))


def _begin(database: Database, found: RowMapping, limits: Sequence[Limit]) -> Opened:
    with database.unit(access.Scope(found["district_id"], frozenset({found["school_id"]}))) as session:
        guesses.forgive(session, limits)
        # who enters at the same moment waits here, and then ends what the other began
        until = session.execute(_LOCK, {"id": found["id"]}).scalar_one_or_none()
        if until is None:
            raise NotSignedIn(_OVER)
        session_id, secret, until = sessions.begin_for_code(session, found["id"], until)
        own = {"student_id": found["student_id"]}
        who = found["student_id"] if found["kind"] == "student" else found["id"]
        by = access.Actor(who, found["district_id"], roles=(access.RoleAt(found["kind"], found["school_id"]),), own=own)
        audit.record(session, by, "code.entered", "code", found["id"])
        audit.record(session, by, "session.begun", "session", session_id)
    return Opened(found["kind"], secret, until, found["student_id"], found["assignment_id"])


def _refused(database: Database, found: RowMapping | None, whence: Whence) -> NotSignedIn:
    audit.security_event(
        database,
        "sign_in.failed",
        "code",
        found["id"] if found else "unknown",
        district_id=found["district_id"] if found else None,
        role=found["kind"] if found else "none",
        whence=sealing.guess_lookup(database.master_key, whence.address)[:8].hex(),
    )
    return NotSignedIn(_OVER)


_WAITING = (
    "select p.student_id, p.school_id, p.grade, p.class_name, p.id as assignment_id from assignments p"  # noqa: S608 - our own SQL
    " where p.district_id = :district and p.round_id = :round and p.school_id = :school and p.informant = 'self'"
    f" and {access.within('p.school_id')}"
    " and p.exempt_reason is null and not exists (select from administrations d where d.district_id = p.district_id"
    " and d.round_id = p.round_id and d.student_id = p.student_id and d.informant = 'self'"
    f" and {access.within('d.school_id')})"
)
_ENROLLED = (
    "select p.student_id, p.school_id, p.grade, p.class_name, cast(null as uuid) as assignment_id from enrollments p"  # noqa: S608 - our own SQL
    " where p.district_id = :district and p.school_id = :school and p.until_on is null"
    f" and {access.within('p.school_id')}"
)
_END_CODES = text(
    "update codes set ended_at = now() where district_id = :district and kind = :kind"
    " and student_id = any(:student) and (assignment_id is null or assignment_id = any(:assignment))"
    " and ended_at is null returning id"
)
_END_SESSIONS = text("update sessions set ended_at = now() where code_id = any(:codes) and ended_at is null")
_LOCK = text(
    "select expires_at from codes where id = :id and ended_at is null and expires_at > now() for no key update"
)
_FORGET = text(
    "delete from codes c where coalesce(c.ended_at, c.expires_at) < now() - :kept"
    " and not exists (select from sessions s where s.code_id = c.id)"
)
_PLAIN_COLUMNS = ("id", "school_id", "student_id", "assignment_id")
_BYTES_COLUMNS = ("code_hash", "short_hash", "fact_hash")
_KEEP = text(
    "insert into codes (id, kind, code_hash, short_hash, fact, fact_hash, district_id, school_id, student_id,"
    " assignment_id, expires_at)"
    " select n.id, :kind, n.code_hash, n.short_hash, n.fact, n.fact_hash, :district, n.school_id, n.student_id,"
    " n.assignment_id, :until from unnest(cast(:ids as uuid[]), cast(:code_hashs as bytea[]),"
    " cast(:short_hashs as bytea[]), cast(:facts as text[]), cast(:fact_hashs as bytea[]),"
    " cast(:school_ids as uuid[]), cast(:student_ids as uuid[]), cast(:assignment_ids as uuid[]))"
    " as n(id, code_hash, short_hash, fact, fact_hash, school_id, student_id, assignment_id)"
)
