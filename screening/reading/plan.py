"""What the reader is asked, what it may spend, and what it hands back; every one can cross a pipe as JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from screening.errors import Problem

TAKEN = pl.Enum(["answered", "not_answered", "rejected"])
"""What became of one form in one row; see `Part.answers`."""

PROBLEM_SCHEMA: dict[str, pl.DataType] = {
    "sheet": pl.String(),
    "row": pl.Int32(),
    "column": pl.String(),
    "code": pl.String(),
    "message": pl.String(),
}


@dataclass(frozen=True)
class AnswersPlan:
    """Which forms a file of answers may hold, and how its columns are called where their names do not say it.

    `forms`: pairs of (an instrument's definition text, informant). `column_map`: file column -> item id ("phq9_9",
    or "psc17_parent_3" where two informants answer one instrument), or `student_number`, `school_code`,
    `student_name`. The map wins over the names that are understood by themselves.
    """

    forms: tuple[tuple[str, str], ...]
    column_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RosterPlan:
    """`column_map`: file column -> one of `students.ROLES`; it wins over the names understood by themselves."""

    column_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What one file may be, and what reading it may cost."""

    file_bytes: int = 200_000_000
    rows: int = 2_000_000
    columns: int = 2_000
    sheets: int = 50
    cell_chars: int = 1_000
    problems: int = 200_000
    """More problems than this, and the file is refused: something is wrong with all of it."""
    unpacked_bytes: int = 600_000_000
    """All parts of a workbook, unpacked."""
    workbook_cells: int = 10_000_000
    """Of one sheet's used rectangle: the workbook parser allocates all of it, empty or not."""
    part_rows: int = 100_000
    memory_bytes: int = 2_000_000_000
    """Of address space, not of memory in use: importing Polars alone reserves several hundred MB."""
    cpu_seconds: int = 120
    wall_seconds: float = 300.0


@dataclass(frozen=True)
class Part:
    """Some rows of a file of answers, in the file's order.

    `answers`: `sheet` String, `row` Int32 (as the spreadsheet shows it), `student_number`, `school_code`,
    `student_name` String, null where absent; then for each form, under the prefix `<code>.<informant>.`, every item
    (Int8 or Int16 code, null = blank or unreadable), every column of `scoring.score`, and `taken`:
    rejected = a cell of it could not be read, or the row or file cannot be taken; not_answered = all blank.
    Scores of rejected forms are computed from the cells that could be read, so that a critical answer in them shows.
    `problems`: `sheet, row, column, code, message`, by row and column; problems of the whole file (row null) stand in
    the last part. `repeated`: same columns, rows that say word for word what an earlier row says; they are left out
    of `answers`.
    """

    answers: pl.DataFrame
    problems: pl.DataFrame
    repeated: pl.DataFrame


@dataclass(frozen=True)
class RosterPart:
    """Some rows of a roster file.

    `students`: `sheet` String, `row` Int32, `school_code`, `student_number`, `student_name` String, `sex` String
    (f, m, x), `grade` Int8, `class_name` String, `born_on` Date, `guardian_phone`, `special_groups` String,
    `guardian_consent`, `student_consent` String (granted, declined, null), `is_proposable` Boolean (false when a
    required cell is missing or unreadable, or the number stands twice). `problems` as in `Part`.
    """

    students: pl.DataFrame
    problems: pl.DataFrame


@dataclass(frozen=True)
class Summary:
    """The last thing an iterator of parts yields.

    `rows`: data rows that are not blank, repeated ones included. `refused`: when not empty, the file as a whole must
    not be taken for these reasons (they stand among the last part's problems too, and every form is `rejected`); its
    parts were delivered all the same, so that a critical answer in it can be followed up. `notices` concern nobody's
    answers: columns and sheets left out. `problems_left_out`: problems beyond the limit.
    """

    format: str
    encoding: str | None
    sheet: str | None
    rows: int
    blank_rows: int
    repeated_rows: int
    ignored_columns: tuple[str, ...]
    notices: tuple[Problem, ...]
    refused: tuple[Problem, ...]
    problems_left_out: int


class ReaderFailed(Exception):
    """The reading process died or ran over a limit; nothing it said may be used.

    `reason`: memory, time, or died. `where` names lines of our own code at most, never anything from the file.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"the reader stopped: {reason}" + (f" ({where})" if where else ""))
        self.reason = reason
        self.where = where


def as_json(plan: AnswersPlan | RosterPlan, limits: Limits) -> bytes:
    """The plan and its limits, to be sent to the reading process."""
    kind = "answers" if isinstance(plan, AnswersPlan) else "roster"
    body = {"kind": kind, "plan": dataclasses.asdict(plan), "limits": dataclasses.asdict(limits)}
    return json.dumps(body).encode()


def from_json(text: bytes) -> tuple[AnswersPlan | RosterPlan, Limits]:
    """What `as_json` said."""
    body = json.loads(text)
    limits = Limits(**body["limits"])
    if body["kind"] == "roster":
        return RosterPlan(**body["plan"]), limits
    forms = tuple((text, informant) for text, informant in body["plan"]["forms"])
    return AnswersPlan(forms, body["plan"]["column_map"]), limits


def summary_from(fields: Mapping[str, Any]) -> Summary:
    """A summary that crossed the pipe as JSON."""
    listed = {name: tuple(Problem(**p) for p in fields[name]) for name in ("notices", "refused")}
    return Summary(**{**fields, **listed, "ignored_columns": tuple(fields["ignored_columns"])})


def problem_frame(problems: list[Problem]) -> pl.DataFrame:
    """Problems as the frame that parts carry."""
    return pl.DataFrame([dataclasses.asdict(p) for p in problems], schema=PROBLEM_SCHEMA)
