"""What a list says, row by row, and what is proposed for each row; kept sealed until it is committed."""

import dataclasses
import datetime as dt
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from screening import sealing
from screening.errors import Problem
from screening.models import Roster

CHANGES = ("new", "changed", "moved", "same", "refused")

FILE_ROW = 0
_GROUPS = re.compile(r"[;,|、；，]")
MESSAGES = {
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a row, at which school, and about whom; `decisions` are those that are new."""

    change: str
    school_id: uuid.UUID | None = None
    student_id: uuid.UUID | None = None
    differences: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    decisions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    known: "Known | None" = None


@dataclass(frozen=True, slots=True)
class Known:
    """A student as enrolled now; `names` are those of all rows of the child, which is counted under `counted_id`."""

    student_id: uuid.UUID
    school_id: uuid.UUID
    names: frozenset[bytes]
    grade: int
    class_name: str
    sex: str
    counted_id: uuid.UUID


ROW_TYPES = {
    "roster_id": "uuid",
    "row_number": "integer",
    "school_id": "uuid",
    "change": "text",
    "student_id": "uuid",
    "sealed": "bytea",
}


def problem_of(code: str, row: Listed, column: str) -> Problem:
    return Problem(code, MESSAGES[code], row.sheet, row.row, column)


def listed(students: pl.DataFrame) -> tuple[list[Listed], list[int]]:
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


def problems_by_row(problems: pl.DataFrame) -> dict[int, list[Problem]]:
    found: dict[int, list[Problem]] = {}
    for each in problems.iter_rows(named=True):
        problem = Problem(each["code"], each["message"], each["sheet"], each["row"], each["column"])
        found.setdefault(each["row"] or FILE_ROW, []).append(problem)
    return found


_LISTED_FIELDS = tuple(field.name for field in dataclasses.fields(Listed))


def sealed_row(
    keys: sealing.Keys,
    roster: Roster,
    row: int,
    verdict: Verdict,
    listed: Listed | None,
    problems: Iterable[Problem],
) -> dict[str, Any]:
    told = list(problems)
    content = {
        "listed": None if listed is None else {name: getattr(listed, name) for name in _LISTED_FIELDS},
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


def opened_row(
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
