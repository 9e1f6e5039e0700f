"""Children with several rows are counted once each: the database's count against a plain one."""

import datetime as dt
import random
import uuid
from collections import defaultdict
from dataclasses import replace

import pytest
from sqlalchemy import insert, text

from screening import coverage, retention, same_child
from screening.db import Database
from screening.models import Enrollment, StudentMerge
from tests.screening.test_coverage import AT, Child, Made, count, make_round_full, recount

BEST = ("invalid", "suspect", "valid")


def tie(made: Made, tied: dict[uuid.UUID, uuid.UUID]) -> None:
    """Ties each duplicate to the row under which its child is counted."""
    schools = {each.id: each.school for each in made.children}
    with made.database.unit(made.scope) as session:
        session.execute(
            insert(StudentMerge),
            [
                {"district_id": made.scope.district_id, "id": uuid.uuid4(), "student_id": student, "state": "merged"}
                | {"duplicate_id": duplicate, "school_id": schools[student], "sealed_reason": b""}
                | {"duplicate_school_id": schools[duplicate], "proposed_by": uuid.uuid4(), "proposed_at": AT}
                | {"decided_by": uuid.uuid4(), "decided_at": AT}
                for duplicate, student in tied.items()
            ],
        )


def tie_some(made: Made, duplicates: int) -> dict[uuid.UUID, uuid.UUID]:
    """Ties so many rows to half as many others; returns duplicate -> the row where the child is counted."""
    draw = random.Random(3)  # noqa: S311 - made-up children
    drawn = [each.id for each in draw.sample(made.children, duplicates + duplicates // 2)]
    tied = {each: draw.choice(drawn[: duplicates // 2]) for each in drawn[duplicates // 2 :]}
    tie(made, tied)
    return tied


def as_one(made: Made, tied: dict[uuid.UUID, uuid.UUID]) -> Made:
    """The same round with one plain child for each that has several rows."""
    rows: dict[uuid.UUID, list[Child]] = defaultdict(list)
    for child in made.children:
        rows[tied.get(child.id, child.id)].append(child)
    by_id = {child.id: child for child in made.children}
    return replace(made, children=[joined(by_id[counted], several) for counted, several in rows.items()])


def joined(counted: Child, rows: list[Child]) -> Child:
    said = set()
    for row in rows:
        latest = {giver: decision for at, giver, decision in sorted(row.consents) if at <= AT}
        said |= {(giver, decision == "granted") for giver, decision in latest.items()}
    refused = {giver for giver, is_granted in said if not is_granted}
    decided = {(giver, "declined") for giver in refused} or {(giver, "granted") for giver, _ in said}
    births = [row.born_month for row in rows]
    standing = [row.results[-1] for row in rows if row.results]
    return replace(
        counted,
        consents=[(AT - dt.timedelta(days=1), giver, decision) for giver, decision in decided],
        born_month=None if None in births else max(each for each in births if each),
        is_exempt=all(row.is_exempt for row in rows),
        answers=sum(row.answers for row in rows),
        results=[(max(t for t, _ in standing), max((v for _, v in standing), key=BEST.index))] if standing else [],
    )


@pytest.mark.parametrize("way", ["the whole round", "students sought", "the whole round read for a school"])
def test_a_child_of_several_rows_is_counted_once(database: Database, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_round_full(database, 11, children=60)
    plain = as_one(made, tie_some(made, 20))
    if way == "the whole round read for a school":
        monkeypatch.setattr(coverage, "_worth_seeking", lambda *_: 0.0)
    for schools in [None] if way == "the whole round" else [[school] for school in made.schools]:
        recount(made, schools)
    with database.unit(made.scope) as session:
        (whole,) = coverage.funnel(session, made.round_id)
        assert whole.figures.enrolled == 40
        assert whole.figures == count(plain)
        for row in coverage.funnel(session, made.round_id, "school_grade"):
            assert row.figures == count(plain, school=row.school_id, grade=row.grade)


def test_every_row_of_a_child_knows_every_other(database: Database) -> None:
    made = make_round_full(database, 12, children=60)
    tied = tie_some(made, 20)
    rows: dict[uuid.UUID, set[uuid.UUID]] = defaultdict(set)
    for duplicate, student in tied.items():
        rows[student] |= {student, duplicate}
    with database.unit(made.scope) as session:
        found = same_child.others(session, [child.id for child in made.children])
        asked = {"district": made.scope.district_id}
        statement = text(f"select array{same_child.rows_of('cast(:student as uuid)')}")
        of_one = {
            each: set(session.execute(statement, asked | {"student": each}).scalar_one())
            for each in (child.id for child in made.children)
        }
    assert found == {each: frozenset(several - {each}) for several in rows.values() for each in several}
    assert of_one == {child.id: rows.get(tied.get(child.id, child.id), {child.id}) for child in made.children}


def test_a_row_is_kept_while_its_child_is_enrolled_under_another(database: Database) -> None:
    made = make_round_full(database, 13, children=2)
    left, stays = made.children
    with database.unit(made.scope) as session:
        long_ago = AT.date() - dt.timedelta(days=3_000)
        session.execute(
            insert(Enrollment),
            [
                {"district_id": made.scope.district_id, "id": uuid.uuid4(), "student_id": each.id, "grade": 8}
                | {"school_id": each.school, "number_hash": each.id.bytes, "since_on": long_ago, "until_on": until}
                for each, until in ((left, long_ago), (stays, None))
            ],
        )

    def due() -> bool:
        with database.unit(made.scope) as session:
            found = retention._due(session, retention._LEFT + " limit :limit", AT.date(), AT)
        return left.id in found

    assert due()
    tie(made, {left.id: stays.id})
    assert not due()
