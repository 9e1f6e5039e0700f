"""Coverage: counted in the database, counted again in plain Python, and the statistics made of it."""

import datetime as dt
import random
import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from screening import coverage, rounds
from screening.access import Scope
from screening.coverage import Figures
from screening.db import Database
from screening.errors import NotFound, Refused
from screening.models import (
    Administration,
    Assignment,
    Consent,
    CoverageRelease,
    CoverageSummary,
    Opening,
    Result,
    Student,
)
from tests.cast import Cast
from tests.factories import make_district, make_round, make_school, system

AT = dt.datetime(2026, 9, 20, 4, tzinfo=dt.UTC)
FORMS = (("phq9", ("self",)), ("psc17", ("youth", "parent")))


@dataclass
class Child:
    """One made-up student of a round, as plainly as can be."""

    id: uuid.UUID
    school: uuid.UUID
    grade: int
    sex: str
    born_month: dt.date | None
    consents: list[tuple[dt.datetime, str, str]]
    informants: list[str]
    is_exempt: bool
    answers: int
    results: list[tuple[int, str]]
    assignment_ids: list[uuid.UUID] = field(default_factory=list)


@dataclass
class Made:
    """A district with one round that is full of made-up students."""

    database: Database
    scope: Scope
    round_id: uuid.UUID
    schools: list[uuid.UUID]
    planned: set[uuid.UUID]
    children: list[Child]


def make_children(draw: random.Random, schools: list[uuid.UUID], count: int) -> list[Child]:
    children = []
    for _ in range(count):
        decided = [
            (AT + dt.timedelta(days=draw.choice([-9, -5, -2, 3])), draw.choice(["guardian", "student"]), decision)
            for decision in draw.choices(
                ["granted", "declined", "withdrawn"], [8, 1, 1], k=draw.choice([0, 1, 1, 2, 3])
            )
        ]
        answers = draw.choice([0, 1, 1, 2])
        born = dt.date(2026 - draw.randint(12, 16), draw.randint(1, 12), 1)
        children.append(
            Child(
                id=uuid.UUID(int=draw.getrandbits(128), version=4),
                school=draw.choice(schools),
                grade=draw.randint(7, 9),
                sex=draw.choice("ffmmx"),
                born_month=None if draw.random() < 0.1 else born,
                # at one instant a giver says one thing
                consents=list({(at, giver): (at, giver, decision) for at, giver, decision in decided}.values()),
                informants=draw.choice([["self"], ["self"], ["self", "parent"]]),
                is_exempt=draw.random() < 0.1,
                answers=answers,
                results=[
                    (draw.choices(range(4), [8, 3, 2, 1])[0], draw.choice(["valid", "valid", "suspect", "invalid"]))
                    for _ in range(draw.choice([1, 1, 2, 4]) if answers else 0)
                ],
            )
        )
    return children


def make_round_full(database: Database, seed: int, *, schools: int = 3, children: int = 300) -> Made:
    draw = random.Random(seed)  # noqa: S311 - made-up children
    scope = Scope(make_district(database).id)
    with database.unit(scope) as session:
        places = [make_school(session).id for _ in range(schools)]
        screened = make_round(session, instruments=FORMS, grades=(7, 8, 9))
        round_id, rule_set = screened.id, screened.rule_set_id
        planned = set(places[2:3])
        session.execute(
            update(Opening).where(Opening.round_id == round_id, Opening.school_id.in_(planned)).values(state="planned")
        )
        made = make_children(draw, places, children)
        put(session, scope.district_id, round_id, rule_set, made)
    return Made(database, scope, round_id, places, planned, made)


def put(session: Any, district: uuid.UUID, round_id: uuid.UUID, rule_set: uuid.UUID, children: list[Child]) -> None:
    """Writes the children as they are, past the house's verbs: several informants, revisions and decisions each."""
    rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for child in children:
        base = {"district_id": district, "school_id": child.school}
        of_round = base | {"round_id": round_id, "student_id": child.id}
        rows[Student].append(base | {"id": child.id, "sex": child.sex, "born_month": child.born_month})
        for at, giver, decision in child.consents:
            rows[Consent].append(
                base
                | {"id": uuid.uuid4(), "student_id": child.id, "decision": decision, "given_by": giver}
                | {"notice_version": "1", "channel": "paper", "decided_at": at}
            )
        for informant in child.informants:
            child.assignment_ids.append(uuid.uuid4())
            reason = "health" if child.is_exempt else None
            rows[Assignment].append(
                of_round
                | {"informant": informant, "id": child.assignment_ids[-1], "grade": child.grade}
                | {"class_name": "1", "exempt_reason": reason}
            )
        for attempt in range(child.answers):
            rows[Administration].append(
                of_round
                | {"informant": "self", "instrument": "phq9", "attempt": attempt + 1, "answers": [0] * 9}
                | {"status": "scored", "missing_count": 0, "scores": [0.0]}
            )
        for revision, (tier, validity) in enumerate(child.results, start=1):
            rows[Result].append(
                of_round
                | {"revision": revision, "tier": tier, "validity": validity, "reasons": [], "forms": []}
                | {"prior_tier": 0, "rule_set_id": rule_set}
            )
    for model, of_model in rows.items():
        session.execute(insert(model), of_model)


