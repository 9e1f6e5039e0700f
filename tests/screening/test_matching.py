"""Rows to students: by number and school, checked by name, and never by guess."""

import dataclasses
import itertools
import uuid
from dataclasses import dataclass

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from screening import db, matching, policy
from screening.models import Round
from tests import sending
from tests.cast import Cast, assemble
from tests.factories import make_round, make_school, make_student

NUMBERS = ("1", "2", "１", " 1 ", "01", "3")
NAMES = ("王伟", "李娜", "Ann Lee", "ANN LEE", "ａｎｎｌｅｅ", "王 伟")
CODES = ("P", "Q", "R", "Z")


@dataclass(frozen=True)
class Somebody:
    id: uuid.UUID
    school: str
    number: str
    name: str


@dataclass(frozen=True)
class Town:
    cast: Cast
    round: Round
    people: tuple[Somebody, ...]


@pytest.fixture(scope="module")
def town(database: db.Database) -> Town:
    """Three schools that gave the same numbers, and two children of the same name."""

    cast = assemble(database)
    enrolled = [("P", "1", "王伟"), ("P", "2", "李娜"), ("Q", "1", "王伟"), ("Q", "2", "Ann Lee"), ("R", "01", "李娜")]
    with database.unit(cast.scope) as session:
        schools = {code: make_school(session, code=code).id for code in CODES[:3]}
        people = tuple(
            Somebody(make_student(session, schools[school], number=number, name=name).id, school, number, name)
            for school, number, name in enrolled
        )
        return Town(cast, make_round(session), people)


def match(town: Town, rows: list[tuple[str | None, str | None, str | None]]) -> list[tuple[str | None, str | None]]:
    """What `matching.match` says of (number, school code, name): the student where it is certain, and the verdict."""
    frame = pl.DataFrame(
        [(key, *row) for key, row in enumerate(rows)],
        schema={"key": pl.UInt32, "student_number": pl.String, "school_code": pl.String, "student_name": pl.String},
        orient="row",
    )
    with town.cast.database.unit(town.cast.scope) as session:
        rules = matching.Rules(
            round=town.round,
            policy=policy.shipped(),
            informants=("self",),
            other_rounds=(),
            now=db.now(session),
            makes_places=False,
        )
        matching.begin(session)
        found = matching.match(session, frame, rules)
    assert found.get_column("key").to_list() == list(range(len(rows)))
    return [
        (None if verdict in matching.NOBODY else student, verdict)
        for student, verdict in found.select("student_id", "verdict").iter_rows()
    ]


def plain(text: str) -> str:
    narrow = text.translate({code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)})
    return narrow.strip()


def bare(name: str) -> str:
    return "".join(plain(name).split()).casefold()


def meant(town: Town, number: str | None, code: str | None, name: str | None) -> tuple[Somebody | None, str | None]:
    """Whom a row means, by the rule in plain words."""
    if number is None:
        return None, "unknown_student"
    found = [who for who in town.people if who.number == plain(number) and code in (None, who.school)]
    if not found:
        return None, "unknown_student"
    if len(found) > 1:
        return None, "ambiguous_student"
    if name is not None and bare(name) != bare(found[0].name):
        return None, "name_differs"
    return found[0], None


ROWS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(NUMBERS), st.none() | st.sampled_from(CODES), st.none() | st.sampled_from(NAMES)
    ),
    min_size=1,
    max_size=8,
)


@given(rows=ROWS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_is_ever_about_a_wrong_child(town: Town, rows: list[tuple[str | None, str | None, str | None]]) -> None:
    wanted = [meant(town, *row) for row in rows]
    found = match(town, rows)

    claimed = [
        who.id
        for number, code, _ in rows
        for who in town.people
        if number and who.number == plain(number) and code in (None, who.school)
    ]
    for (who, verdict), (student, said) in zip(wanted, found, strict=True):
        if verdict == "ambiguous_student" or who is None:
            assert (student, said) == (None, verdict)
        elif claimed.count(who.id) > 1:
            # two rows claim this child, as far as numbers go: neither is taken
            assert said == "duplicate_student"
        else:
            assert (student, said) == (str(who.id), None)


def test_every_verdict_has_words(town: Town) -> None:
    assert set(matching.MESSAGES) >= matching.NOBODY
    assert all(message.endswith(".") for message in matching.MESSAGES.values())


def test_everybody_has_a_place_after_a_match_and_twice_is_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, is_historical=True)
        rules = matching.Rules(
            round=made,
            policy=policy.shipped(),
            informants=("self", "parent"),
            other_rounds=(),
            now=db.now(session),
            makes_places=True,
        )
        rows = pl.DataFrame(
            {"key": [0, 1, 2], "student_number": ["A001", "A003", "nobody"]}, schema_overrides={"key": pl.UInt32}
        ).with_columns(school_code=pl.lit(None, pl.String), student_name=pl.lit(None, pl.String))
        matching.begin(session)
        for makes_places in itertools.repeat(True, 2):
            matching.match(session, rows, dataclasses.replace(rules, makes_places=makes_places))
    places = sending.rows(
        cast.database, cast.scope, "select student_id, informant from assignments where district_id = :district"
    )
    student = cast.students.granted_13.id
    assert {(place["student_id"], place["informant"]) for place in places} == {(student, "self"), (student, "parent")}
    assert len(places) == 2


def test_ages_are_completed_years_at_the_rounds_start(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session, opens_at=db.now(session).replace(year=2026, month=9, day=1))
        rules = matching.Rules(made, policy.shipped(), ("self",), (), db.now(session), False)
        rows = pl.DataFrame(
            {"key": [0, 1, 2], "student_number": ["A001", "A007", "A009"]}, schema_overrides={"key": pl.UInt32}
        ).with_columns(school_code=pl.lit(None, pl.String), student_name=pl.lit(None, pl.String))
        matching.begin(session)
        found = matching.match(session, rows, rules)
    assert found.get_column("age").to_list() == [13, 16, None]
    assert found.get_column("prior_tier").to_list() == [0, 0, 0]
