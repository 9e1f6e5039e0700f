"""Were the alerts right: counted on a story whose truth is known, and shielded where there are few."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy.orm import Session

from alerts import cases, interviews, triage, yields
from alerts.yields import Yield
from screening.models import Student
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, YELLOW, look, ring, talk
from tests.asking import TestClient
from tests.cast import Cast
from tests.doors import app_on, caller
from tests.factories import make_round, make_student

DAY = dt.timedelta(days=1)


def alert_of(session: Session, cast: Cast, student: Student, tier: int, **more: Any) -> Any:
    found = ring(session, student, tier, **more)
    triage.acknowledge(session, found.id, by=cast.an, now=MONDAY)
    return found


def test_each_rule_instrument_and_school_counts_what_people_found(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        round_id = make_round(session).id
        of_round: dict[str, Any] = {"round_id": round_id, "source": f"result/{round_id}/1"}

        def child() -> Student:
            return make_student(session, cast.school_a.id)

        confirmed = alert_of(session, cast, child(), ORANGE, **of_round)
        case = cases.get(session, look(session, confirmed.id, "case_opened", by=cast.an).case_id)
        talk(session, case, cast.an, at=MONDAY + HOUR)
        denied = alert_of(session, cast, child(), ORANGE, **of_round)
        case = cases.get(session, look(session, denied.id, "case_opened", by=cast.an).case_id)
        interviews.write(
            session,
            case.id,
            mode="meeting",
            is_student_seen=True,
            has_current_risk=False,
            is_concern_confirmed=False,
            words="A bad week, no more.",
            held_at=MONDAY + HOUR,
            by=cast.an,
            now=MONDAY + HOUR,
        )
        waiting = alert_of(session, cast, child(), ORANGE, **of_round)  # a case, and nobody has talked yet
        look(session, waiting.id, "case_opened", by=cast.an)
        ended = alert_of(session, cast, child(), YELLOW, **of_round)
        look(session, ended.id, "not_confirmed", by=cast.an)
        proposed = alert_of(session, cast, child(), ORANGE, **of_round)  # the second person's word is missing
        look(session, proposed.id, "not_confirmed", by=cast.an)
        ring(session, child(), YELLOW, **of_round | {"rule": "gad7_raised"})  # nobody looked
        ring(session, child(), YELLOW)  # of no round
        found = {by: yields.of_round(session, round_id, by) for by in yields.BY}
    assert found["rule"] == [
        Yield("phq9_high", 4, 2, 1),
        Yield("gad7_raised", 1, 0, 0),
        Yield("phq9_raised", 1, 1, 0),
    ]
    assert found["instrument"] == [Yield("phq9", 5, 3, 1), Yield("gad7", 1, 0, 0)]
    assert found["school"] == [Yield("A", 6, 3, 1)]
    assert found["rule"][1].rate is None


def test_an_interval_is_wilsons() -> None:
    rate = Yield("x", 60, 50, 20).rate
    assert rate is not None
    # by hand: p = .4, n = 50, z = 1.96
    assert (round(rate.low, 3), round(rate.high, 3)) == (0.276, 0.538)
    assert (rate.part, rate.whole) == (20, 50)


@pytest.mark.parametrize(
    ("raised", "settled", "confirmed", "wanted"),
    [
        (9, 9, 4, (None, None, None)),
        (60, 9, 4, (60, None, None)),
        (60, 55, 20, (60, None, None)),  # five that nobody looked into would be told by taking away
        (29, 29, 14, (29, 29, None)),  # too few for a rate
        (60, 60, 9, (60, 60, None)),
        (60, 60, 51, (60, 60, None)),
        (60, 60, 0, (60, 60, None)),
        (60, 60, 60, (60, 60, None)),
        (60, 50, 20, (60, 50, 20)),
    ],
)
def test_a_district_sees_no_few(raised: int, settled: int, confirmed: int, wanted: tuple[int | None, ...]) -> None:
    (seen,) = yields.shielded([Yield("x", raised, settled, confirmed)], 10)
    assert (seen.raised, seen.settled, seen.confirmed) == wanted
    assert seen.is_hidden == (None in wanted)
    assert (seen.rate is None) == (wanted[2] is None)


def test_another_schools_counselor_counts_her_own_only(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        round_id = make_round(session).id
        ring(session, cast.students.granted_13, ORANGE, round_id=round_id)
    with cast.database.unit(cast.scope_b) as session:
        assert yields.of_round(session, round_id, "school") == []
    with cast.database.unit(cast.scope_a) as session:
        assert [each.group for each in yields.of_round(session, round_id, "school")] == ["A"]


def test_a_lead_reads_what_came_of_her_schools_alerts_and_a_district_no_few(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        round_id = make_round(session).id
        ring(session, cast.students.granted_13, ORANGE, round_id=round_id)
        ring(session, cast.students.in_school_b, ORANGE, round_id=round_id)
    client = TestClient(app_on(cast.database))
    seen = {}
    for who in ("lead", "district_admin"):
        reader = caller(client, cast.database, getattr(cast, who))
        answer = reader.get(f"/v1/rounds/{round_id}/yield?by=school")
        assert answer.status_code == 200
        seen[who] = [(each["group"], each["raised"], each["is_hidden"]) for each in answer.json()["groups"]]
    assert seen["lead"] == [("A", 1, False)]
    assert seen["district_admin"] == [("A", None, True), ("B", None, True)]
    assert caller(client, cast.database, cast.an).get(f"/v1/rounds/{round_id}/yield").status_code == 403
