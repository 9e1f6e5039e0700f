"""Students of special groups are looked at once a term, and membership alone rings nobody."""

import datetime as dt
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from alerts import check_ins, escalation, triage
from alerts.cases import TakenByAnother
from screening.errors import NotFound, Refused
from screening.models import SpecialGroup, Student
from tests.alerts.episodes import HOUR, MONDAY, YELLOW, in_case
from tests.alerts.moving import move
from tests.cast import Cast

DAY = 24 * HOUR


def left_behind(session: Session, student: Student) -> None:
    session.add(
        SpecialGroup(
            district_id=student.district_id,
            id=uuid.uuid4(),
            student_id=student.id,
            school_id=student.school_id,
            group_code="left_behind",
            since_on=dt.date(2026, 9, 1),
        )
    )
    session.flush()


def test_membership_plans_a_look_once_a_term_and_raises_nothing(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        left_behind(session, cast.students.granted_13)
        assert check_ins.plan_due(session, now=MONDAY) == 1
        assert check_ins.plan_due(session, now=MONDAY) == 0
        (planned,) = check_ins.listed(session)
        assert planned.due_on == MONDAY.date() + dt.timedelta(days=14)
        assert triage.queue(session) == []
        check_ins.end(session, planned.id, "well", by=cast.an, now=MONDAY + DAY)
        assert check_ins.plan_due(session, now=MONDAY + 80 * DAY) == 0
        assert check_ins.plan_due(session, now=MONDAY + 92 * DAY) == 1


def test_who_was_not_reached_is_looked_for_again_and_who_is_in_a_case_is_looked_at_there(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        left_behind(session, cast.students.granted_13)
        left_behind(session, cast.students.granted_17)
        in_case(session, cast.students.granted_17, YELLOW, cast.an)
        assert check_ins.plan_due(session, now=MONDAY) == 1
        (planned,) = check_ins.listed(session)
        check_ins.end(session, planned.id, "not_reached", by=cast.an, now=MONDAY + DAY)
        assert check_ins.plan_due(session, now=MONDAY + 2 * DAY) == 1


def test_it_goes_along_to_another_school_and_only_those_who_care_there_end_it(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        left_behind(session, cast.students.granted_13)
        check_ins.plan_due(session, now=MONDAY)
        move(session, cast.students.granted_13, cast.school_b, by=cast.district_admin)
        (planned,) = check_ins.listed(session)
        assert planned.school_id == cast.school_b.id
        for who in (cast.an, cast.principal, cast.district_admin):
            with pytest.raises(NotFound):
                check_ins.end(session, planned.id, "well", by=who, now=MONDAY)
        with pytest.raises(Refused):
            check_ins.end(session, planned.id, "fine", by=cast.chen, now=MONDAY)
        first = check_ins.end(session, planned.id, "well", by=cast.chen, now=MONDAY)
        assert check_ins.end(session, planned.id, "well", by=cast.chen, now=MONDAY + HOUR).ended_at == first.ended_at
        with pytest.raises(TakenByAnother):
            check_ins.end(session, planned.id, "support_offered", by=cast.chen, now=MONDAY)


def test_a_look_whose_last_day_is_over_is_told_to_the_lead_once(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        left_behind(session, cast.students.granted_13)
        check_ins.plan_due(session, now=MONDAY)
        (planned,) = check_ins.listed(session)
        midnight = dt.datetime.combine(planned.due_on + DAY, dt.time(), session.info["timezone"])
        assert escalation.escalate(session, now=midnight - dt.timedelta(seconds=1)) == 0
        assert escalation.escalate(session, now=midnight) == 1
        assert escalation.escalate(session, now=midnight + 30 * DAY) == 0
        told = session.execute(
            text("select recipient_id, urgency from deliveries where subject_id = :id"), {"id": planned.id}
        ).all()
        assert [tuple(row) for row in told] == [(cast.lead.person, "overdue")]


def test_a_look_that_was_done_in_time_is_told_to_nobody(cast: Cast) -> None:
    with cast.database.unit(cast.scope) as session:
        left_behind(session, cast.students.granted_13)
        check_ins.plan_due(session, now=MONDAY)
        (planned,) = check_ins.listed(session)
        check_ins.end(session, planned.id, "well", by=cast.an, now=MONDAY + DAY)
        assert escalation.escalate(session, now=MONDAY + 30 * DAY) == 0
