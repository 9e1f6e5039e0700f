"""Whom care reached, counted on a small story whose truth is known."""

import datetime as dt

import pytest
from sqlalchemy import text

from alerts import cases, follow_ups, outcomes, triage
from tests.alerts.episodes import HOUR, MONDAY, ORANGE, RED, YELLOW, family_told, in_case, look, ring, talk
from tests.cast import Cast
from tests.factories import make_round

DAY = 24 * HOUR
MINUTE = dt.timedelta(minutes=1)


def test_nothing_raised_has_no_shares(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        empty = outcomes.funnel(session, at=MONDAY)
    assert (empty.raised, empty.overdue, empty.hours_to_contact) == (0, 0, None)
    shares = (empty.answered_in_time_share, empty.seen_in_time_share, empty.closed_loop_share)
    assert (*shares, empty.follow_ups_on_time_share) == (None, None, None, None)


def test_a_story_is_counted_as_it_happened(cast: Cast) -> None:
    people = cast.students
    with cast.database.unit(cast.scope) as session:
        # a red: answered in time, seen late, its case closed after an interview and a contact on time
        red = ring(session, people.granted_17, RED)
        triage.acknowledge(session, red.id, by=cast.an, now=MONDAY + 10 * MINUTE)
        made = look(session, red.id, "case_opened", by=cast.an, at=MONDAY + 2 * HOUR)
        case = cases.get(session, made.case_id)
        talk(session, case, cast.an, at=MONDAY + 3 * HOUR)
        family_told(session, case, cast.an, at=MONDAY + 3 * HOUR)
        kept = follow_ups.plan(session, case.id, "phone", due_at=MONDAY + DAY, by=cast.an, now=MONDAY + 3 * HOUR)
        follow_ups.done(session, kept.id, "Well.", by=cast.an, now=MONDAY + DAY / 2)
        cases.propose_closure(session, case.id, "resolved", "Well.", by=cast.an, now=MONDAY + 2 * DAY)
        cases.confirm_closure(session, case.id, by=cast.lead, now=MONDAY + 2 * DAY)
        # an orange: case still open, one contact missed, one overdue
        orange = in_case(session, people.granted_13, ORANGE, cast.an)
        lost = follow_ups.plan(session, orange.id, "phone", due_at=MONDAY + DAY, by=cast.an, now=MONDAY)
        follow_ups.missed(session, lost.id, "not_reached", by=cast.an, now=MONDAY + DAY)
        follow_ups.plan(session, orange.id, "phone", due_at=MONDAY + 2 * DAY, by=cast.an, now=MONDAY)
        # a yellow: ended after a call; another red: answered by nobody
        yellow = ring(session, people.own_grant_15, YELLOW)
        triage.acknowledge(session, yellow.id, by=cast.an, now=MONDAY)
        look(session, yellow.id, "monitor", by=cast.an, contact="phone", is_student_seen=False)
        ring(session, people.in_school_b, RED)

        seen = outcomes.funnel(session, at=MONDAY + 6 * DAY)
        early = outcomes.funnel(session, at=MONDAY + HOUR / 3)
    with cast.database.unit(cast.scope_b) as session:
        of_school_b = outcomes.funnel(session, at=MONDAY + 6 * DAY)
    assert (seen.raised, seen.raised_red, seen.raised_orange, seen.raised_yellow) == (4, 2, 1, 1)
    assert (seen.answered_in_time, seen.answer_elapsed) == (3, 4)
    assert (seen.seen_in_time, seen.see_elapsed, seen.seen) == (1, 3, 2)
    assert seen.hours_to_contact == pytest.approx(1.0)
    assert (seen.cases_opened, seen.cases_closed, seen.loops_closed) == (2, 1, 2)
    assert seen.closed_loop_share == 0.5
    assert (seen.follow_ups_due, seen.follow_ups_on_time) == (3, 1)
    assert (seen.follow_ups_done, seen.follow_ups_missed) == (1, 1)
    assert (seen.overdue_under_3_days, seen.overdue_3_to_7_days, seen.overdue_over_7_days) == (0, 1, 0)
    assert (early.raised, early.cases_closed, early.loops_closed, early.answer_elapsed) == (4, 0, 1, 3)
    assert (of_school_b.raised, of_school_b.answered_in_time_share) == (1, 0.0)


def test_a_round_counts_its_own_alerts(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        this, other = make_round(session), make_round(session)
        ring(session, cast.students.granted_13, RED, round_id=this.id)
        ring(session, cast.students.granted_17, RED, round_id=other.id)
        in_case(session, cast.students.own_grant_15, YELLOW, cast.an)
        assert outcomes.funnel(session, this.id, at=MONDAY).raised == 1
        assert outcomes.funnel(session, this.id, at=MONDAY).cases_opened == 0
        assert outcomes.funnel(session, at=MONDAY).raised == 3


def test_the_figures_agree_with_plain_sql(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        for student in cast.students.all()[:6]:
            in_case(session, student, 1 + student.id.int % 3, cast.an)
        counted = outcomes.funnel(session, at=MONDAY + DAY)
        alerts, opened = session.execute(
            text("select (select count(*) from alerts), (select count(*) from cases)")
        ).one()
    assert (counted.raised, counted.cases_opened) == (alerts, opened)
