"""The individual plan: whole or not at all, by versions, and never changed behind its writer's back."""

import dataclasses
import datetime as dt

import pytest
from sqlalchemy import text

from alerts import cases, plans
from screening.errors import Conflict, NotFound, Refused
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, in_case, in_unit, race
from tests.cast import Cast

REVIEW = dt.date(2026, 10, 1)
CONTENT = plans.Content(
    goals=("She sleeps through.",),
    actions=(plans.Action("Talk each Monday", "counselor", dt.date(2026, 9, 21)),),
    knows=(plans.Knows("class_teacher", "Let her leave the room when she asks."),),
)


def test_each_writing_is_a_version_and_those_before_stay(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        known = {"owner": cast.an.person, "review_on": REVIEW, "now": MONDAY}
        first = plans.write(session, case.id, CONTENT, by=cast.an, **known)  # type: ignore[arg-type]
        same = plans.write(session, case.id, CONTENT, by=cast.bo, **known)  # type: ignore[arg-type]
        more = dataclasses.replace(CONTENT, goals=(*CONTENT.goals, "She eats with others."))
        second = plans.write(session, case.id, more, by=cast.bo, after=1, **known)  # type: ignore[arg-type]
        assert (first.id, first.version, second.version) == (same.id, 1, 2)
        assert [plans.read(session, each) for each in plans.versions(session, case.id)] == [CONTENT, more]
        assert cases.get(session, case.id).state == "plan_active"
        stored = session.execute(text("select sealed from plans")).scalars()
        assert all(b"sleeps" not in bytes(each) for each in stored)


def test_everything_that_is_missing_is_said_at_once(cast: Cast) -> None:
    empty = plans.Content((), (), (plans.Knows("everybody", "All."),))
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        with pytest.raises(Refused) as refused:
            plans.write(session, case.id, empty, owner=cast.an.person, review_on=MONDAY.date(), by=cast.an, now=MONDAY)
    assert {problem.column for problem in refused.value.problems} == {"goals", "actions", "knows", "review_on"}


def test_of_two_who_write_after_the_same_version_one_is_told(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
    others = [dataclasses.replace(CONTENT, goals=(goal,)) for goal in ("One.", "Two.")]
    came = race(
        *(
            in_unit(
                cast, plans.write, case.id, each, owner=by.person, review_on=REVIEW, by=by, now=MONDAY + HOUR, after=0
            )
            for each, by in zip(others, (cast.an, cast.bo), strict=True)
        )
    )
    assert sorted(type(each).__name__ for each in came) == ["Conflict", "Plan"]
    assert isinstance(next(each for each in came if isinstance(each, Exception)), Conflict)


@pytest.mark.parametrize("who", ["principal", "chen", "duty_officer", "school_admin_a"])
def test_only_those_who_care_at_the_school_write_a_plan(cast: Cast, who: str) -> None:
    by = getattr(cast, who)
    with cast.database.unit(cast.scope) as session:
        case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
        with pytest.raises(NotFound):
            plans.write(session, case.id, CONTENT, owner=by.person, review_on=REVIEW, by=by, now=MONDAY)
