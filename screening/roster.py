"""Lists of students: a file becomes a proposal, which a person commits. Nobody is attached to a child by guess.

A row is about a known student when school and number agree and so does the name; about a student who moved when
number and name (and the birth date, where both are known) agree with one student of another school. Whatever is
less certain is refused with a reason, and a person decides. A student whom a list leaves out is only named as such.
"""

import contextlib
import dataclasses
import datetime as dt
import json
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from screening import access, audit, consent, files, identity, reading, sealing
from screening.db import Database
from screening.db import now as database_now
from screening.errors import Conflict, InvalidUpload, NotFound, Problem, Refused
from screening.identity import Person
from screening.models import Roster, RosterRow, School, StoredFile

MOST_ATTEMPTS = 3
KEPT_DAYS = 7
"""How long a committed or refused list is kept; one that nobody decides about is kept four times as long."""
CHANGES = ("new", "changed", "moved", "same", "refused")

_FILE_ROW = 0
_GROUPS = re.compile(r"[;,|、；，]")
_MESSAGES = {
    "unknown_school": "No school of yours has this code. Check it, or ask the district to add the school.",
    "school_missing": "Say which school this is about: add a column with the school code.",
    "name_differs": "Another student of this school has this number now. Check number and name.",
    "birth_date_differs": "The student of this number and name has another birth date. Check which is right.",
    "ambiguous_student": "A student of this number and name is at another school. The district decides about a move.",
    "duplicate_student": "This number stands in the list more than once. Keep the right row.",
    "grade_missing": "A new student needs a grade.",
    "consent_stands": "The refusal on file stands: this giver declined or withdrew, and a list cannot undo that.",
    "unreadable": "The file breaks the program that reads it. Save it anew, as CSV, and send that.",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """What one row of a list says; None where it says nothing."""

    row: int
    sheet: str | None
    school_code: str | None
    number: str
    name: str
    sex: str | None
    grade: int | None
    class_name: str | None
    born_on: dt.date | None
    phone: str | None
    groups: tuple[str, ...]
    guardian_consent: str | None
    student_consent: str | None

    @property
    def decisions(self) -> dict[str, str]:
        spoken = {"guardian": self.guardian_consent, "student": self.student_consent}
        return {giver: decision for giver, decision in spoken.items() if decision}


@dataclass(frozen=True, slots=True)
class ProposedRow:
    """One row of a proposal: what it says, what would come of it, and what is wrong with it.

    `differences` names what a changed or moved student has otherwise now. `listed` is None for a row that could not
    be read.
    """

    row: int
    change: str
    student_id: uuid.UUID | None
    listed: Listed | None
    differences: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a list would change. `missing` are enrolled at the list's schools, but not in it: they stay as they are."""

    roster: Roster
    counts: Mapping[str, int]
    rows: Sequence[ProposedRow]
    problems: Sequence[Problem]
    missing: Sequence[uuid.UUID]


# -- receiving and proposing --------------------------------------------------------------------------


def receive(
    session: Session,
    content: Iterable[bytes],
    file_name: str,
    *,
    by: access.Actor,
    school_id: uuid.UUID | None = None,
    column_map: Mapping[str, str] | None = None,
) -> Roster:
    """Stores a list of students, for the worker to make a proposal of.

    `school_id` bounds whose students may be in it; None is the whole district, or the one school of the scope.
    Raises Refused when the scope has several schools and none is named, NotFound for a school outside of it,
    InvalidUpload for an empty or too large file.
    """
    scope = access.scope_of(session)
    if school_id is None and scope.schools is not None:
        if len(scope.schools) != 1:
            raise Refused("Say for which school this list is.", code="school_missing")
        (school_id,) = scope.schools
    if school_id is not None and (
        session.get(School, (scope.district_id, school_id)) is None
        or (scope.schools is not None and school_id not in scope.schools)
    ):
        raise NotFound("There is no such school.")
    stored = files.store_file(session, content, file_name, school_id=school_id)
    received = Roster(
        district_id=scope.district_id,
        id=uuid.uuid4(),
        school_id=school_id,
        file_id=stored.id,
        column_map=dict(column_map or {}),
        received_by=by.staff_id or by.account_id,
    )
    session.add(received)
    session.flush()
    session.refresh(received)
    audit.record(session, by, "roster.received", "roster", received.id)
    return received


def get(session: Session, roster_id: uuid.UUID) -> Roster:
    """The list of that id, if it is within the scope. Raises NotFound."""
    found = session.get(Roster, (access.scope_of(session).district_id, roster_id))
    if found is None:
        raise NotFound("There is no such list of students.")
    return found


def propose_waiting(database: Database, district_id: uuid.UUID) -> int:
    """Makes a proposal of every list of the district that waits; answers how many came to an end here."""
    with database.unit(access.Scope(district_id)) as session:
        waiting = session.scalars(
            select(Roster.id)
            .where(Roster.district_id == district_id, Roster.state == "received")
            .order_by(Roster.received_at)
        ).all()
    return sum(propose(database, district_id, roster_id) for roster_id in waiting)


def propose(database: Database, district_id: uuid.UUID, roster_id: uuid.UUID) -> bool:
    """Reads one list outside any transaction and writes its proposal in one; False when there was nothing to do.

    A session lock keeps other workers off it and falls with this one. A file that cannot be read is refused with
    its problems; one that breaks the reader is refused after MOST_ATTEMPTS.
    """
    with contextlib.closing(database.direct()) as direct:
        claim = direct.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", [f"roster/{roster_id}"])
        if not (claim.fetchone() or (False,))[0]:
            return False
        scope = access.Scope(district_id)
        with database.unit(scope) as session:
            waiting = get(session, roster_id)
            if waiting.state != "received":
                return False
            waiting.attempts += 1
            attempts, column_map, file_id = waiting.attempts, dict(waiting.column_map), waiting.file_id
        try:
            students, problems = _read(_content(database, scope, file_id), column_map)
        except InvalidUpload as unusable:
            problems_of_file: Sequence[Problem] = unusable.problems
        except reading.ReaderFailed:
            if attempts < MOST_ATTEMPTS:
                return False
            problems_of_file = [Problem("unreadable", _MESSAGES["unreadable"])]
        else:
            with database.unit(scope) as session:
                lay_out(session, roster_id, students, problems)
            return True
        with database.unit(scope) as session:
            _refuse(session, get(session, roster_id), problems_of_file)
        return True


def lay_out(
    session: Session, roster_id: uuid.UUID, students: pl.DataFrame, problems: pl.DataFrame
) -> Mapping[str, int]:
    """Writes the proposal for a list that was read (`reading.RosterPart`'s frames); answers its counts.

    Runs in the district's scope, because only that can tell a new student from one who moved; what the list may
    touch is bounded by its own school.
    """
    received = get(session, roster_id)
    by_row = _problems_by_row(problems)
    readable, unreadable = _listed(students)
    verdicts = _judge(session, readable, received.school_id)
    rows = [
        (listed, verdict, [*by_row.pop(listed.row, ()), *verdict.problems])
        for listed, verdict in zip(readable, verdicts, strict=True)
    ]
    keys = sealing.keys(session)
    written = [_row(keys, received, listed.row, verdict, listed, found) for listed, verdict, found in rows]
    refused = _Verdict("refused")
    written += [_row(keys, received, row, refused, None, by_row.pop(row, ())) for row in unreadable]
    rest = [problem for found in by_row.values() for problem in found]
    if rest:
        written.append(_row(keys, received, _FILE_ROW, refused, None, rest))
    _insert(session, RosterRow.__tablename__, _ROW_TYPES, written)
    counts = Counter(dict.fromkeys(CHANGES, 0))
    counts.update(verdict.change for _, verdict, _ in rows)
    counts["refused"] += len(unreadable)
    counts["missing_from_list"] = len(_missing(session, rows_of=[verdict for _, verdict, _ in rows]))
    kinds = Counter(code for entry in written for code in entry["codes"])
    received.state = "proposed"
    received.counts = {**counts, "problems": dict(sorted(kinds.items()))}
    _keep(session, received, KEPT_DAYS * 4)
    audit.record(session, _worker(session), "roster.proposed", "roster", roster_id, **counts)
    return dict(counts)


def proposal(session: Session, roster_id: uuid.UUID, *, after: int = -1, limit: int | None = None) -> Proposal:
    """What the list would change, by row number; `after` and `limit` page through its rows. Raises NotFound."""
    found = get(session, roster_id)
    keys = sealing.keys(session)
    stored = session.execute(
        select(RosterRow.row_number, RosterRow.change, RosterRow.student_id, RosterRow.sealed)
        .where(RosterRow.district_id == found.district_id, RosterRow.roster_id == roster_id)
        .where(RosterRow.row_number > after)
        .order_by(RosterRow.row_number)
        .limit(limit)
    )
    opened = [_opened(keys, roster_id, *row) for row in stored]
    return Proposal(
        roster=found,
        counts={name: count for name, count in found.counts.items() if isinstance(count, int)},
        rows=[row for row in opened if row.row != _FILE_ROW],
        problems=[problem for row in opened for problem in row.problems],
        missing=_missing_now(session, roster_id) if found.state == "proposed" else (),
    )


# -- committing ---------------------------------------------------------------------------------------


def commit(
    session: Session, roster_id: uuid.UUID, *, by: access.Actor, on: dt.date, notice_version: str = "roster"
) -> Roster:
    """Does what the proposal says, as of the day `on`; refused rows are left out.

    Raises Conflict when it was committed already, when it is not a proposal, or when students have changed since
    then so that a row now means something else; nothing is done in that case.
    """
    district_id = access.scope_of(session).district_id
    # one list at a time, so that what is judged here is still so when it is written
    session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"roster commit/{district_id}"}
    )
    found = session.execute(
        select(Roster)
        .where(Roster.district_id == district_id, Roster.id == roster_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one_or_none()
    if found is None:
        raise NotFound("There is no such list of students.")
    if found.state != "proposed":
        already = "This list was committed already." if found.state == "committed" else "This list is no proposal."
        raise Conflict(already, code=f"roster_{found.state}")
    planned = [row for row in proposal(session, roster_id).rows if row.change != "refused" and row.listed]
    listed = [row.listed for row in planned if row.listed]
    verdicts = _judge(session, listed, found.school_id)
    for row, verdict in zip(planned, verdicts, strict=True):
        if not _is_foreseen(row, verdict):
            raise _outdated()
    try:
        with session.begin_nested():
            _apply(session, found, list(zip(listed, verdicts, strict=True)), on, notice_version, by)
    except IntegrityError:
        raise _outdated() from None
    found.state = "committed"
    found.committed_by = by.staff_id or by.account_id
    found.committed_at = database_now(session)
    _keep(session, found, KEPT_DAYS)
    session.flush()
    counts = {name: found.counts.get(name, 0) for name in CHANGES}
    audit.record(session, by, "roster.committed", "roster", roster_id, **counts)
    return found


def forget_due(session: Session, now: dt.datetime) -> int:
    """Erases the file and the rows of every list whose time is over; answers how many lists. Twice is once."""
    district_id = access.scope_of(session).district_id
    due = session.execute(
        select(Roster.id, Roster.file_id)
        .join(StoredFile, (StoredFile.district_id == Roster.district_id) & (StoredFile.id == Roster.file_id))
        .where(Roster.district_id == district_id, StoredFile.erase_at <= now)
    ).all()
    for roster_id, file_id in due:
        session.execute(delete(RosterRow).where(RosterRow.district_id == district_id, RosterRow.roster_id == roster_id))
        files.erase_file(session, file_id)
        session.execute(
            update(Roster)
            .where(Roster.district_id == district_id, Roster.id == roster_id, Roster.state == "proposed")
            .values(state="refused")
        )
        audit.record(session, _worker(session), "file.erased", "roster", roster_id)
    return len(due)


# -- judging ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What comes of a row, at which school, and about whom; `decisions` are those that are new."""

    change: str
    school_id: uuid.UUID | None = None
    student_id: uuid.UUID | None = None
    differences: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    decisions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    known: "_Known | None" = None


@dataclass(frozen=True, slots=True)
class _Known:
    """A student as enrolled now."""

    student_id: uuid.UUID
    school_id: uuid.UUID
    name_hash: bytes
    grade: int
    class_name: str
    sex: str


@dataclass(frozen=True, slots=True)
class _Beside:
    """What is kept of the students that rows may be about, apart from their enrollment."""

    people: Mapping[uuid.UUID, Person]
    groups: Mapping[uuid.UUID, frozenset[str]]
    decisions: Mapping[tuple[uuid.UUID, str], str]


def _judge(session: Session, listed: Sequence[Listed], bound: uuid.UUID | None) -> list[_Verdict]:
    """What comes of each row, as far as the session sees; `bound` is the one school that the list may touch."""
    keys = sealing.keys(session)
    codes = dict(session.execute(select(School.code, School.id).where(School.district_id == keys.district_id)).all())
    numbers = identity.number_hashes(keys, [row.number for row in listed])
    names = [identity.name_hash(keys, row.name) for row in listed]
    known = _known(session, numbers)
    schools = [_school_of(row, codes, bound) for row in listed]
    likely = [
        [each for each in known.get(number, ()) if each.name_hash == name]
        for number, name in zip(numbers, names, strict=True)
    ]
    beside = _beside(session, {each.student_id for several in likely for each in several})
    verdicts = [
        school if isinstance(school, Problem) else _verdict(row, school, name, known.get(number, ()), beside, bound)
        for row, school, number, name in zip(listed, schools, numbers, names, strict=True)
    ]
    return _once_each(
        listed,
        [
            _refused(row, verdict) if isinstance(verdict, Problem) else verdict
            for row, verdict in zip(listed, verdicts, strict=True)
        ],
        [(school, number) for school, number in zip(schools, numbers, strict=True)],
    )


def _school_of(row: Listed, codes: Mapping[str, uuid.UUID], bound: uuid.UUID | None) -> uuid.UUID | Problem:
    if not row.school_code:
        return bound or _problem("school_missing", row, "school_code")
    school_id = codes.get(row.school_code)
    if school_id is None or bound not in (None, school_id):
        return _problem("unknown_school", row, "school_code")
    return school_id


def _verdict(
    row: Listed,
    school_id: uuid.UUID,
    name: bytes,
    candidates: Sequence[_Known],
    beside: _Beside,
    bound: uuid.UUID | None,
) -> _Verdict | Problem:
    here = [each for each in candidates if each.school_id == school_id]
    if here:
        if here[0].name_hash != name:
            return _problem("name_differs", row, "student_number")
        if _is_born_otherwise(row, here[0], beside):
            return _problem("birth_date_differs", row, "born_on")
        return _compared(row, school_id, here[0], beside)
    elsewhere = [each for each in candidates if each.name_hash == name]
    if not elsewhere:
        if row.grade is None:
            return _problem("grade_missing", row, "grade")
        return _Verdict("new", school_id, decisions=row.decisions)
    if len(elsewhere) > 1 or bound is not None or _is_born_otherwise(row, elsewhere[0], beside):
        return _problem("ambiguous_student", row, "student_number")
    return _compared(row, school_id, elsewhere[0], beside)


def _is_born_otherwise(row: Listed, known: _Known, beside: _Beside) -> bool:
    person = beside.people.get(known.student_id)
    return bool(person and person.born_on and row.born_on and person.born_on != row.born_on)


def _compared(row: Listed, school_id: uuid.UUID, known: _Known, beside: _Beside) -> _Verdict:
    person = beside.people[known.student_id]
    spoken, stands = _decisions(row, known, beside)
    # what a list leaves blank it does not deny
    checks = {
        "school": school_id != known.school_id,
        "grade": row.grade is not None and row.grade != known.grade,
        "class_name": row.class_name is not None and row.class_name != known.class_name,
        "sex": row.sex not in (None, "x", known.sex),
        "born_on": row.born_on is not None and person.born_on is None,
        "guardian_phone": row.phone is not None and row.phone != person.phone,
        "special_groups": bool(row.groups)
        and frozenset(row.groups) != beside.groups.get(known.student_id, frozenset()),
        "consent": bool(spoken),
    }
    differences = tuple(name for name, differs in checks.items() if differs)
    change = "moved" if checks["school"] else "changed" if differences else "same"
    return _Verdict(change, school_id, known.student_id, differences, tuple(stands), spoken, known)


def _decisions(row: Listed, known: _Known, beside: _Beside) -> tuple[dict[str, str], list[Problem]]:
    """The decisions that say something new; an old list must not undo a refusal, so a grant does not replace one."""
    spoken, stands = {}, []
    for giver, decision in row.decisions.items():
        before = beside.decisions.get((known.student_id, giver))
        if before in ("declined", "withdrawn"):
            if decision == "granted":
                stands.append(_problem("consent_stands", row, f"{giver}_consent"))
        elif before != decision:
            spoken[giver] = decision
    return spoken, stands


def _once_each(
    listed: Sequence[Listed], verdicts: Sequence[_Verdict], places: Sequence[tuple[object, bytes]]
) -> list[_Verdict]:
    """Two rows for one number at one school, or about one student, are both refused: nobody can tell which is right."""
    by_place = Counter(places)
    by_student = Counter(verdict.student_id for verdict in verdicts if verdict.student_id)
    return [
        _refused(row, _problem("duplicate_student", row, "student_number"))
        if verdict.change != "refused"
        and (by_place[place] > 1 or (verdict.student_id is not None and by_student[verdict.student_id] > 1))
        else verdict
        for row, verdict, place in zip(listed, verdicts, places, strict=True)
    ]


def _refused(row: Listed, problem: Problem) -> _Verdict:
    return _Verdict("refused", problems=(problem,))


def _problem(code: str, row: Listed, column: str) -> Problem:
    return Problem(code, _MESSAGES[code], row.sheet, row.row, column)


def _known(session: Session, numbers: Collection[bytes]) -> dict[bytes, list[_Known]]:
    rows = session.execute(
        text(
            "select e.number_hash, e.student_id, e.school_id, i.name_hash, e.grade, e.class_name, s.sex"
            " from enrollments e"
            " join identities i on i.district_id = e.district_id and i.student_id = e.student_id"
            " join students s on s.district_id = e.district_id and s.id = e.student_id"
            " where e.district_id = :district and e.until_on is null and e.number_hash = any(:numbers)"
        ),
        {"district": access.scope_of(session).district_id, "numbers": list(set(numbers))},
    )
    found: dict[bytes, list[_Known]] = {}
    for number, student_id, school_id, name, grade, class_name, sex in rows:
        found.setdefault(bytes(number), []).append(_Known(student_id, school_id, bytes(name), grade, class_name, sex))
    return found


def _beside(session: Session, student_ids: Collection[uuid.UUID]) -> _Beside:
    wanted = {"district": access.scope_of(session).district_id, "students": list(student_ids)}
    groups = session.execute(
        text(
            "select student_id, array_agg(group_code) from special_groups where district_id = :district"
            " and student_id = any(:students) and until_on is null group by student_id"
        ),
        wanted,
    )
    decisions = session.execute(
        text(
            "select distinct on (student_id, given_by) student_id, given_by, decision from consents"
            " where district_id = :district and student_id = any(:students)"
            " order by student_id, given_by, decided_at desc, recorded_at desc, decision = 'granted'"
        ),
        wanted,
    )
    return _Beside(
        people=identity.people(session, student_ids),
        groups={student_id: frozenset(codes) for student_id, codes in groups},
        decisions={(student_id, giver): decision for student_id, giver, decision in decisions},
    )


# -- applying -----------------------------------------------------------------------------------------


def _apply(
    session: Session,
    roster: Roster,
    rows: Sequence[tuple[Listed, _Verdict]],
    on: dt.date,
    notice_version: str,
    by: access.Actor,
) -> None:
    arriving = [(uuid.uuid4(), row, verdict) for row, verdict in rows if verdict.change == "new"]
    known = [
        (verdict.known, row, verdict)
        for row, verdict in rows
        if verdict.change in ("changed", "moved") and verdict.known
    ]
    _admit(session, arriving, on)
    _move(session, [each for each in known if each[2].change == "moved"])
    _update_people(session, known)
    placed = {"school", "grade", "class_name"}
    _reenroll(session, [each for each in known if placed & set(each[2].differences)], on)
    students = [(student_id, row, verdict) for student_id, row, verdict in arriving]
    students += [(before.student_id, row, verdict) for before, row, verdict in known]
    _regroup(session, students, on)
    consent.record_many(
        session,
        [
            consent.Decision(student_id, decision, giver)
            for student_id, _, verdict in students
            for giver, decision in verdict.decisions.items()
        ],
        notice_version=notice_version,
        channel="roster",
        decided_at=roster.received_at,
        by=by,
    )


def _admit(session: Session, arriving: Sequence[tuple[uuid.UUID, Listed, _Verdict]], on: dt.date) -> None:
    keys = sealing.keys(session)
    _insert(
        session,
        "students",
        {"id": "uuid", "school_id": "uuid", "sex": "text", "born_month": "date"},
        [
            {"id": student_id, "school_id": verdict.school_id, "sex": row.sex or "x", "born_month": _month(row.born_on)}
            for student_id, row, verdict in arriving
        ],
    )
    identity.enter_many(
        session,
        (
            (student_id, verdict.school_id, Person(row.name, row.number, row.born_on, row.phone))
            for student_id, row, verdict in arriving
            if verdict.school_id
        ),
    )
    numbers = identity.number_hashes(keys, [row.number for _, row, _ in arriving])
    _enroll(
        session,
        [
            {
                "id": uuid.uuid4(),
                "student_id": student_id,
                "school_id": verdict.school_id,
                "grade": row.grade,
                "class_name": row.class_name or "",
                "number_hash": number,
                "since_on": on,
            }
            for (student_id, row, verdict), number in zip(arriving, numbers, strict=True)
        ],
    )


_Change = tuple[_Known, Listed, _Verdict]


def _move(session: Session, moved: Sequence[_Change]) -> None:
    """What is kept of a student goes along; the consents are written again, because their rows cannot change."""
    if not moved:
        return
    parameters = {
        "district": access.scope_of(session).district_id,
        "students": [before.student_id for before, _, _ in moved],
        "schools": [verdict.school_id for _, _, verdict in moved],
    }
    to = "unnest(cast(:students as uuid[]), cast(:schools as uuid[])) as n(student_id, school_id)"
    for table, key in (("students", "id"), ("identities", "student_id"), ("special_groups", "student_id")):
        session.execute(
            text(
                f"update {table} t set school_id = n.school_id from {to}"  # noqa: S608 - our own SQL
                f" where t.district_id = :district and t.{key} = n.student_id"
            ),
            parameters,
        )
    session.execute(
        text(
            "insert into consents (district_id, id, student_id, school_id, decision, given_by, notice_version, channel,"  # noqa: S608 - our own SQL
            " decided_at, recorded_at, recorded_by)"
            " select c.district_id, gen_random_uuid(), c.student_id, n.school_id, c.decision, c.given_by,"
            f" c.notice_version, c.channel, c.decided_at, c.recorded_at, c.recorded_by from {to}"
            " join consents c on c.district_id = :district and c.student_id = n.student_id"
            " where not exists (select from consents h where h.district_id = c.district_id"
            " and h.student_id = c.student_id and h.school_id = n.school_id and h.given_by = c.given_by"
            " and h.decided_at = c.decided_at and h.decision = c.decision)"
        ),
        parameters,
    )


def _update_people(session: Session, known: Sequence[_Change]) -> None:
    district_id = access.scope_of(session).district_id
    told = [each for each in known if {"sex", "born_on"} & set(each[2].differences)]
    if told:
        session.execute(
            text(
                "update students s set sex = coalesce(n.sex, s.sex), born_month = coalesce(n.born_month, s.born_month)"
                " from unnest(cast(:students as uuid[]), cast(:sexes as text[]), cast(:months as date[]))"
                " as n(id, sex, born_month) where s.district_id = :district and s.id = n.id"
            ),
            {
                "district": district_id,
                "students": [before.student_id for before, _, _ in told],
                "sexes": [None if row.sex == "x" else row.sex for _, row, _ in told],
                "months": [_month(row.born_on) for _, row, _ in told],
            },
        )
    vaulted = [each for each in known if {"born_on", "guardian_phone"} & set(each[2].differences)]
    people = identity.people(session, [before.student_id for before, _, _ in vaulted])
    identity.replace_many(
        session,
        (
            (
                before.student_id,
                verdict.school_id,
                dataclasses.replace(
                    people[before.student_id],
                    born_on=people[before.student_id].born_on or row.born_on,
                    phone=row.phone or people[before.student_id].phone,
                ),
            )
            for before, row, verdict in vaulted
            if verdict.school_id
        ),
    )


def _reenroll(session: Session, known: Sequence[_Change], on: dt.date) -> None:
    """Ends the span and begins another, so that what was true on an earlier day can still be told."""
    if not known:
        return
    keys = sealing.keys(session)
    session.execute(
        text(
            "update enrollments set until_on = greatest(since_on, :on) where district_id = :district"
            " and student_id = any(:students) and until_on is null"
        ),
        {"district": keys.district_id, "students": [before.student_id for before, _, _ in known], "on": on},
    )
    numbers = identity.number_hashes(keys, [row.number for _, row, _ in known])
    _enroll(
        session,
        [
            {
                "id": uuid.uuid4(),
                "student_id": before.student_id,
                "school_id": verdict.school_id,
                "grade": before.grade if row.grade is None else row.grade,
                "class_name": _class_name(before, row, verdict),
                "number_hash": number,
                "since_on": on,
            }
            for (before, row, verdict), number in zip(known, numbers, strict=True)
        ],
    )


def _class_name(before: _Known, row: Listed, verdict: _Verdict) -> str:
    if row.class_name is not None:
        return row.class_name
    return before.class_name if verdict.school_id == before.school_id else ""


def _regroup(session: Session, students: Sequence[tuple[uuid.UUID, Listed, _Verdict]], on: dt.date) -> None:
    told = [each for each in students if each[1].groups and each[2].change in ("new", "changed", "moved")]
    if not told:
        return
    parameters = {
        "district": access.scope_of(session).district_id,
        "on": on,
        "all": [student_id for student_id, _, _ in told],
        "students": [student_id for student_id, row, _ in told for _ in row.groups],
        "schools": [verdict.school_id for _, row, verdict in told for _ in row.groups],
        "codes": [code for _, row, _ in told for code in row.groups],
    }
    listed = (
        "unnest(cast(:students as uuid[]), cast(:schools as uuid[]), cast(:codes as text[]))"
        " as n(student_id, school_id, group_code)"
    )
    session.execute(
        text(
            "update special_groups g set until_on = greatest(g.since_on, :on) where g.district_id = :district"  # noqa: S608 - our own SQL
            " and g.student_id = any(:all) and g.until_on is null and not exists"
            f" (select from {listed} where n.student_id = g.student_id and n.group_code = g.group_code)"
        ),
        parameters,
    )
    session.execute(
        text(
            "insert into special_groups (district_id, id, student_id, school_id, group_code, since_on)"  # noqa: S608 - our own SQL
            f" select :district, gen_random_uuid(), n.student_id, n.school_id, n.group_code, :on from {listed}"
            " where not exists (select from special_groups g where g.district_id = :district"
            " and g.student_id = n.student_id and g.group_code = n.group_code and g.until_on is null)"
        ),
        parameters,
    )


def _enroll(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    types = {
        "id": "uuid",
        "student_id": "uuid",
        "school_id": "uuid",
        "grade": "smallint",
        "class_name": "text",
        "number_hash": "bytea",
        "since_on": "date",
    }
    _insert(session, "enrollments", types, rows)


def _insert(session: Session, table: str, types: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Many rows of the scoped district in one statement, a column at a time."""
    if not rows:
        return
    arrays = ", ".join(f"cast(:{name} as {kind}[])" for name, kind in types.items())
    session.execute(
        text(
            f"insert into {table} (district_id, {', '.join(types)})"  # noqa: S608 - our own SQL
            f" select :district, n.* from unnest({arrays}) as n({', '.join(types)})"
        ),
        {
            "district": access.scope_of(session).district_id,
            **{name: [row[name] for row in rows] for name in types},
        },
    )


def _month(day: dt.date | None) -> dt.date | None:
    return day.replace(day=1) if day else None


def _is_foreseen(row: ProposedRow, verdict: _Verdict) -> bool:
    """Whether what would be done now is no more than what the proposal showed, and about the same child."""
    is_kind = verdict.change in (row.change, "same") and verdict.student_id == row.student_id
    return is_kind and set(verdict.differences) <= set(row.differences)


def _outdated() -> Conflict:
    return Conflict("Students have changed since this proposal was made. Send the list again.", code="roster_outdated")


# -- reading and keeping rows -------------------------------------------------------------------------

_ROW_TYPES = {
    "roster_id": "uuid",
    "row_number": "integer",
    "school_id": "uuid",
    "change": "text",
    "student_id": "uuid",
    "sealed": "bytea",
}


def _content(database: Database, scope: access.Scope, file_id: uuid.UUID) -> Iterator[bytes]:
    position = 0
    while True:
        with database.unit(scope) as session:
            piece = files.read_chunk(session, sealing.keys(session), file_id, position)
        if piece is None:
            return
        yield piece
        position += 1


def _read(chunks: Iterable[bytes], column_map: Mapping[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    students, problems = [], []
    for part in reading.read_roster(chunks, reading.RosterPlan(column_map)):
        if isinstance(part, reading.Summary):
            if part.refused:
                raise InvalidUpload("The list cannot be taken.", problems=part.refused)
            break
        students.append(part.students)
        problems.append(part.problems)
    if not students:
        empty = Problem("no_students", "There is no student in this file.")
        raise InvalidUpload(empty.message, problems=[empty])
    return pl.concat(students), pl.concat(problems)


def _listed(students: pl.DataFrame) -> tuple[list[Listed], list[int]]:
    readable, unreadable = [], []
    for row in students.iter_rows(named=True):
        if not row["is_proposable"]:
            unreadable.append(int(row["row"]))
            continue
        readable.append(
            Listed(
                row=row["row"],
                sheet=row["sheet"],
                school_code=row["school_code"],
                number=row["student_number"],
                name=row["student_name"],
                sex=row["sex"],
                grade=row["grade"],
                class_name=row["class_name"],
                born_on=row["born_on"],
                phone=row["guardian_phone"],
                groups=_groups(row["special_groups"]),
                guardian_consent=row["guardian_consent"],
                student_consent=row["student_consent"],
            )
        )
    return readable, unreadable


def _groups(cell: str | None) -> tuple[str, ...]:
    parts = (part.strip() for part in _GROUPS.split(cell or ""))
    return tuple(dict.fromkeys(part for part in parts if part))


def _problems_by_row(problems: pl.DataFrame) -> dict[int, list[Problem]]:
    found: dict[int, list[Problem]] = {}
    for each in problems.iter_rows(named=True):
        problem = Problem(each["code"], each["message"], each["sheet"], each["row"], each["column"])
        found.setdefault(each["row"] or _FILE_ROW, []).append(problem)
    return found


def _row(
    keys: sealing.Keys,
    roster: Roster,
    row: int,
    verdict: _Verdict,
    listed: Listed | None,
    problems: Iterable[Problem],
) -> dict[str, Any]:
    told = list(problems)
    content = {
        "listed": None if listed is None else dataclasses.asdict(listed),
        "differences": verdict.differences,
        "problems": [dataclasses.asdict(problem) for problem in told],
    }
    plain = json.dumps(content, ensure_ascii=False, default=dt.date.isoformat).encode()
    return {
        "roster_id": roster.id,
        "row_number": row,
        # a school that sent the list sees all of it, also a row that names another school
        "school_id": roster.school_id or verdict.school_id,
        "change": verdict.change,
        "student_id": verdict.student_id,
        "sealed": keys.seal(plain, f"roster/{roster.id}/{row}"),
        "codes": [problem.code for problem in told],
    }


def _opened(
    keys: sealing.Keys, roster_id: uuid.UUID, row: int, change: str, student_id: uuid.UUID | None, sealed: bytes
) -> ProposedRow:
    content = json.loads(keys.open(sealed, f"roster/{roster_id}/{row}"))
    listed = content["listed"]
    if listed is not None:
        born_on = listed["born_on"]
        listed = Listed(
            **{
                **listed,
                "groups": tuple(listed["groups"]),
                "born_on": dt.date.fromisoformat(born_on) if born_on else None,
            }
        )
    problems = tuple(Problem(**problem) for problem in content["problems"])
    return ProposedRow(row, change, student_id, listed, tuple(content["differences"]), problems)


def _refuse(session: Session, roster: Roster, problems: Sequence[Problem]) -> None:
    row = _row(sealing.keys(session), roster, _FILE_ROW, _Verdict("refused"), None, problems)
    _insert(session, RosterRow.__tablename__, _ROW_TYPES, [row])
    roster.state = "refused"
    roster.counts = {"problems": dict(Counter(problem.code for problem in problems))}
    _keep(session, roster, KEPT_DAYS)


def _missing(session: Session, *, rows_of: Iterable[_Verdict]) -> list[uuid.UUID]:
    verdicts = list(rows_of)
    return _enrolled_besides(
        session,
        {verdict.school_id for verdict in verdicts if verdict.school_id},
        {verdict.student_id for verdict in verdicts if verdict.student_id},
    )


def _missing_now(session: Session, roster_id: uuid.UUID) -> list[uuid.UUID]:
    named = session.execute(
        select(RosterRow.school_id, RosterRow.student_id).where(
            RosterRow.district_id == access.scope_of(session).district_id,
            RosterRow.roster_id == roster_id,
            RosterRow.change != "refused",
        )
    ).all()
    return _enrolled_besides(
        session,
        {row.school_id for row in named if row.school_id},
        {row.student_id for row in named if row.student_id},
    )


def _enrolled_besides(
    session: Session, schools: Collection[uuid.UUID], named: Collection[uuid.UUID]
) -> list[uuid.UUID]:
    enrolled = session.execute(
        text(
            "select student_id from enrollments where district_id = :district and school_id = any(:schools)"
            " and until_on is null order by school_id, grade, class_name, student_id"
        ),
        {"district": access.scope_of(session).district_id, "schools": list(schools)},
    ).scalars()
    return [student_id for student_id in enrolled if student_id not in named]


def _keep(session: Session, roster: Roster, days: int) -> None:
    session.execute(
        update(StoredFile)
        .where(StoredFile.district_id == roster.district_id, StoredFile.id == roster.file_id)
        .values(erase_at=database_now(session) + dt.timedelta(days=days))
    )


def _worker(session: Session) -> access.Actor:
    return access.system(access.scope_of(session).district_id)
