"""From a file to its proposal: stored, read in a limited process outside any transaction, written in one."""

import contextlib
import datetime as dt
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import polars as pl
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from screening import access, audit, files, reading, same_child, sealing
from screening.db import Database
from screening.db import now as database_now
from screening.errors import InvalidUpload, NotFound, Problem, Refused
from screening.inserting import insert_many
from screening.models import Roster, RosterRow, School, StoredFile
from screening.roster.judging import judge
from screening.roster.listing import (
    CHANGES,
    FILE_ROW,
    MESSAGES,
    ROW_TYPES,
    Proposal,
    Verdict,
    listed,
    opened_row,
    problems_by_row,
    sealed_row,
)

MOST_ATTEMPTS = 3
KEPT_DAYS = 7
"""How long a committed or refused list is kept; one that nobody decides about is kept four times as long."""


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
    if found is None or not access.reaches(session, found.school_id):
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
            problems_of_file = [Problem("unreadable", MESSAGES["unreadable"])]
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
    by_row = problems_by_row(problems)
    readable, unreadable = listed(students)
    verdicts = judge(session, readable, received.school_id)
    rows = [
        (listed, verdict, [*by_row.pop(listed.row, ()), *verdict.problems])
        for listed, verdict in zip(readable, verdicts, strict=True)
    ]
    keys = sealing.keys(session)
    written = [sealed_row(keys, received, listed.row, verdict, listed, found) for listed, verdict, found in rows]
    refused = Verdict("refused")
    written += [sealed_row(keys, received, row, refused, None, by_row.pop(row, ())) for row in unreadable]
    rest = [problem for found in by_row.values() for problem in found]
    if rest:
        written.append(sealed_row(keys, received, FILE_ROW, refused, None, rest))
    insert_many(session, RosterRow.__tablename__, ROW_TYPES, written)
    counts = Counter(dict.fromkeys(CHANGES, 0))
    counts.update(verdict.change for _, verdict, _ in rows)
    counts["refused"] += len(unreadable)
    counts["missing_from_list"] = len(_missing(session, rows_of=[verdict for _, verdict, _ in rows]))
    kinds = Counter(code for entry in written for code in entry["codes"])
    received.state = "proposed"
    received.counts = {**counts, "problems": dict(sorted(kinds.items()))}
    keep_for(session, received, KEPT_DAYS * 4)
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
    opened = [opened_row(keys, roster_id, *row) for row in stored]
    return Proposal(
        roster=found,
        counts={name: count for name, count in found.counts.items() if isinstance(count, int)},
        rows=[row for row in opened if row.row != FILE_ROW],
        problems=[problem for row in opened for problem in row.problems],
        missing=_missing_now(session, roster_id) if found.state == "proposed" else (),
    )


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


def _refuse(session: Session, roster: Roster, problems: Sequence[Problem]) -> None:
    row = sealed_row(sealing.keys(session), roster, FILE_ROW, Verdict("refused"), None, problems)
    insert_many(session, RosterRow.__tablename__, ROW_TYPES, [row])
    roster.state = "refused"
    roster.counts = {"problems": dict(Counter(problem.code for problem in problems))}
    keep_for(session, roster, KEPT_DAYS)


def _missing(session: Session, *, rows_of: Iterable[Verdict]) -> list[uuid.UUID]:
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
            access.of_scope(session, RosterRow.school_id),
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
            "select student_id from enrollments where district_id = :district and school_id = any(:listed)"  # noqa: S608 - our own SQL
            f" and {access.within('school_id')} and until_on is null order by school_id, grade, class_name, student_id"
        ),
        {
            "district": access.scope_of(session).district_id,
            "schools": access.schools_of(session),
            "listed": list(schools),
        },
    ).scalars()
    left_out = [student_id for student_id in enrolled if student_id not in named]
    # a child that the list names under another number is not missing
    others = same_child.others(session, left_out)
    return [student_id for student_id in left_out if not others.get(student_id, frozenset()) & set(named)]


def keep_for(session: Session, roster: Roster, days: int) -> None:
    session.execute(
        update(StoredFile)
        .where(StoredFile.district_id == roster.district_id, StoredFile.id == roster.file_id)
        .values(erase_at=database_now(session) + dt.timedelta(days=days))
    )


def _worker(session: Session) -> access.Actor:
    return access.system(access.scope_of(session).district_id)
