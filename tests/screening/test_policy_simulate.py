"""If another policy had ruled: what would be new, lost or moved, school by school, and never a red unseen."""

from pathlib import Path

import pytest

from screening import policy, simulating
from screening.models import Round
from screening.policy import Policy
from tests import sending
from tests.cast import Cast
from tests.factories import make_round
from tests.files import both, csv_of, phq9
from tests.sending import send

BODY = policy.shipped().body
RED_RULE = """[[rules]]
id = "phq9_self_harm_daily"
tier = "red"
"""


@pytest.fixture
def answered(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Round:
    """A red, an orange and a student without a concern at school A, a red at school B; one of them corrected."""
    sending.read_here(monkeypatch)
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
    send(cast, made.id, csv_of(both("A001", 1), both("A006", 3), phq9("A007", 0), phq9("B001", 3)))
    send(cast, made.id, csv_of(phq9("A007", 1, phq9_9=0)), is_correction=True)
    return made


def simulated(cast: Cast, made: Round, draft: Policy) -> simulating.Simulation:
    with cast.database.unit(cast.scope) as session:
        return simulating.simulate(session, made.id, draft)


def test_the_rounds_own_policy_moves_nothing(cast: Cast, answered: Round) -> None:
    found = simulated(cast, answered, policy.shipped())
    assert found.problems == ()
    assert [shift.school for shift in found.shifts] == ["A", "B"]
    for shift in found.shifts:
        assert (shift.new, shift.lost, shift.raised, shift.lowered, shift.reds_lost) == (0, 0, 0, 0, 0)
        assert (shift.alerts, shift.reds) == (shift.alerts_then, shift.reds_then)
    assert sum(shift.students for shift in found.shifts) == 4
    assert sum(shift.reds for shift in found.shifts) == 2


def test_a_red_that_would_be_lost_is_counted_where_it_is(cast: Cast, answered: Round) -> None:
    softer = BODY.replace(RED_RULE, RED_RULE.replace('"red"', '"orange"'))
    found = simulated(cast, answered, policy.parse(softer, "softer"))
    assert {shift.school: (shift.reds_lost, shift.lowered) for shift in found.shifts} == {"A": (1, 1), "B": (1, 1)}
    assert found.reds_lost == 2


def test_new_alerts_are_counted_too(cast: Cast, answered: Round) -> None:
    stricter = BODY.replace("when = 'phq9.total >= \"moderate\"'", "when = 'phq9.total >= \"mild\"'")
    assert stricter != BODY
    found = simulated(cast, answered, policy.parse(stricter, "stricter"))
    assert found.reds_lost == 0
    assert {shift.school: (shift.new, shift.lost) for shift in found.shifts} == {"A": (1, 0), "B": (0, 0)}


def test_a_name_that_the_battery_does_not_have_is_a_problem_and_no_answer(cast: Cast, answered: Round) -> None:
    wrong = BODY.replace('phq9.total >= "moderate"', 'phq9.total >= "moderately_bad"')
    found = simulated(cast, answered, policy.parse(wrong, "wrong"))
    assert found.shifts == ()
    assert [problem.code for problem in found.problems] == ["unknown_name"]
    assert "rules[" in str(found.problems[0].column)


def test_a_draft_that_no_longer_hears_self_harm_says_so(cast: Cast, answered: Round, tmp_path: Path) -> None:
    deaf = BODY.replace('when = "phq9.self_harm_daily"', 'when = "phq9.self_harm"')
    found = simulated(cast, answered, policy.parse(deaf, "deaf"))
    assert [problem.code for problem in found.problems] == ["critical_unheard"]


def test_a_round_without_answers_has_nothing_to_move(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        made = make_round(session)
        assert simulating.simulate(session, made.id, policy.shipped()) == simulating.Simulation((), ())