# -- the independent count ----------------------------------------------------------------------------


def has_consent(child: Child) -> tuple[bool, bool]:
    """(in force, refused) by the policy's words: who refuses is obeyed; under 14 the guardian must have granted."""
    latest: dict[str, str] = {}
    for at, giver, decision in sorted(child.consents):
        if at <= AT:
            latest[giver] = decision
    is_refused = any(decision != "granted" for decision in latest.values())
    of_age = child.born_month is not None and fourteen(child.born_month) <= AT.date()
    is_granted = latest.get("guardian") == "granted" or (of_age and latest.get("student") == "granted")
    return is_granted and not is_refused, is_refused


def fourteen(born_month: dt.date) -> dt.date:
    """The first of the month after the birthday's month."""
    months = born_month.year * 12 + born_month.month - 1 + 14 * 12 + 1
    return dt.date(months // 12, months % 12 + 1, 1)


def count(made: Made, **only: Any) -> Figures:
    counts = dict.fromkeys(Figures.__dataclass_fields__, 0)
    for child in made.children:
        if any(getattr(child, name) != value for name, value in only.items()):
            continue
        in_force, is_refused = has_consent(child)
        is_exempt = child.is_exempt and not child.answers
        counts["enrolled"] += 1
        counts["exempt"] += is_exempt
        counts["consented"] += in_force and not is_exempt
        counts["declined"] += is_refused and not is_exempt
        counts["invited"] += in_force and not is_exempt and child.school not in made.planned
        counts["submitted"] += child.answers > 0
        if child.results:
            tier, validity = child.results[-1]
            counts[validity] += 1
            if tier or validity != "invalid":
                counts[("tier_none", "tier_yellow", "tier_orange", "tier_red")[tier]] += 1
    return Figures(**counts)


def recount(made: Made, schools: list[uuid.UUID] | None = None) -> None:
    with made.database.unit(made.scope) as session:
        coverage.recount(session, made.round_id, schools, AT)


# -- counting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["the whole round", "students sought", "the whole round read for a school"])
def test_counts_agree_with_a_plain_count(database: Database, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_round_full(database, len(way))
    if way == "the whole round read for a school":
        monkeypatch.setattr(coverage, "_worth_seeking", lambda *_: 0.0)
    for schools in [None] if way == "the whole round" else [[school] for school in made.schools]:
        recount(made, schools)
    with database.unit(made.scope) as session:
        (whole,) = coverage.funnel(session, made.round_id)
        assert whole.figures == count(made)
        for row in coverage.funnel(session, made.round_id, "school"):
            assert row.figures == count(made, school=row.school_id)
        for row in coverage.funnel(session, made.round_id, "grade"):
            assert row.figures == count(made, grade=row.grade)
        for row in coverage.funnel(session, made.round_id, "sex"):
            assert row.figures == count(made, sex=row.sex)
        rows = coverage.funnel(session, made.round_id, "school_grade")
        assert len(rows) == 9
        for row in rows:
            assert row.figures == count(made, school=row.school_id, grade=row.grade)


def test_counting_twice_changes_nothing_and_a_line_without_students_goes(database: Database) -> None:
    made = make_round_full(database, 7, children=40)
    recount(made)
    recount(made)
    with database.unit(made.scope) as session:
        assert coverage.funnel(session, made.round_id)[0].figures == count(made)
        session.execute(update(Assignment).where(Assignment.round_id == made.round_id).values(grade=8))
    for child in made.children:
        child.grade = 8
    recount(made, made.schools[:1])
    recount(made, made.schools[1:])
    with database.unit(made.scope) as session:
        (eighth,) = coverage.funnel(session, made.round_id, "grade")
        assert (eighth.grade, eighth.figures) == (8, count(made))


def test_a_school_recounts_its_own_part_in_its_own_scope(database: Database) -> None:
    made = make_round_full(database, 8, children=60)
    recount(made)
    own = Scope(made.scope.district_id, frozenset(made.schools[:1]))
    with database.unit(own) as session:
        coverage.recount(session, made.round_id, None, AT)
        (mine,) = coverage.funnel(session, made.round_id, "school")
        assert (mine.school_id, mine.figures) == (made.schools[0], count(made, school=made.schools[0]))
    with database.unit(made.scope) as session:
        assert coverage.funnel(session, made.round_id)[0].figures == count(made)


def test_a_student_with_places_at_two_schools_is_counted_at_the_first(database: Database) -> None:
    made = make_round_full(database, 9, children=30)
    mover = next(child for child in made.children if child.informants == ["self"])
    there = next(school for school in made.schools if school != mover.school)
    with database.unit(made.scope) as session:
        session.execute(
            insert(Assignment).values(
                district_id=made.scope.district_id,
                round_id=made.round_id,
                student_id=mover.id,
                informant="teacher",
                school_id=there,
                grade=mover.grade,
                created_at=dt.datetime(2100, 1, 1, tzinfo=dt.UTC),
            )
        )
    recount(made, [there])
    recount(made, [mover.school])
    with database.unit(made.scope) as session:
        for row in coverage.funnel(session, made.round_id, "school"):
            assert row.figures == count(made, school=row.school_id)


def test_of_two_counts_at_once_the_later_sees_what_the_earlier_did_not(database: Database) -> None:
    made = make_round_full(database, 10, children=30)
    late = next(child for child in made.children if not child.answers and not child.is_exempt)
    with database.unit(made.scope) as session:
        coverage.recount(session, made.round_id, None, AT)
        late.answers, late.results = 1, [(3, "valid")]
        with database.unit(made.scope) as other:
            place = {"district_id": made.scope.district_id, "round_id": made.round_id, "student_id": late.id}
            place |= {"school_id": late.school}
            form = {"informant": "self", "instrument": "phq9", "answers": [3] * 9, "status": "scored"}
            other.execute(insert(Administration).values(**place, **form, missing_count=0, scores=[27.0]))
            rule_set = rounds.get(other, made.round_id).rule_set_id
            found = {"tier": 3, "validity": "valid", "reasons": [], "forms": [], "prior_tier": 0}
            other.execute(insert(Result).values(**place, **found, revision=1, rule_set_id=rule_set))
        waiting = threading.Thread(target=recount, args=(made,))
        waiting.start()
    waiting.join(timeout=30)
    with database.unit(made.scope) as session:
        assert coverage.funnel(session, made.round_id)[0].figures == count(made)


def test_an_unknown_round_has_no_figures(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session, pytest.raises(NotFound):
        coverage.funnel(session, uuid.uuid4())


def test_a_round_nobody_is_in_has_figures_of_nobody_and_no_rates(database: Database) -> None:
    made = make_round_full(database, 11, children=1)
    with database.unit(made.scope) as session:
        (nobody,) = coverage.funnel(session, made.round_id)
        assert nobody.figures == Figures()
        assert nobody.figures.valid_coverage is None
        assert coverage.funnel(session, made.round_id, "school") == []


# -- who is outstanding -------------------------------------------------------------------------------


def test_the_outstanding_are_those_whom_the_figures_miss(database: Database) -> None:
    made = make_round_full(database, 12)
    recount(made)
    with database.unit(made.scope) as session:
        for row in coverage.funnel(session, made.round_id, "school"):
            assert row.school_id is not None
            missing = coverage.outstanding(session, made.round_id, row.school_id)
            assert len(missing) == row.figures.eligible - row.figures.submitted
            expected = [c for c in made.children if c.school == row.school_id and not c.answers and not c.is_exempt]
            assert {m.student_id: (m.grade, set(m.assignment_ids)) for m in missing} == {
                c.id: (c.grade, set(c.assignment_ids)) for c in expected
            }


# -- rates --------------------------------------------------------------------------------------------


def test_rates_follow_their_formulas() -> None:
    school = Figures(
        enrolled=110, exempt=10, consented=80, declined=5, invited=80, submitted=60, valid=50, suspect=4, invalid=6,
        tier_none=40, tier_yellow=10, tier_orange=6, tier_red=4,
    )  # fmt: skip
    rates = {
        "consent_rate": (80, 100),
        "decline_rate": (5, 100),
        "invited_rate": (80, 80),
        "response_rate": (60, 80),
        "valid_coverage": (54, 100),
        "completion_rate": (60, 100),
        "invalid_rate": (6, 60),
        "yellow_rate": (10, 54),
        "orange_rate": (6, 54),
        "red_rate": (4, 54),
    }
    for name, (part, whole) in rates.items():
        found = getattr(school, name)
        assert (found.part, found.whole, found.value) == (part, whole, part / whole)
    assert school.unanswered == 15


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        # Newcombe (1998), Two-sided confidence intervals for the single proportion, Table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_wilsons(part: int, whole: int, low: float, high: float) -> None:
    found = coverage.rate(part, whole)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_share_over_nobody_is_none() -> None:
    assert coverage.rate(0, 0) is None


# -- statistics ---------------------------------------------------------------------------------------

ON = dt.date(2026, 9, 30)


def test_a_release_is_made_once_for_a_date(database: Database) -> None:
    made = make_round_full(database, 13, children=600)
    recount(made)
    with database.unit(made.scope) as session:
        first = coverage.release(session, made.round_id, ON, by=system(session)).tables
        session.execute(update(CoverageSummary).where(CoverageSummary.round_id == made.round_id).values(enrolled=999))
    with database.unit(made.scope) as session:
        assert coverage.release(session, made.round_id, ON, by=system(session)).tables == first
        lines = session.execute(text("select count(*) from audit_entries where action = 'coverage.released'"))
        assert lines.scalar_one() == 1


def test_statistics_are_of_the_release_and_not_of_the_moment(database: Database) -> None:
    made = make_round_full(database, 14, children=600)
    recount(made)
    with database.unit(made.scope) as session:
        with pytest.raises(NotFound):
            coverage.released(session, made.round_id)
        coverage.release(session, made.round_id, ON, by=system(session))
        (district,) = coverage.released(session, made.round_id).rows
        assert district.counts["enrolled"] == 600
        true = count(made)
        assert district.counts["submitted"] == 5 * round(true.submitted / 5)
        schools = coverage.released(session, made.round_id, by="school", on=ON)
        assert (schools.on, schools.k, {row.school for row in schools.rows}) == (ON, 10, set(made.schools))
        with pytest.raises(NotFound):
            coverage.released(session, made.round_id, on=ON + dt.timedelta(days=1))


def test_a_later_release_stands_on_the_one_before(database: Database) -> None:
    made = make_round_full(database, 15, children=600)
    recount(made)
    with database.unit(made.scope) as session:
        coverage.release(session, made.round_id, ON, by=system(session))
        (before,) = coverage.released(session, made.round_id).rows
        session.execute(
            update(CoverageSummary)
            .where(CoverageSummary.round_id == made.round_id, CoverageSummary.school_id == made.schools[0])
            .where(CoverageSummary.grade == 7, CoverageSummary.sex == "f")
            .values(tier_none=CoverageSummary.tier_none + 6, submitted=CoverageSummary.submitted + 6)
        )
        coverage.release(session, made.round_id, ON + dt.timedelta(days=7), by=system(session))
        (after,) = coverage.released(session, made.round_id).rows
    assert after.counts["none"] is not None
    assert after.counts == before.counts


def test_a_release_in_the_past_or_of_a_part_is_refused(database: Database) -> None:
    made = make_round_full(database, 16, children=30)
    recount(made)
    with database.unit(made.scope) as session:
        coverage.release(session, made.round_id, ON, by=system(session))
        with pytest.raises(Refused, match="later date"):
            coverage.release(session, made.round_id, ON - dt.timedelta(days=1), by=system(session))
    own = Scope(made.scope.district_id, frozenset(made.schools[:1]))
    with database.unit(own) as session, pytest.raises(Refused, match="whole district"):
        coverage.release(session, made.round_id, ON, by=system(session))


def test_two_releases_at_once_are_one(database: Database) -> None:
    made = make_round_full(database, 17, children=60)
    recount(made)

    def publish() -> None:
        with database.unit(made.scope) as session:
            coverage.release(session, made.round_id, ON, by=system(session))

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    with database.unit(made.scope) as session:
        stored = session.scalars(select(CoverageRelease).where(CoverageRelease.round_id == made.round_id)).all()
        assert len(stored) == 1
