"""What the sender of a file is told: counts by form, and every problem by sheet, row and column.

A receipt says nothing about any answer, its weight, or who was told of it.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from screening import access, audit, reading, rounds
from screening.db import now
from screening.errors import NotFound, Problem
from screening.models import Upload
from screening.reading.plan import PROBLEM_SCHEMA
from screening.results import FormKey

MOST_PROBLEMS_KEPT = 100_000
OUTCOMES = ("accepted", "not_scorable", "corrected", "repeated", "differs", "not_answered", "rejected")
"""What became of a form in a row. accepted: new and scored. not_scorable: new and kept, but incomplete. corrected: a
further revision. repeated: exactly what is stored. differs: not what is stored, and not kept. rejected: a bad cell, or
a row that cannot be taken."""
REFUSALS = {
    "unreadable_memory": "Reading the file takes too much memory. Save it as CSV, or in smaller parts.",
    "unreadable_time": "Reading the file takes too long. Save it as CSV, or in smaller parts.",
    "unreadable_died": "The file breaks the program that reads it. Save it anew, as CSV, and send that.",
    "unreadable_database": "The file could not be loaded. Nothing of it was kept; tell whoever runs this service.",
    "interrupted_too_often": "Loading was interrupted again and again. Send the file again in smaller parts.",
    "round_not_open": "The round is not open yet. Its dates stand in the plan of rounds.",
    "round_closed": "The round is closed. Ask the district to record the answers in a historical round.",
}


def told(code: str) -> Problem:
    """A reason to refuse a whole file, in words."""
    return Problem(code, REFUSALS[code])


@dataclass
class Receipt:
    """What is counted while a load goes on; `forms` by instrument/form, each outcome with its number."""

    summary: reading.Summary | None = None
    students: set[str] = field(default_factory=set)
    forms: dict[str, dict[str, int]] = field(default_factory=dict)
    schools: set[uuid.UUID] = field(default_factory=set)

    def count(self, form: FormKey, outcomes: Mapping[str, int]) -> None:
        own = self.forms.setdefault("/".join(form), dict.fromkeys(OUTCOMES, 0))
        for outcome, number in outcomes.items():
            own[outcome] += number

    def as_json(self) -> dict[str, Any]:
        counted = {"students": len(self.students), "forms": self.forms}
        if self.summary is None:
            return {"rows": 0, "repeated_rows": 0, **counted}
        return {
            "rows": self.summary.rows,
            "repeated_rows": self.summary.repeated_rows,
            "blank_rows": self.summary.blank_rows,
            "format": self.summary.format,
            "encoding": self.summary.encoding,
            "sheet": self.summary.sheet,
            "ignored_columns": list(self.summary.ignored_columns),
            "notices": [notice.message for notice in self.summary.notices],
            **counted,
        }


class Problems:
    """Problems as they are found, bounded, and at the end in the order of the file."""

    def __init__(self) -> None:
        self._frames: list[pl.DataFrame] = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
        self._of_file: list[Problem] = []
        self._height = 0
        self.left_out = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Adds problems of rows: a frame with the columns of `PROBLEM_SCHEMA`."""
        room = MOST_PROBLEMS_KEPT - self._height
        self.left_out += max(0, frame.height - room)
        kept = frame.head(max(0, room)).select(list(PROBLEM_SCHEMA))
        self._height += kept.height
        self._frames.append(kept)

    def add_of_file(self, problems: Iterable[Problem]) -> None:
        self._of_file += problems

    def in_order(self) -> list[Problem]:
        ordered = pl.concat(self._frames).sort("sheet", "row", "column", "code", nulls_last=False)
        of_rows = (
            Problem(row["code"], row["message"], row["sheet"], row["row"], row["column"])
            for row in ordered.iter_rows(named=True)
        )
        return list(dict.fromkeys([*self._of_file, *of_rows]))


def refuse(session: Session, upload: Upload, why: Sequence[Problem]) -> None:
    """Ends an upload of which no row could be read."""
    end(session, upload, "refused", Receipt(), why)


def end(
    session: Session, upload: Upload, state: str, receipt: Receipt, problems: Sequence[Problem], left_out: int = 0
) -> None:
    """Writes the receipt and sets when the file is to be erased.

    The conditional update is what makes a load happen once: NotFound when there is a receipt already, which rolls
    back whatever else stands in the transaction.
    """
    counted = {"problems": len(problems) + left_out, "problems_left_out": left_out}
    ended = session.execute(
        update(Upload)
        .where(Upload.district_id == upload.district_id, Upload.id == upload.id, Upload.state == "received")
        .values(
            state=state,
            progress=1.0,
            finished_at=text("clock_timestamp()"),
            receipt={"state": state, **receipt.as_json(), **counted},
        )
        .returning(Upload.id)
    ).scalar_one_or_none()
    if ended is None:
        raise NotFound("The upload has its receipt already.")
    _write(session, upload, problems)
    _set_erasure(session, upload)
    action = "upload.loaded" if state == "loaded" else "upload.refused"
    audit.record(session, access.system(upload.district_id), action, "upload", upload.id, problems=len(problems))


def _write(session: Session, upload: Upload, problems: Sequence[Problem]) -> None:
    if not problems:
        return
    session.execute(
        text(
            "insert into upload_problems (district_id, upload_id, position, school_id, sheet, row_number, column_name,"
            " code, message) select :district, :upload, p.position, :school, p.sheet, p.row_number, p.column_name,"
            " p.code, p.message from unnest(cast(:sheet as text[]), cast(:row as integer[]), cast(:column as text[]),"
            " cast(:code as text[]), cast(:message as text[])) with ordinality"
            " as p (sheet, row_number, column_name, code, message, position)"
        ),
        {
            "district": upload.district_id,
            "upload": upload.id,
            "school": upload.school_id,
            "sheet": [p.sheet for p in problems],
            "row": [p.row for p in problems],
            "column": [p.column for p in problems],
            "code": [p.code for p in problems],
            "message": [p.message for p in problems],
        },
    )


def _set_erasure(session: Session, upload: Upload) -> None:
    days = rounds.rules_of(session, upload.round_id).policy.file_retention_days
    session.execute(
        text("update stored_files set erase_at = :at where district_id = :district and id = :file"),
        {"at": now(session) + dt.timedelta(days=days), "district": upload.district_id, "file": upload.file_id},
    )
