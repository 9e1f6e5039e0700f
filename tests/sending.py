"""Sends a file of answers the way a door and the worker do, and looks at all that came of it."""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from alerts import raising
from screening import intake, reading
from screening.access import Actor, Scope
from screening.db import Database
from screening.errors import Problem
from screening.models import Upload
from screening.reading import AnswersPlan, Limits, Part, Summary, answers, files
from screening.reading import text as text_files
from tests.cast import Cast

assert text_files  # the reading process imports it when it meets text; here it is there from the start


@dataclass(frozen=True)
class Sent:
    """A file that has its receipt."""

    upload: Upload
    problems: list[Problem]

    @property
    def receipt(self) -> dict[str, Any]:
        assert self.upload.receipt is not None
        return self.upload.receipt

    @property
    def codes(self) -> Counter[str]:
        return Counter(problem.code for problem in self.problems)

    @property
    def places(self) -> set[tuple[str, int | None, str | None]]:
        return {(problem.code, problem.row, problem.column) for problem in self.problems}

    def outcomes(self, form: str) -> dict[str, int]:
        """What became of a form's rows, without the zeros."""
        return {outcome: count for outcome, count in self.receipt["forms"][form].items() if count}


def receive(
    cast: Cast,
    round_id: uuid.UUID,
    content: bytes,
    *,
    by: Actor | None = None,
    school_id: uuid.UUID | None = None,
    **options: Any,
) -> Upload:
    scope = cast.scope if school_id is None else Scope(cast.district.id, frozenset({school_id}))
    with cast.database.unit(scope) as session:
        return intake.receive(
            session,
            round_id,
            [content],
            file_name=options.pop("file_name", "answers.csv"),
            by=by or cast.district_admin,
            school_id=school_id,
            **options,
        )


def receipt_of(cast: Cast, upload_id: uuid.UUID) -> Sent:
    with cast.database.unit(cast.scope) as session:
        return Sent(intake.get(session, upload_id), intake.problems(session, upload_id))


def load(cast: Cast, upload_id: uuid.UUID) -> Sent:
    intake.load(cast.database, cast.district.id, upload_id, weigh=raising.weigh_load)
    return receipt_of(cast, upload_id)


def send(cast: Cast, round_id: uuid.UUID, content: bytes, **options: Any) -> Sent:
    """Receives and loads a file; `options` as `intake.receive` takes them."""
    return load(cast, receive(cast, round_id, content, **options).id)


def read_here(monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None) -> None:
    """Reads files by the same code without a process of its own, which costs a second a file."""

    def read_answers(chunks: Iterator[bytes], plan: AnswersPlan) -> Iterator[Part | Summary]:
        chosen = limits or Limits()
        return answers.read(files.open_file(b"".join(chunks), chosen), plan, chosen)

    monkeypatch.setattr(reading, "read_answers", read_answers)


# -- what is there afterwards -----------------------------------------------------------------------


def rows(database: Database, scope: Scope, statement: str, **parameters: Any) -> list[Mapping[str, Any]]:
    with database.unit(scope) as session:
        found = session.execute(text(statement), {"district": scope.district_id} | parameters)
        return [dict(row) for row in found.mappings()]


def alerts(cast: Cast) -> list[Mapping[str, Any]]:
    """Every alert of the district, oldest first, each with the rules in it."""
    return rows(
        cast.database,
        cast.scope,
        "select a.*, array(select distinct r.rule from alert_reasons r where r.district_id = a.district_id"
        " and r.alert_id = a.id order by r.rule) as rules, (select count(*) from alert_reasons r"
        " where r.district_id = a.district_id and r.alert_id = a.id) as reasons"
        " from alerts a where a.district_id = :district order by a.opened_at, a.place, a.id",
    )


def results(cast: Cast, round_id: uuid.UUID, student_id: uuid.UUID | None = None) -> list[Mapping[str, Any]]:
    """Every result revision of a round."""
    return rows(
        cast.database,
        cast.scope,
        "select * from results where district_id = :district and round_id = :round"
        " and (cast(:student as uuid) is null or student_id = :student) order by student_id, revision",
        round=round_id,
        student=student_id,
    )


def forms(cast: Cast, round_id: uuid.UUID, student_id: uuid.UUID | None = None) -> list[Mapping[str, Any]]:
    """Every stored form of a round, every revision."""
    return rows(
        cast.database,
        cast.scope,
        "select * from administrations where district_id = :district and round_id = :round"
        " and (cast(:student as uuid) is null or student_id = :student)"
        " order by student_id, instrument, informant, attempt, revision",
        round=round_id,
        student=student_id,
    )


def counts(cast: Cast) -> dict[str, int]:
    """How many rows each table holds for the district that an answer may end in."""
    tables = ("administrations", "results", "weighings", "alerts", "alert_reasons", "coverage_summaries")
    return {
        table: rows(cast.database, cast.scope, f"select count(*) as n from {table} where district_id = :district")[0][
            "n"
        ]
        for table in tables
    }
