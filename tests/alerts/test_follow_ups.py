"""Contacts that were promised: planned, due on their day, overdue past their time, done or missed."""

import datetime as dt

import pytest
from sqlalchemy import text

from alerts import cases, follow_ups
from alerts.models import FollowUp
from screening.errors import NotFound, Refused
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, in_case, in_unit, race
from tests.cast import Cast

DAY = 24 * HOUR


@pytest.mark.parametrize(("tier", "days"), [(RED, 3), (ORANGE, 14), (YELLOW, 28)])
def test_the_policy_says_by_when_the_next_contact_is(cast: Cast, tier: int, days: int) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, tier, cast.an)
        promised = follow_ups.plan(session, case.id, "meeting", by=cast.an, now=MONDAY)
        assert promised.due_at == MONDAY + days * DAY
        assert cases.get(session, case.id).state == "follow_up"


def test_a_contact_falls_due_on_its_day_where_the_school_is(cast: Cast) -> None:
    due_at = dt.datetime(2026, 9, 9, 1, 0, tzinfo=dt.UTC)  # nine in the morning of the 9th in Shanghai
    with cast.database.unit(cast.scope) as session:
        promised = planned(cast, session, due_at)
        assert follow_ups.fall_due(session, now=due_at - dt.timedelta(hours=9, minutes=1)) == 0
        assert state(session, promised) == "planned"
        assert follow_ups.fall_due(session, now=due_at - 9 * HOUR) == 1
        assert state(session, promised) == "due"
        assert follow_ups.fall_due(session, now=due_at - 9 * HOUR) == 0
        assert follow_ups.fall_due(session, now=due_at) == 0
        assert follow_ups.fall_due(session, now=due_at + dt.timedelta(seconds=1)) == 1
        assert state(session, promised) == "overdue"
        assert follow_ups.is_overdue(promised, due_at + HOUR)
        assert follow_ups.fall_due(session, now=due_at + 9 * DAY) == 0


def test_after_an_outage_a_planned_contact_is_overdue_at_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        promised = planned(cast, session, MONDAY + DAY)
        assert follow_ups.fall_due(session, now=MONDAY + 30 * DAY) == 1
        assert state(session, promised) == "overdue"


def test_two_workers_make_it_overdue_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        promised = planned(cast, session, MONDAY + DAY)
    came = race(*[in_unit(cast, follow_ups.fall_due, now=MONDAY + 2 * DAY)] * 4)
    assert sum(moved for moved in came if isinstance(moved, int)) == 1
    with cast.database.unit(cast.scope) as session:
        lines = "select count(*) from audit_entries where action = 'follow_up.overdue' and subject_id = :id"
        assert session.execute(text(lines), {"id": str(promised.id)}).scalar_one() == 1


def test_an_overdue_contact_is_still_done(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        promised = planned(cast, session, MONDAY + DAY)
        follow_ups.fall_due(session, now=MONDAY + 2 * DAY)
        done = follow_ups.done(session, promised.id, "Found her.", by=cast.bo, now=MONDAY + 2 * DAY)
        again = follow_ups.done(session, promised.id, "Found her.", by=cast.bo, now=MONDAY + 3 * DAY)
        assert (again.state, again.ended_at, again.id) == ("done", MONDAY + 2 * DAY, done.id)
        assert b"Found" not in (done.sealed_note or b"")
        assert follow_ups.fall_due(session, now=MONDAY + 9 * DAY) == 0


def test_done_by_one_and_missed_by_another_at_once_is_one_of_both(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        promised = planned(cast, session, MONDAY + DAY)
    came = race(
        in_unit(cast, follow_ups.done, promised.id, "Talked.", by=cast.an, now=MONDAY),
        in_unit(cast, follow_ups.missed, promised.id, "not_reached", by=cast.bo, now=MONDAY),
    )
    (won,) = [made for made in came if isinstance(made, FollowUp)]
    (lost,) = [error for error in came if isinstance(error, cases.TakenByAnother)]
    assert lost.winner == won.ended_by


def test_a_missed_contact_says_why(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        promised = planned(cast, session, MONDAY + DAY)
        with pytest.raises(Refused):
            follow_ups.missed(session, promised.id, "no time", by=cast.an, now=MONDAY)
        missed = follow_ups.missed(session, promised.id, "student_absent", by=cast.an, now=MONDAY)
        assert (missed.state, missed.missed_reason) == ("missed", "student_absent")


def test_nothing_is_promised_for_the_past_or_in_an_unknown_way(cast: Cast) -> None:
    with cast.database.unit(cast.scope_a) as session:
        case = in_case(session, cast.students.granted_13, YELLOW, cast.an)
        with pytest.raises(Refused):
            follow_ups.plan(session, case.id, "meeting", due_at=MONDAY, by=cast.an, now=MONDAY)
        with pytest.raises(Refused):
            follow_ups.plan(session, case.id, "letter", by=cast.an, now=MONDAY)


def test_another_schools_follow_up_is_not_there(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        promised = planned(cast, session, MONDAY + DAY)
    with cast.database.unit(cast.scope_b) as session, pytest.raises(NotFound):
        follow_ups.done(session, promised.id, "Hm.", by=cast.chen, now=MONDAY)


def planned(cast: Cast, session, due_at: dt.datetime) -> FollowUp:  # type: ignore[no-untyped-def]
    case = in_case(session, cast.students.granted_13, ORANGE, cast.an)
    return follow_ups.plan(session, case.id, "meeting", due_at=due_at, by=cast.an, now=MONDAY)


def state(session, follow_up: FollowUp) -> str:  # type: ignore[no-untyped-def]
    session.refresh(follow_up)
    return follow_up.state
